"""Several outputs of one file: inside a ViT, or of a model of the user's own."""

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import export
import vit_keras
from export.evaluation import parity as measures
from export.evaluation.tools.integer_scan import float_islands
from export.flatbuffer.operators import read_operators
from export.graph import named_outputs
from export.graph.build import inference_graph
from export.report import read_report
from export.resolve import graph_options
from tests.export import stock
from tests.models import exported, slow_but
from vit_keras.preprocessing import normalize

FLOAT_DB = 80  # float32 in another order of sums, through a division by a root
BOTH = ("logits", "attention")
POOLINGS = {
    "token": {},
    "registers": {"num_register_tokens": 3},
    "distillation": {"distillation_token": True},
    "gap": {"pooling": "gap"},
    "fc_norm": {"pooling": "gap", "class_token": False, "fc_norm": True},
    "map": {"pooling": "map", "class_token": False},
    "hidden layer": {"representation_size": 8},
    "no head": {"include_top": False},
}


def attention_of(model, pixels):
    images = normalize(pixels, model.config.preprocessing)
    return vit_keras.attention_map(model, images, "attention", layer=-1, per_patch=True)


@pytest.mark.parametrize(
    ("name", "target"),
    slow_but(
        [
            *((name, "any") for name in ("token", "fc_norm", "map", "hidden layer")),
            *(("gap", "ethos_u85"), ("distillation", "cpu")),
        ],
        [
            *((name, "any") for name in POOLINGS),
            *((name, "ethos_u85") for name in ("token", "gap", "map")),
            ("distillation", "cpu"),
        ],
    ),
)
def test_the_graph_gives_what_keras_gives(name, target, pixels):
    """The softmax split or not, heads apart or not, for each pooling."""
    model = exported(**POOLINGS[name])
    names = named_outputs.names_of_outputs(model, "all") or ()
    graph = inference_graph(
        *(model, model.config.preprocessing, pixels[:2]),
        graph_options("int8", target),
        names=names,
    )
    found = graph.function(pixels[:2].astype("float32"))
    assert list(found) == list(names)
    images = normalize(pixels[:2], model.config.preprocessing)
    layer = {"features": "encoder_norm", "pooled": "pooling"}
    layer["pooled"] = {"fc_norm": "fc_norm", "hidden layer": "pre_logits"}.get(
        name, "pooling"
    )
    ends = {
        name: model.get_layer(layer[name]).output for name in names if name in layer
    }
    expected = {
        named_outputs.own_name(model): model(images),
        "attention": attention_of(model, pixels[:2]),
        **keras.Model(model.input, ends)(images),
    }
    for end in names:
        assert found[end].shape == expected[end].shape
        parity = measures.measure_parity(expected[end], found[end])
        assert parity.sqnr_db > FLOAT_DB, end
    assert np.sum(found["attention"], (1, 2)) == pytest.approx(1, abs=1e-4)


@pytest.fixture(scope="module")
def model():
    """One block: the graphs above have two."""
    return exported(num_layers=1)


@pytest.fixture(scope="module")
def made(model, pixels, tmp_path_factory):
    """A function of scheme and options: a file with `BOTH`, and its report."""

    def written(scheme, **options):
        path = tmp_path_factory.mktemp(scheme) / "m.tflite"
        options = {"outputs": BOTH, "calibration": pixels, **options}
        return path, export.to_tflite(model, path, scheme=scheme, **options)

    return written


def test_a_float_file_names_its_outputs(made, model, pixels):
    path, report = made("float32", labels=list("abcdefghij"))
    (signature,) = Interpreter(model_path=str(path)).get_signature_list().values()
    assert sorted(signature["outputs"]) == sorted(BOTH)
    runner = export.load(path)
    found = runner.all(pixels)
    assert list(found) == list(runner.output_shapes) == list(BOTH)
    np.testing.assert_array_equal(runner(pixels), found["logits"])
    assert runner.output_shape == (1, 10)
    expected = attention_of(model, pixels)
    np.testing.assert_allclose(found["attention"], expected, atol=1e-6)  # of 1/16
    shapes = {end.name: (end.dtype, end.shape) for end in report.outputs}
    assert shapes == {
        "logits": ("float32", (1, 10)),
        "attention": ("float32", (1, 4, 4)),
    }
    assert report.parity == report.outputs[0].parity
    assert report.outputs[1].parity.sqnr_db > FLOAT_DB
    assert read_report(path).outputs == report.outputs
    ends = export.read_metadata(path)["subgraph_metadata"][0]["output_tensor_metadata"]
    assert [end["name"] for end in ends] == list(BOTH)
    assert ["associated_files" in end for end in ends] == [True, False]
    parities = export.verify_outputs(model, path, pixels)
    assert list(parities) == list(BOTH)
    assert parities["attention"] == export.verify(
        model, path, pixels, output="attention"
    )
    assert export.verify(model, path, pixels) == parities["logits"]
    with pytest.raises(ValueError, match="artefact's, logits, attention"):
        export.verify(model, path, pixels, output="pooled")
    errors = export.verify_layers(model, path, pixels)
    assert any("attention_map" in error.name for error in errors)


# A softmax split, and whole.
@pytest.mark.parametrize("target", slow_but(("npu",), ("npu", "micro")))
def test_an_int8_file_stays_integer(target, made, model, pixels):
    path, report = made("int8", target=target)
    assert [end.dtype for end in report.outputs] == ["int8", "int8"]
    operators = read_operators(path)
    assert not float_islands(operators)
    assert "DEQUANTIZE" not in {op.name for op in operators}
    runner = export.load(path)
    assert list(runner.output_shapes) == list(BOTH)
    found, expected = runner.all(pixels)["attention"], attention_of(model, pixels)
    # As is demanded of a trained model; weights here are random, and it has 0.995.
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    "target", ["ethos_u55", pytest.param("ethos_u85", marks=pytest.mark.slow)]
)
def test_vela_takes_all_of_it(target, made):
    _, report = made("int8", target=target)
    assert "vela" in report.checked_by  # which raises if an operator stays on the CPU


def test_each_output_has_its_dtype(made, pixels):
    path, report = made("int8", target="npu", output_dtype={"attention": "float32"})
    assert [end.dtype for end in report.outputs] == ["int8", "float32"]
    assert [op.name for op in read_operators(path)].index("DEQUANTIZE") == (
        sum(report.operators.values()) - 1
    )
    other, report = made("int8", target="npu", output_dtype={"logits": "uint8"})
    assert [end.dtype for end in report.outputs] == ["uint8", "int8"]
    for name, values in export.load(path).all(pixels).items():
        # The same integers inside, and one step between int8 and uint8.
        np.testing.assert_allclose(
            values, export.load(other).all(pixels)[name], atol=1e-6
        )
    with pytest.raises(ValueError, match="must name logits, attention.*'pooled'"):
        made("int8", output_dtype={"pooled": "int8"})
    with pytest.raises(ValueError, match="`output_dtype` must be one of int8, uint8"):
        made("int8", output_dtype={"logits": "int4"})


def test_an_output_that_is_wrong_is_refused_by_its_name(made, monkeypatch):
    original = named_outputs.attention_map

    def other(*args, **options):
        return np.flip(original(*args, **options), -1)

    with monkeypatch.context() as patched:
        # The rewritten graph differs from what Keras says.
        patched.setattr(named_outputs, "attention_map", other)
        with pytest.raises(ValueError, match="configuration says.*'attention'"):
            made("float32")
    real = measures.measure_parity

    def measured(reference, *others):
        parity = real(reference, *others)
        wrong = np.ndim(reference) == 3
        return dataclasses.replace(parity, sqnr_db=5.0) if wrong else parity

    monkeypatch.setattr(measures, "measure_parity", measured)
    with pytest.raises(export.ParityError, match="output 'attention': scheme") as error:
        made("int8")
    assert error.value.parity.sqnr_db == 5.0
    made("int8", enforce_parity=False)


def test_names_that_a_model_has_not(made, model, tmp_path):
    valid = "logits, attention, features, pooled, or 'all'"
    for names in (("maps",), ("logits", "logits"), ()):
        with pytest.raises(ValueError, match=valid):
            made("float32", outputs=names)
    for activation, own in (("softmax", "probabilities"), ("linear", "logits")):
        small = exported(activation=activation)
        assert named_outputs.own_name(small) == own
    small = exported(head="regression")
    assert named_outputs.own_name(small) == "values"
    plain = exported(task="features")
    with pytest.raises(ValueError, match="no classifier of `vit_keras.create_model`"):
        export.to_tflite(plain, tmp_path / "m.tflite", outputs=("features",))
    with pytest.raises(ValueError, match="not both"):
        made("float32", output="logits")


def heads(vit):
    """A ViT with a head of 7 classes, one of a value near 295, and its own output."""
    images = keras.Input(vit.input_shape[1:])
    pooled = vit(images)
    found = {
        "age": layers.Dense(1, name="years")(pooled) + 295.0,
        "species": layers.Dense(7, name="classes")(pooled),
        "vector": pooled,
    }
    return keras.Model(images, found, name="heads")


def test_the_heads_of_a_user(pixels, tmp_path):
    model, path = heads(exported(include_top=False)), tmp_path / "m.tflite"
    with pytest.raises(ValueError, match="or give `outputs` for several"):
        export.to_tflite(model, path)
    options = {"calibration": pixels, "labels": list("abcdefg")}
    report = export.to_tflite(model, path, outputs="all", scheme="int8", **options)
    assert [end.name for end in report.outputs] == ["age", "species", "vector"]
    # The offset of one output stays in float, the others are integers.
    assert [end.dtype for end in report.outputs] == ["float32", "int8", "int8"]
    assert sum("'age' lie between" in note for note in report.notes) == 1
    assert "rotate_stream" in report.rewrites  # the ViT was found
    assert (report.head, report.labels) == ("softmax", list("abcdefg"))
    ends = export.read_metadata(path)["subgraph_metadata"][0]["output_tensor_metadata"]
    assert ["associated_files" in end for end in ends] == [False, True, False]
    pictures = normalize(pixels, vit_keras.Preprocessing())
    expected = model.predict(pictures, verbose=0)  # a value for each name
    for name, values in export.load(path).all(pixels).items():
        parity = measures.measure_parity(expected[name], values)
        assert parity.sqnr_db > 10, name  # the threshold of int8
    assert export.compare(path, path, pixels[:2], runs=1).others["vector"].passed


def test_a_list_of_outputs_goes_by_index(tmp_path):
    """Here of a ViT of stock layers; what its outputs hang on is found in the graph."""
    plain, path = stock.transformer(), tmp_path / "m.tflite"
    pooled, tokens = (plain.layers[i].output for i in (-2, -3))
    model = keras.Model(plain.input, [plain.output, pooled, tokens])
    images = stock.images()
    options = {"calibration": images, "scheme": "int8", "outputs": (2, "0")}
    report = export.to_tflite(model, path, **options)
    assert [end.name for end in report.outputs] == ["output_2", "output_0"]
    assert any("recognised a ViT" in note for note in report.notes)
    assert not float_islands(read_operators(path))
    assert all(p.passed for p in export.verify_outputs(model, path, images).values())


def test_outputs_between_blocks_are_converted_as_they_are(tmp_path):
    """An output is read inside, too: litert-quantizer leaves its reader in float."""
    plain, path = stock.transformer(), tmp_path / "m.tflite"
    ends = {"early": plain.layers[4].output, "late": plain.layers[-2].output}
    model = keras.Model(plain.input, {**ends, "classes": plain.output})
    options = {"calibration": stock.images(), "outputs": "all"}
    report = export.to_tflite(model, path, scheme="int8", **options)
    assert any("converted as it is" in note for note in report.notes)
    assert [end.dtype for end in report.outputs] == ["int8"] * 3
    assert not float_islands(read_operators(path))


@pytest.mark.slow
def test_mixed_precision_is_for_the_worst_output(made):
    _, plain = made("int8")
    found = {end.name: end.parity.sqnr_db for end in plain.outputs}
    worst = min(found, key=lambda name: found[name])
    demand = found[worst] + 1
    names = sorted(found, key=lambda name: name == worst)  # it is the last
    assert found[names[0]] != found[worst]
    _, report = made("int8", outputs=tuple(names), min_sqnr=demand)
    assert [end.name for end in report.outputs] == names
    assert min(end.parity.sqnr_db for end in report.outputs) >= demand


@pytest.mark.slow
def test_the_command_line(pixels, tmp_path):
    exported().save(tmp_path / "m.keras")
    np.save(tmp_path / "images.npy", pixels)
    program = [sys.executable, "-m", "export"]

    def said(*words):
        done = subprocess.run(
            [*program, *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    names = ("--outputs", "logits,attention", "--calibration", "images.npy")
    assert "output attention" in said("tflite", "m.keras", "m.tflite", *names)
    text = said("verify", "m.keras", "m.tflite", "--data", "images.npy")
    assert "logits: SQNR" in text and "attention: SQNR" in text

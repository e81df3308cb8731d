"""Training as integers: what it starts from, keeps, saves, and gives to the file."""

import dataclasses
import json
import zipfile

import keras
import numpy as np
import pytest

import export
from export.evaluation.interpreter import open_preserving
from export.flatbuffer import operators
from export.quantization.aware import litert_rounding
from export.quantization.aware.layer import QuantizedViT
from export.targets import TARGETS, GraphOptions
from tests.models import exported, run, slow_but
from vit_keras.preprocessing import normalize

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow Model Optimization", allow_module_level=True)

CONFIGURATIONS = {
    "class token": {},
    "mean of patches, fixed positions": {"pooling": "gap", "positions": "sincos2d"},
    "fixed positions of a token, layer scale, tanh head": {
        "positions": "sincos2d",
        "layer_scale_init_value": 0.5,
        "representation_size": 8,
    },
    "distillation token, norms of queries and keys": {
        "distillation_token": True,
        "qk_norm": True,
    },
    "registers, norm before": {
        "num_register_tokens": 2,
        "position_prefix": False,
        "pre_norm": True,
        "qkv_bias": False,
    },
    "attention pooling": {"pooling": "map"},
    "norm after pooling": {"pooling": "gap", "fc_norm": True},
    "norms of patches": {"patch_norm": True},
}

# Names in the configuration of a model -> those of release 0.1.
OLD = {
    "options": "form",
    "flat_tokens": "rows",
    "linear_only": "products_only",
    "unrotate": "unmix",
}


@pytest.fixture(scope="module")
def pixels():
    generator = np.random.default_rng(0)
    coarse = generator.uniform(0, 255, (24, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    return (coarse + generator.normal(0, 20, coarse.shape)).clip(0, 255).astype("uint8")


def normal(model, pixels):
    return normalize(pixels, model.config.preprocessing)


def decibels(expected, got):
    noise = ((expected - got) ** 2).sum()
    return 10 * np.log10((expected**2).sum() / noise) if noise else np.inf


def trained(model, pixels, epochs=2, eagerly=True, **options):
    """Trained for a few steps towards the outputs of the float model alone.

    Of so few steps, the graph would take longest to build; one test has it.
    """
    aware = export.quantize_aware(model, pixels, **options)
    options = {"jit_compile": False, "run_eagerly": eagerly}
    aware.compile(keras.optimizers.Adam(2e-3), **options)
    aware.fit(normal(model, pixels), batch_size=8, epochs=epochs, verbose=0)
    return aware


@pytest.fixture(scope="module")
def aware(pixels):
    return trained(exported(), pixels)


def integers(path):
    """Weights of the linear layers in a quantised file, as integers."""
    interpreter, _, _ = open_preserving(path)
    return [
        interpreter.get_tensor(int(op["inputs"][1]))
        for op in interpreter._get_ops_details()
        if op["op_name"] == "FULLY_CONNECTED"
    ]


@pytest.mark.parametrize("name", slow_but(("class token",), CONFIGURATIONS))
def test_starts_at_the_float_model_and_goes_back_to_one(name, pixels):
    model = exported(num_layers=1, **CONFIGURATIONS[name])
    aware = export.quantize_aware(model, pixels)
    images = normal(model, pixels[:8])
    expected = run(model, images)
    # What an int8 file must keep; of random weights it keeps 12 to 30 dB.
    assert decibels(expected, run(aware, images)) > 10
    generator = np.random.default_rng(1)
    for variable in aware.quantized.trainable_variables:  # as training would
        noise = generator.normal(0, 0.02, variable.shape)
        variable.assign(variable + noise.astype("float32"))
    aware.quantized.exact = True
    moved = np.asarray(aware.quantized(images))
    aware.quantized.exact = False
    assert decibels(expected, moved) < 60  # the noise did something
    # Float32 in another order.
    plain = run(aware.to_float(), images)
    np.testing.assert_allclose(plain, moved, atol=2e-5 * np.ptp(expected), rtol=1e-4)


def test_features_go_back_to_float(pixels):
    from vit_keras import create_model

    model = create_model(exported().config.replace(num_layers=1), task="features")
    aware = export.quantize_aware(model, pixels)
    images = normal(model, pixels[:4])
    plain = run(aware.to_float(), images)
    np.testing.assert_allclose(plain, run(model, images), atol=2e-5)


def test_file_needs_no_calibration_and_is_what_was_trained(aware, pixels, tmp_path):
    path = tmp_path / "m.tflite"
    report = export.to_tflite(aware, path, scheme="int8")
    assert "quantize_aware" in report.rewrites and report.calibration is None
    assert not [note for note in report.notes if "not trained" in note]
    outputs = export.load(path)(pixels)
    expected = aware.predict(normal(aware, pixels), verbose=0)  # as a user calls it
    # Most outputs are equal; in a few images one value lies between two steps so nearly
    # that float32 kernels take the other. Rounding in float32 alone gives 27 dB.
    assert np.mean(np.abs(outputs - expected).max(1) < 1e-5) > 0.5
    assert decibels(expected, outputs) > 35


def test_trained_for_any_npu(aware, pixels, tmp_path):
    """Its graph has SOFTMAX, where that for LiteRT has EXP."""
    path, options = tmp_path / "m.tflite", {"scheme": "int8", "target": "npu"}
    with pytest.raises(ValueError, match="`target` must be one whose graph was"):
        export.to_tflite(aware, path, **options)
    model = export.quantize_aware(exported(num_layers=1), pixels, target="npu")
    report = export.to_tflite(model, path, **options, enforce_parity=False)
    assert report.operators["SOFTMAX"] == 1 and "EXP" not in report.operators


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("class token", "ethos_u85"),
        pytest.param("attention pooling", None, marks=pytest.mark.slow),
        pytest.param("norms of patches", None, marks=pytest.mark.slow),
    ],
)
def test_file_of_another_kind_is_what_was_trained(name, target, pixels, tmp_path):
    model = exported(num_layers=1, **CONFIGURATIONS[name])
    aware = export.quantize_aware(model, pixels, target=target)
    options = {"scheme": "int8", "target": target}
    options["enforce_parity"] = False  # random weights lose more
    report = export.to_tflite(aware, tmp_path / "m.tflite", **options)
    assert not [note for note in report.notes if "not trained" in note]
    outputs = export.load(tmp_path / "m.tflite")(pixels)
    expected = run(aware, normal(aware, pixels))
    # As above. Where the file adds two constants at once and the layer does not, no
    # output is equal and 22 dB are left.
    assert np.mean(np.abs(outputs - expected).max(1) < 1e-5) > 0.5
    assert decibels(expected, outputs) > 30


@pytest.mark.slow
def test_file_keeps_the_graph_that_was_trained(pixels, tmp_path, monkeypatch):
    """A target may have got a faster one since."""
    now = TARGETS["ethos_u85"]
    older = now.graph.written_as(GraphOptions(heads_apart=True))
    monkeypatch.setitem(TARGETS, "ethos_u85", dataclasses.replace(now, graph=older))
    aware = export.quantize_aware(exported(num_layers=1), pixels, target="ethos_u85")
    monkeypatch.setitem(TARGETS, "ethos_u85", now)
    path, options = tmp_path / "m.tflite", {"scheme": "int8", "target": "ethos_u85"}
    report = export.to_tflite(aware, path, **options, enforce_parity=False)
    assert report.operators["CONV_2D"] == 1 and report.plan["graph"]["heads_apart"]
    assert [note for note in report.notes if "a model trained now" in note]
    with pytest.raises(ValueError, match="`heads_apart`"):
        export.to_tflite(aware, path, **options, heads_apart=False)


def test_measured_ranges_are_in_the_report(aware, pixels, tmp_path, monkeypatch):
    original = QuantizedViT.activations

    def other(self, *arguments, **options):
        record = original(self, *arguments, **options)
        return [
            (3 * x + 1, fixed) if i in (10, 12) else (x, fixed)  # no tensor of the file
            for i, (x, fixed) in enumerate(record)
        ]

    monkeypatch.setattr(QuantizedViT, "activations", other)
    options = {"scheme": "int8", "enforce_parity": False}
    report = export.to_tflite(aware, tmp_path / "m.tflite", **options)
    (note,) = [note for note in report.notes if "not trained" in note]
    assert "ranges, not trained ones: 2 (encoderblock_0/" in note


@pytest.mark.slow
def test_saved_model_goes_on_and_is_exported_from_its_file(aware, pixels, tmp_path):
    file = tmp_path / "m.keras"
    aware.save(file)
    again = export.open_quantized(file)
    images = normal(aware, pixels)
    np.testing.assert_array_equal(run(again, images), run(aware, images))
    np.testing.assert_array_equal(again.ranges(), aware.ranges())
    assert again.optimizer.iterations == aware.optimizer.iterations > 0
    again.fit(images[:8], verbose=0)
    assert (again.ranges() != aware.ranges()).any()
    export.to_tflite(file, tmp_path / "m.tflite", scheme="int8")
    with pytest.raises(ValueError, match="quantize_aware.*a VisionTransformer"):
        exported().save(tmp_path / "plain.keras")
        export.open_quantized(tmp_path / "plain.keras")


def of_release_0_1(value):
    """A configuration with the names that release 0.1 gave its entries."""
    if isinstance(value, str) and '"unrotate":' in value:  # JSON in JSON
        return json.dumps(of_release_0_1(json.loads(value)))
    if isinstance(value, list):
        return [of_release_0_1(item) for item in value]
    if isinstance(value, dict):
        return {OLD.get(k, k): of_release_0_1(v) for k, v in value.items()}
    return value


@pytest.mark.slow
def test_saved_model_of_release_0_1_is_opened(pixels, tmp_path):
    aware = trained(exported(num_layers=1), pixels, 1, weight_bits=4)
    aware.save(tmp_path / "new.keras")
    with (
        zipfile.ZipFile(tmp_path / "new.keras") as new,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as old,
    ):
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                text = json.dumps(of_release_0_1(json.loads(content)))
                assert all(old_name in text for old_name in OLD.values())
                assert not any(f'"{new_name}' in text for new_name in OLD)
                content = text.encode()
            old.writestr(name, content)
    opened = export.open_quantized(tmp_path / "old.keras")
    assert opened.quantized.get_config() == aware.quantized.get_config()
    images = normal(aware, pixels)
    np.testing.assert_array_equal(run(opened, images), run(aware, images))
    np.testing.assert_array_equal(opened.ranges(), aware.ranges())


@pytest.mark.parametrize(
    ("bits", "int4"),
    [
        (4, 6),
        pytest.param(3, 0, marks=pytest.mark.slow),
        pytest.param(2, 6, marks=pytest.mark.slow),
    ],
)
def test_coarse_weights_are_int4_in_the_file(bits, int4, pixels, tmp_path):
    path = tmp_path / "m.tflite"
    one = exported(num_layers=1)
    aware = trained(one, pixels, 1, eagerly=bits != 4, weight_bits=bits)
    report = export.to_tflite(aware, path, scheme="int8", enforce_parity=False)
    linear = [
        op for op in operators.read_operators(path) if op.name == "FULLY_CONNECTED"
    ]
    assert [op.inputs[1] for op in linear].count("INT4") == int4  # all of the block
    held = f"6 kernels of {bits} bits as {'int4' if int4 else 'int8'}"
    assert any(held in note for note in report.notes)
    expected = run(aware, normal(aware, pixels))
    assert decibels(expected, export.load(path)(pixels)) > 35
    for values in aware.quantized.arrays().blocks[0].dense1.kernel.T:
        assert len(np.unique(values.astype("float32"))) <= 2**bits - 1


def test_products_are_rounded_as_litert_rounds_them():
    """Against TensorFlow Lite's MultiplyByQuantizedMultiplier, in integers."""
    rng = np.random.default_rng(0)
    totals = rng.integers(-(2**17), 2**17, 20_000)
    for ratio in (0.0017, 0.004, 0.4):
        mantissa, exponent = np.frexp(ratio)
        product = totals * round(mantissa * 2**31)
        high = (product + np.where(product >= 0, 2**30, 1 - 2**30)) / 2**31
        high = np.trunc(high).astype("int64")
        right = -int(exponent)
        rest, half = high & (2**right - 1), (2**right - 1) >> 1
        expected = (high >> right) + (rest > half + (high < 0))
        scale = 0.05
        one, other = [
            (np.float64(s), np.float64(3)) for s in (0.1, ratio * scale / 0.1)
        ]
        got = litert_rounding.rounded_twice(totals * ratio * scale, scale, one, other)
        np.testing.assert_allclose(got, expected * scale, atol=1e-9)
        once = litert_rounding.rounded(totals * ratio * scale, scale, 0.0)
        assert ratio < 0.01 or (once != got).numpy().any()


def test_structure_of_a_graph(aware):
    structure = aware.quantized.structure
    # The tokens of patches and those with the class token before them: one tensor.
    assert structure.groups[2] == structure.groups[3] == {2, 3}
    assert {len(group) for group in structure.groups} == {1, 2}
    assert len(structure.factors) == 2 * 2
    # What is added to the mean square of each norm: two of a block, and the last one.
    constants = [constant for _, constant in structure.shifts.values()]
    assert constants == pytest.approx([1e-6] * 5)
    for index, (addend, _) in structure.shifts.items():
        assert aware.quantized.limits(index)[1] > aware.quantized.limits(addend)[1]
    places = {place.rsplit(".", 1)[0] for place in structure.biases}
    assert places == {
        kernel.rsplit(".", 1)[0] for _, kernel in structure.biases.values()
    }
    assert len(places) == 1 + 2 * 6 + 1 and structure.biases["embedding.bias"][0] == 0


@pytest.mark.slow
def test_training_repairs_what_two_bits_break(pixels):
    model = exported(num_layers=1)
    images = normal(model, pixels)
    expected = run(model, images)
    before, after = (trained(model, pixels, epochs, weight_bits=2) for epochs in (0, 8))
    gaps = [decibels(expected, run(m, images)) for m in (before, after)]
    assert gaps[1] > gaps[0] + 3


def test_distillation_can_be_left_out(pixels):
    aware = export.quantize_aware(exported(num_layers=1), pixels, distillation=0)
    assert not [x for x in aware.layers if type(x).__name__ == "Distillation"]


def test_products_alone_for_the_cpu(pixels, tmp_path):
    model = exported(num_layers=1)
    aware = trained(model, pixels, 1, layer_norm="float")
    path = tmp_path / "m.tflite"
    report = export.to_tflite(aware, path, scheme="int8", target="cpu")
    expected = run(aware, normal(aware, pixels))
    assert decibels(expected, export.load(path)(pixels)) > 60  # norms are in float32
    assert not [note for note in report.notes if "not trained" in note]
    with pytest.raises(ValueError, match="target"):
        export.to_tflite(aware, path, scheme="int8")


@pytest.mark.slow
def test_zeros_of_a_pruned_model_stay(pixels, tmp_path):
    model = exported(num_layers=1)
    pruning = export.prune(model, sparsity=0.5)
    model.compile("adam", "mse", jit_compile=False)
    images = normal(model, pixels)
    outputs = run(model, images)
    model.fit(images, outputs, 8, epochs=2, verbose=0, callbacks=[pruning])
    aware = trained(pruning.strip(), pixels)
    path = tmp_path / "m.tflite"
    export.to_tflite(aware, path, scheme="int8", enforce_parity=False)
    for weights in integers(path)[:-1]:  # the head was not pruned
        assert 0.5 <= (weights == 0).mean() < 0.7


@pytest.mark.slow
def test_values_of_a_clustered_model_stay_few(pixels, tmp_path):
    model = exported(num_layers=1)
    model = export.cluster(model, 8).strip()
    aware = trained(model, pixels)
    before = {str(np.unique(k)) for k in _kernels(model)}
    path = tmp_path / "m.tflite"
    export.to_tflite(aware, path, scheme="int8", enforce_parity=False)
    held = integers(path)[:-1]
    assert all(len(np.unique(weights)) <= 8 for weights in held)
    after = {str(np.unique(k)) for k in _kernels(aware.to_float())}
    assert not before & after  # they were trained


def _kernels(model):
    block = model.get_layer("encoderblock_0")
    return [np.asarray(block.mlp.dense1.kernel), np.asarray(block.mlp.dense2.kernel)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 5}, "8, 4, 3, 2"),
        ({"activation_bits": 4}, "`activation_bits` must be one of 8"),
        ({"layer_norm": "bf16"}, "`layer_norm` must be one of"),
        ({"layer_norm": "float", "target": "npu"}, "`layer_norm` must be 'int8'"),
        ({"target": "toaster"}, "cpu"),
        ({"exclude": "dense7"}, "encoderblock_0"),
        ({"distillation": -1}, "at least 0"),
    ],
)
def test_arguments_are_checked(options, message, pixels):
    with pytest.raises(ValueError, match=message):
        export.quantize_aware(exported(num_layers=1), pixels, **options)


def test_only_this_packages_models_and_only_int8(aware, pixels, tmp_path):
    other = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="create_model"):
        export.quantize_aware(other, pixels)
    with pytest.raises(ValueError, match="to_float"):
        export.to_tflite(aware, tmp_path / "m.tflite", scheme="float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("eager")
def test_command_line_trains_and_says_what_is_next(tmp_path):
    from typer.testing import CliRunner

    from export.cli import app
    from vit_keras import create_model, data

    config = exported().config.replace(num_layers=1, image_size=8, patch_size=4)
    model = create_model(config)
    model.save(tmp_path / "model.keras")
    digits = data.digits()[0].take(np.arange(100))
    few = {"images": digits.images, "labels": digits.labels}
    np.savez(tmp_path / "few.npz", **few, classes=digits.classes)
    arguments = ["qat", str(tmp_path / "model.keras"), "--data"]
    arguments += [str(tmp_path / "few.npz"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "next: vit-export tflite" in result.output
    aware = export.open_quantized(tmp_path / "out" / "model.keras")
    assert aware.quantized.bits["blocks.0.dense1.kernel"] == 8
    result = CliRunner().invoke(app, [*arguments, "--weight-bits", "4"])
    assert isinstance(result.exception, FileExistsError)

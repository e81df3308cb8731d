"""Mixed precision by demand, and which tensor of a file went wrong."""

import dataclasses
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import export
from export.evaluation import tensor_errors
from export.evaluation.reference import predict
from export.flatbuffer.operators import read_operators
from export.graph.build import inference_graph
from export.quantization import (
    calibration,
    mixed_precision,
    post_training,
    strategies,
)
from export.resolve import resolve
from export.tflite.converter import convert
from tests.models import exported, slow_but
from vit_keras import Preprocessing


@pytest.fixture(scope="module")
def plain(tflite_of):
    """dB of the int8 file in which nothing falls back."""
    return tflite_of("int8")[1].parity.sqnr_db


@pytest.mark.parametrize("length", [1, 2, 3, 7, 20])
def test_fewest_is_the_least_that_is_enough(length):
    order = [mixed_precision.Part(str(i), ()) for i in range(length)]
    for needed in range(1, length + 1):
        found, tried = mixed_precision.fewest_parts(order, len, needed.__le__)
        assert found == order[:needed]
        assert len(tried) <= 2 * np.log2(needed) + 2
    found, _ = mixed_precision.fewest_parts(order, len, lambda count: False)
    assert found == order


def test_parts_are_of_blocks_and_know_their_work(model, pixels, tmp_path):
    path = tmp_path / "m.tflite"
    graph = inference_graph(model, Preprocessing(), pixels)
    plan = resolve("int8", has_calibration=True)
    convert(graph.function, model, path, plan)
    parts = {p.name: p for p in mixed_precision.find_parts(path, "float32")}
    kinds = ("norm", "attention", "residual", "norm_1", "mlp")
    blocks = [f"encoderblock_{i}/{kind}" for i in (0, 1) for kind in kinds]
    assert set(parts) == {"embedding", *blocks, "top/norm", "top"}
    # 17 tokens, but in the last block queries and MLP of one; width 32, MLP 64.
    macs = {
        "embedding": 0,  # the projection reads the input
        "encoderblock_0/attention": 4 * 17 * 32 * 32 + 2 * 17 * 17 * 32,
        "encoderblock_0/mlp": 2 * 17 * 32 * 64,
        "encoderblock_1/attention": (2 * 17 + 2) * 32 * 32 + 2 * 17 * 32,
        "encoderblock_1/mlp": 2 * 32 * 64,
    }
    total = sum(macs.values()) + 16 * 8 * 8 * 3 * 32 + 32 * 10
    for name, count in macs.items():
        assert parts[name].macs == pytest.approx(count / total), name
    assert 0.9 < sum(part.values for part in parts.values()) < 1


@pytest.mark.parametrize(
    ("target", "precision"),
    [
        (None, "int16"),
        pytest.param("npu", "int16", marks=pytest.mark.slow),  # as without a target
        # `test_vela_takes_every_operator_of_the_table_in_int16` is quick.
        pytest.param("ethos_u55", "int16", marks=pytest.mark.slow),
        pytest.param("openvino", "float32", marks=pytest.mark.slow),
    ],
)
def test_demand_is_met_by_few_parts(model, pixels, plain, target, precision, tmp_path):
    if target == "openvino":
        pytest.importorskip("openvino")
    if target == "ethos_u55":
        pytest.importorskip("ethosu.vela")
    path = tmp_path / "m.tflite"
    report = export.to_tflite(
        *(model, path),
        **{"scheme": "int8", "target": target},
        **{"calibration": pixels, "min_sqnr": plain + 1},
    )
    # Measured by the public function, not by what chose the parts.
    assert export.verify(model, path, pixels[:32]).sqnr_db >= plain + 1
    assert report.mixed["precision"] == precision
    parts, total = report.mixed["parts"], report.mixed["total"]
    assert 0 < len(parts) < total
    curve = dict(report.mixed["curve"])
    assert curve[0] < plain + 1 <= curve[len(parts)]
    kinds = {kind for op in read_operators(path) for kind in (*op.inputs, *op.outputs)}
    assert precision.upper() in kinds
    assert target == "openvino" or "FLOAT32" not in kinds
    assert report.notes[-1].startswith(f"{len(parts)} of {total} parts in")
    cost = report.mixed["cost"]
    assert 0 <= cost["macs"] < 1 and 0 < cost["values"] < 1
    assert f"{cost['values']:.0%} of the values" in report.notes[-1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.tflite", "m.tflite.json"]


def test_demand_that_int8_meets_changes_nothing(model, pixels, plain, tmp_path):
    report = export.to_tflite(
        *(model, tmp_path / "m.tflite"),
        **{"scheme": "int8", "calibration": pixels, "min_sqnr": plain / 2},
    )
    assert report.mixed["parts"] == ()
    assert set(report.mixed["cost"].values()) == {0}
    assert "parts in int8, which has an SQNR of" in report.notes[-1]
    assert report.mixed["sensitivity"] == {}


def test_demand_that_nothing_meets_is_refused(pixels, tmp_path):
    with pytest.raises(export.ParityError, match="cannot reach an SQNR of 110 dB"):
        export.to_tflite(
            *(exported(num_layers=1), tmp_path / "m.tflite"),
            **{"scheme": "int8", "calibration": pixels, "min_sqnr": 110},
        )
    assert list(tmp_path.iterdir()) == []


def test_accuracy_drop_on_a_folder(model, pixels, tmp_path):
    # Labels by the model itself: the drop is then the share of other answers. A model
    # of random weights decides by a hair: even with all parts in int16 5 of 48 differ.
    answers = predict(model, pixels).argmax(1)
    for answer in set(answers):
        (tmp_path / "test" / str(answer)).mkdir(parents=True)
    for number, (image, answer) in enumerate(zip(pixels, answers, strict=True)):
        Image.fromarray(image).save(tmp_path / "test" / str(answer) / f"{number}.png")
    path = tmp_path / "m.tflite"
    export.to_tflite(
        *(model, path),
        **{"scheme": "int8", "calibration": pixels, "accuracy_drop": 12.5},
        **{"evaluation": tmp_path / "test", "labels": [str(n) for n in range(10)]},
    )
    outputs = export.load(path)(pixels)
    assert 100 * np.mean(outputs.argmax(1) != answers) <= 12.5
    with pytest.raises(
        ValueError, match="must hold classes of the model .a, b.*unknown: "
    ):
        export.to_tflite(
            *(model, path),
            **{"scheme": "int8", "calibration": pixels, "accuracy_drop": 12.5},
            **{"evaluation": tmp_path / "test", "labels": list("abcdefghij")},
        )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3, int), "an integer label per image"),
        (np.zeros(48), "an integer label per image"),
        (np.full(48, 10), "`labels` must be from 0 to 9"),
    ],
)
def test_bad_labels(model, pixels, labels, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.to_tflite(
            *(model, tmp_path / "m.tflite"),
            **{"scheme": "int8", "calibration": pixels, "accuracy_drop": 1},
            **{"evaluation": (pixels, labels)},
        )


@pytest.mark.slow
def test_accuracy_drop_of_a_model_on_another_backend(model, pixels, tmp_path):
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "a.npz", images=pixels, labels=predict(model, pixels).argmax(1))
    program = """if True:
        import export, keras, numpy, vit_keras
        model = keras.saving.load_model("m.keras")
        with numpy.load("a.npz") as stored:
            images, labels = stored["images"], stored["labels"]
        report = export.to_tflite(
            model, "m.tflite", scheme="int8", calibration=images, accuracy_drop=50,
            evaluation=(images, labels),
        )
        print(report.mixed["demand"])
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        **{"capture_output": True, "text": True, "cwd": tmp_path},
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "a drop of at most 50 points on 48 images"


@pytest.mark.parametrize(
    "target", slow_but(("ethos_u55",), ("ethos_u55", "ethos_u65", "ethos_u85"))
)
def test_vela_takes_every_operator_of_the_table_in_int16(target, pixels, tmp_path):
    pytest.importorskip("ethosu.vela")
    model, path = exported(), tmp_path / "m.tflite"
    plan = resolve("int8", target, has_calibration=True, min_sqnr=1.0)
    graph = inference_graph(model, Preprocessing(), pixels, plan.graph)
    convert(graph.function, model, path, plan)
    ranges = calibration.measure_ranges(path, pixels, True)
    able = export.TARGETS[target].fallback_operators
    parts = mixed_precision.find_parts(path, "int16", able)
    overrides = [row for part in parts for row in part.overrides("int16")]
    assert {row.operator for row in overrides} <= set(able)
    content = post_training.quantize_static(path, ranges, "uint8", "int8", overrides)
    path.write_bytes(content)
    report = export.check(path, target)
    assert report.passed, str(report)


# ---- which tensor went wrong ----


@pytest.fixture
def narrow(monkeypatch):
    """One tensor in the middle has a range that is far too small."""
    name = "encoderblock_1/mlp/Tensordot"
    measured = calibration.measure_ranges

    def ranges(*arguments):
        found = measured(*arguments)
        (culprit,) = [key for key in found if tensor_errors.short_name(key) == name]
        low, high = found[culprit]
        return {**found, culprit: (low / 100, high / 100)}

    monkeypatch.setattr(strategies, "measure_ranges", ranges)
    return name


def test_error_names_the_first_wrong_tensor(model, pixels, narrow, tmp_path, capsys):
    path, options = tmp_path / "m.tflite", {"scheme": "int8", "calibration": pixels}
    report = export.to_tflite(model, path, **options, enforce_parity=False)
    errors = export.verify_layers(model, path, pixels)
    assert len(errors) > 40
    wrong = tensor_errors.first_wrong(errors, 5)
    assert wrong is not None and wrong.name == narrow
    before = errors[: errors.index(wrong)]
    assert min(error.sqnr_db for error in before) > 15
    assert report.parity.sqnr_db < min(error.sqnr_db for error in before)


def test_weights_in_float16_are_no_results(model, pixels, tflite_of):
    """They are made float32 by operators with the names of results."""
    errors = export.verify_layers(model, tflite_of("float16")[0], pixels)
    assert len(errors) > 40
    assert min(error.sqnr_db for error in errors) > 40  # of 11 bits, 66 dB each


def test_refusal_says_where(model, pixels, narrow, tmp_path, monkeypatch):
    strict = dataclasses.replace(export.SCHEMES["int8"], min_sqnr_db=100.0)
    monkeypatch.setitem(export.SCHEMES, "int8", strict)
    with pytest.raises(export.ParityError, match="the first tensor below is"):
        export.to_tflite(
            *(model, tmp_path / "m.tflite"),
            **{"scheme": "int8", "calibration": pixels, "min_sqnr": None},
        )


def test_layers_need_the_model_and_the_images_of_the_file(
    model, pixels, tflite_of, tmp_path
):
    path, _ = tflite_of("int8")
    with pytest.raises(ValueError, match="must be those that"):
        export.verify_layers(model, path, pixels[:20])
    other = exported(qk_norm=True, num_register_tokens=2)
    with pytest.raises(ValueError, match="`model` must be the one"):
        export.verify_layers(other, path, pixels)
    alone = shutil.copy(path, tmp_path / "m.tflite")
    with pytest.raises(FileNotFoundError, match="m.tflite.json"):
        export.verify_layers(model, alone, pixels)
    with pytest.raises(ValueError, match="must be a .tflite file"):
        export.verify_layers(model, tmp_path, pixels)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plot_of_the_errors(ending, tmp_path):
    pytest.importorskip("matplotlib")
    errors = [
        tensor_errors.TensorError("embedding/add", "ADD", "int8", 40.0),
        tensor_errors.TensorError("encoderblock_0/mlp/Gelu", "GELU", "int8", 30.0),
    ]
    tensor_errors.plot_errors(errors, tmp_path / f"e.{ending}")
    assert (tmp_path / f"e.{ending}").stat().st_size > 1000

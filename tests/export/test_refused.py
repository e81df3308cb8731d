"""What the writer of `.tflite` refuses: one clear error each, and no file left."""

import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import export
from export.resolve import resolve
from export.tflite import writer
from export.tflite.converter import check_size
from tests.models import exported

# (options, what the message must say)

REFUSED = [
    ({"scheme": "int7"}, "`scheme` must be one of float32, float16"),
    ({"scheme": "int8"}, "`calibration` is required by scheme='int8'"),
    ({"target": "toaster"}, "`target` must be one of any, cpu, npu"),
    (
        {"target": "npu"},
        "`scheme` must be one of int8, int8_residual16 for",
    ),
    ({"batch": 0}, "`batch` must be an integer >= 1"),
    ({"input_dtype": "int8"}, "`input_dtype` must be one of uint8, float32"),
    ({"output_dtype": "int8"}, "`output_dtype` must be one of float32"),
    ({"labels": ["a", "b"]}, "`labels` must have 10 names"),
    ({"min_sqnr": 20}, "need scheme='int8'"),
    ({"scheme": "int8", "min_sqnr": 0}, "`min_sqnr` must be above 0 dB"),
    ({"scheme": "int8", "min_sqnr": 9, "accuracy_drop": 1}, "not both"),
    ({"scheme": "int8", "accuracy_drop": 1}, "`accuracy_drop` needs `evaluation`"),
    ({"scheme": "int8", "accuracy_drop": -1}, "percentage points from 0 to 100"),
    (
        {"scheme": "int8", "target": "edge_tpu", "min_sqnr": 9},
        "target='edge_tpu', which has int8 alone",
    ),
    ({"calibration": np.zeros((4, 8, 8, 3), "uint8")}, "shape (N, 32, 32, 3)"),
    ({"calibration": np.zeros((0, 32, 32, 3), "uint8")}, "N >= 1"),
    ({"calibration": np.full((2, 32, 32, 3), -1.0)}, "look normalised already"),
    ({"calibration": np.full((2, 32, 32, 3), 0.5)}, "Multiply them by 255"),
    ({"calibration": np.full((2, 32, 32, 3), np.nan)}, "must be pixels in 0..255"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda v: str(v)[:40])
def test_bad_arguments(model, options, message, tmp_path):
    with pytest.raises(ValueError) as caught:
        export.to_tflite(model, tmp_path / "m.tflite", **options)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_bad_paths(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="folder .* does not exist"):
        export.to_tflite(model, tmp_path / "missing" / "m.tflite")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        export.to_tflite(
            model, tmp_path / "m.tflite", scheme="int8", calibration=tmp_path / "no"
        )
    with pytest.raises(FileNotFoundError, match="no model file"):
        export.to_tflite(tmp_path / "no.keras", tmp_path / "m.tflite")
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(ValueError, match="must be a .keras file"):
        export.to_tflite(broken, tmp_path / "m.tflite")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="holds no readable image"):
        export.to_tflite(model, tmp_path / "m.tflite", scheme="int8", calibration=empty)


def test_corrupt_calibration_image_is_named_and_skipped(model, pixels, tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(pixels[0]).save(folder / "good.png")
    (folder / "bad.png").write_bytes((folder / "good.png").read_bytes()[:60])
    with pytest.warns(UserWarning, match="bad.png"):
        report = export.to_tflite(
            model, tmp_path / "m.tflite", scheme="int8", calibration=folder
        )
    assert report.calibration["images"] == 1


def test_file_below_threshold_is_refused_unless_told_otherwise(pixels, tmp_path):
    model = exported()
    # Two huge channels in the residual stream, of mean 0, that the head does not read:
    # what it does read is lost in int8, which has one scale for all channels.
    position, head = model.get_layer("posembed_input"), model.get_layer("head")
    embedding, kernel = np.array(position.embedding), np.array(head.kernel)
    embedding[..., :2], kernel[:2] = (1000.0, -1000.0), 0.0
    position.embedding.assign(embedding)
    head.kernel.assign(kernel)
    for constant in (head.bias, model.get_layer("encoder_norm").beta):
        constant.assign(np.zeros(constant.shape))
    path = tmp_path / "m.tflite"
    path.write_bytes(b"an earlier file")
    with pytest.raises(export.ParityError, match="needs an SQNR of 10 dB") as caught:
        export.to_tflite(model, path, scheme="int8", calibration=pixels)
    assert caught.value.parity.sqnr_db < 10
    assert path.read_bytes() == b"an earlier file"
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]
    report = export.to_tflite(
        model, path, scheme="int8", calibration=pixels, enforce_parity=False
    )
    assert not report.parity.passed
    assert not json.loads((tmp_path / "m.tflite.json").read_text())["parity"]["passed"]


def test_nan_weights_are_refused(pixels, tmp_path):
    model = exported()
    head = model.get_layer("head").kernel
    head.assign(np.full(head.shape, np.nan))
    for scheme in ("float32", "int8"):
        with pytest.raises(ValueError, match="finite weights. .* 'head/kernel'"):
            export.to_tflite(
                *(model, tmp_path / "m.tflite"),
                **{"scheme": scheme, "calibration": pixels},
            )
    with pytest.raises(ValueError, match="finite weights"):
        export.to_saved_model(model, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_what_overflows_is_named(pixels, tmp_path):
    model = exported()
    kernel = model.get_layer("encoderblock_1").mlp.dense2.kernel
    kernel.assign(np.random.default_rng(0).normal(0, 1e37, kernel.shape))
    with pytest.raises(ValueError, match="finite values .* top/norm/"):
        export.to_tflite(
            *(model, tmp_path / "m.tflite"),
            **{"scheme": "int8", "calibration": pixels},
        )
    assert list(tmp_path.iterdir()) == []


def test_model_beyond_a_flatbuffer_is_refused_at_once(model, tmp_path, monkeypatch):
    most = 4 * model.count_params()
    monkeypatch.setattr("export.tflite.converter.MAX_BYTES", most)
    calls = []
    monkeypatch.setattr(writer, "convert", lambda *args: calls.append(args))
    with pytest.raises(ValueError, match="fit into a flatbuffer") as caught:
        export.to_tflite(model, tmp_path / "m.tflite", scheme="dynamic_int8")
    assert f"{model.count_params():,} weights" in str(caught.value)
    assert not calls and list(tmp_path.iterdir()) == []
    check_size(model, resolve("float16"))  # half as large


@keras.saving.register_keras_serializable(package="test")
class NotBuiltin(keras.layers.Layer):
    """Uses an operator that TFLite has only through TensorFlow's own kernels."""

    def call(self, x):
        return keras.ops.erfinv(x / 300.0)


def test_other_than_builtin_operators_are_refused_by_name(tmp_path):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, NotBuiltin()(inputs))
    with pytest.raises(export.UnsupportedOperators, match="Erfinv"):
        export.to_tflite(model, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_several_inputs_are_refused(tmp_path):
    a, b = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    model = keras.Model([a, b], keras.layers.Add()([a, b]))
    with pytest.raises(ValueError, match="one input"):
        export.to_tflite(model, tmp_path / "m.tflite")


def test_full_disk_leaves_nothing(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        export.to_tflite(model, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_killed_process_leaves_no_half_file(model, tmp_path):
    model.save(tmp_path / "model.keras")
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "export", "tflite", tmp_path / "model.keras"]
        + [out / "m.tflite"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):  # until it has begun to work beside the final name
        if list(out.iterdir()) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.returncode == -signal.SIGKILL and (out / "m.tflite").exists():
        export.load(out / "m.tflite")  # if it was quick, the file is whole
    visible = [p for p in out.iterdir() if not p.name.startswith(".")]
    assert all(p.name in ("m.tflite", "m.tflite.json") for p in visible)


# ---- as a user types it ----


@pytest.fixture(scope="module")
def inputs(model, pixels, tmp_path_factory):
    """Good and bad models, images and labels."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("inputs")
    model.save(folder / "good.keras")
    broken = exported()
    kernel = broken.get_layer("head").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    broken.save(folder / "nan.keras")
    vector = keras.Input((8,))
    other = keras.Model(vector, keras.layers.Dense(2)(vector))
    other.save(folder / "vector.keras")
    (folder / "text.keras").write_text("no model")
    np.save(folder / "good.npy", pixels[:4])
    np.save(folder / "grey.npy", pixels[:4, ..., :1])
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:1000])
    (folder / "text.npy").write_text("no array")
    (folder / "empty").mkdir()
    (folder / "corrupt").mkdir()
    Image.fromarray(pixels[0]).save(folder / "whole.png")
    part = (folder / "whole.png").read_bytes()[:60]
    (folder / "corrupt" / "bad.png").write_bytes(part)
    (folder / "labels.txt").write_text("cat\ndog\n")
    (folder / "ten.txt").write_text("\n".join("abcdefghij"))
    return folder


INT8 = ("--scheme", "int8", "--calibration")
TYPED = {
    "no images": (["good.keras", *INT8, "empty"], "holds no readable image"),
    "corrupt images": (["good.keras", *INT8, "corrupt"], "1 files were unreadable"),
    "no such images": (["good.keras", *INT8, "gone"], "no file or folder"),
    "cut array": (["good.keras", *INT8, "cut.npy"], "cut.npy' is no whole .npy"),
    "no array": (["good.keras", *INT8, "text.npy"], "text.npy' is no whole .npy"),
    "one channel": (["good.keras", *INT8, "grey.npy"], "must have the shape"),
    "method": (
        ["good.keras", *INT8, "good.npy", "--calibration-method", "kl"],
        "`calibration_method` must be one of min_max, mse, percentile",
    ),
    "NaN": (["nan.keras"], "`model` must have finite weights"),
    "labels": (["good.keras", "--labels", "labels.txt"], "`labels` must have 10 names"),
    "no images in": (["vector.keras"], "must take images of a fixed size"),
    "no model": (["text.keras"], "must be a .keras file"),
    "scheme of target": (["good.keras", "--target", "npu"], "`scheme` must be one of"),
    "bits of target": (
        ["good.keras", "--target", "edge_tpu", *INT8, "good.npy", "--min-sqnr", "30"],
        "must have more than int8",
    ),
    "labels of evaluation": (
        ["good.keras", *INT8, "good.npy", "--accuracy-drop", "1"]
        + ["--evaluation", "empty"],
        "`evaluation` must be labelled images",
    ),
}


@pytest.mark.filterwarnings("ignore:skipped")
@pytest.mark.parametrize("case", TYPED)
def test_one_line_on_stderr(case, inputs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())  # kept as it is
    from export import cli

    (name, *arguments), message = TYPED[case]
    monkeypatch.chdir(inputs)
    out = ["vit-export", "tflite", name, str(tmp_path / "m.tflite"), *arguments]
    if "--labels" not in arguments and name == "good.keras":
        out += ["--labels", "ten.txt"]
    monkeypatch.setattr(sys, "argv", out)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("vit-export: ")
    assert message in last
    assert list(tmp_path.iterdir()) == []

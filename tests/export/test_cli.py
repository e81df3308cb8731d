"""`vit-export` as a user types it, and exports of models made on another backend."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "export"]


def run(*arguments, **environment):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT
    )


@pytest.fixture(scope="module")
def folder(model, pixels, tmp_path_factory):
    """A run folder: model, labels, calibration images."""
    folder = tmp_path_factory.mktemp("run")
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("\n".join("abcdefghij") + "\n")
    np.save(folder / "pixels.npy", pixels)
    return folder


def failed(done, status, *words):
    """The exit status, and the last line of stderr tells why, without a traceback."""
    assert done.returncode == status, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("vit-export: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in last, last


def test_the_whole_way(folder, tmp_path):
    file, images = tmp_path / "m.tflite", folder / "pixels.npy"
    options = ["--scheme", "int8", "--target", "npu", "--calibration", images]
    # Whatever backend the user works with, export runs on TensorFlow.
    done = run("tflite", folder / "model.keras", file, *options, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    assert "SQNR" in done.stdout and "int8" in done.stdout
    assert " s  converting" in done.stderr  # stages, with their time
    assert f"next: vit-export verify {folder / 'model.keras'} {file}" in done.stdout
    assert '"labels": [\n    "a",' in (tmp_path / "m.tflite.json").read_text()

    done = run("verify", folder / "model.keras", file, "--data", images)
    assert done.returncode == 0, done.stderr
    assert "top-1 agreement" in done.stdout
    done = run("check", file, "--target", "npu")
    assert done.returncode == 0 and "supported" in done.stdout

    done = run("saved-model", folder / "model.keras", tmp_path / "digits" / "1")
    assert done.returncode == 0, done.stderr
    labels = tmp_path / "digits" / "1" / "assets" / "labels.txt"
    assert labels.read_text().split() == list("abcdefghij")
    done = run("benchmark", file, tmp_path / "digits" / "1", "--runs", "2")
    assert done.returncode == 0 and done.stdout.count("ms") >= 4


def test_failed_check_is_status_1(folder, model, tmp_path):
    from tests.models import exported

    file = tmp_path / "other.tflite"
    exported(seed=5).save(tmp_path / "other.keras")
    assert run("tflite", tmp_path / "other.keras", file).returncode == 0
    images = folder / "pixels.npy"
    done = run("verify", folder / "model.keras", file, "--data", images)
    assert done.returncode == 1 and "needed 80 dB" in done.stdout
    done = run("check", file, "--target", "npu")
    assert done.returncode == 1 and "unsupported" in done.stdout


def test_bad_input_is_status_2(folder, tmp_path):
    keras_file, out = folder / "model.keras", tmp_path / "m.tflite"
    failed(run("tflite", folder / "no.keras", out), 2, "no model file")
    failed(run("tflite", keras_file, out, "--scheme", "int8"), 2, "`calibration` is")
    failed(run("tflite", keras_file, out, "--scheme", "x"), 2, "float32, float16")
    failed(run("check", keras_file), 2, "must be a whole TFLite file")
    failed(run("verify", keras_file, out, "--data", tmp_path), 2, "no readable image")
    assert run("tflite").returncode == 2
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import sys
import numpy as np
import export, vit_keras
import keras
from tests.models import exported
model = exported()
pixels = np.load(sys.argv[1])
out = sys.argv[2]
labels = list("abcdefghij")
report = export.to_tflite(
    model, out + "/m.tflite", scheme="int8", calibration=pixels, labels=labels
)
assert report.parity.passed and report.labels == labels, report
assert export.verify(model, out + "/m.tflite", pixels).sqnr_db > 10
report = export.to_saved_model(model, out + "/1")
assert report.parity.passed
assert export.verify(model, out + "/1", pixels).sqnr_db > 80
cut = keras.Model(model.input, model.get_layer("pooling").output)
rules = vit_keras.Preprocessing(mean=(0.4, 0.5, 0.6))
report = export.to_tflite(cut, out + "/cut.tflite", preprocessing=rules)
assert tuple(report.preprocessing["mean"]) == rules.mean
try:
    export.to_tflite(model, out + "/x.tflite", labels=["a"])
except ValueError as error:
    assert "`labels` must have 10 names" in str(error), error
else:
    raise SystemExit("bad labels were accepted")
try:
    export.to_saved_model(model, out + "/1")
except FileExistsError:
    print(keras.backend.backend(), "done")
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_model_of_another_backend(backend, folder, tmp_path):
    if backend == "torch" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder / "pixels.npy", tmp_path],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"{backend} done")

"""`vit-export` as a user types it, and exports of models made on another backend."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests import program
from tests.models import exported
from tests.vit_keras.backends import FAST

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments):
    return program.run("vit-export", *arguments)


def failed(done, *words):
    program.refused(done, "vit-export", *words)


def in_a_process(*command, backend):
    """A program of Python that starts with Keras on another backend."""
    environment = {**os.environ, **FAST, "KERAS_BACKEND": backend}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    return subprocess.run(
        [sys.executable, *map(str, command)],
        **{"capture_output": True, "text": True, "env": environment, "cwd": ROOT},
    )


@pytest.fixture(scope="module")
def folder(pixels, tmp_path_factory):
    """A run folder: model, labels, calibration images."""
    folder = tmp_path_factory.mktemp("run")
    exported(num_layers=1).save(folder / "model.keras")
    (folder / "labels.txt").write_text("\n".join("abcdefghij") + "\n")
    np.save(folder / "pixels.npy", pixels)
    return folder


def test_the_whole_way(folder, tmp_path):
    file, images = tmp_path / "m.tflite", folder / "pixels.npy"
    options = ["--scheme", "int8", "--target", "npu", "--calibration", images]
    # Whatever backend the user works with, export runs on TensorFlow.
    arguments = ("tflite", folder / "model.keras", file, *options)
    done = in_a_process("-m", "export", *arguments, backend="jax")
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
    # Beside the scan, what each compiler that is here says.
    assert "ethos_u85" in done.stdout and "qualcomm" in done.stdout

    done = run("saved-model", folder / "model.keras", tmp_path / "digits" / "1")
    assert done.returncode == 0, done.stderr
    labels = tmp_path / "digits" / "1" / "assets" / "labels.txt"
    assert labels.read_text().split() == list("abcdefghij")
    done = run("benchmark", file, tmp_path / "digits" / "1", "--runs", "2")
    assert done.returncode == 0 and done.stdout.count("ms") >= 4


def test_failed_check_is_status_1(folder, tmp_path):
    file = tmp_path / "other.tflite"
    exported(seed=5, num_layers=1).save(tmp_path / "other.keras")
    assert run("tflite", tmp_path / "other.keras", file).returncode == 0
    images = folder / "pixels.npy"
    done = run("verify", folder / "model.keras", file, "--data", images)
    assert done.returncode == 1 and "needed 80 dB" in done.stdout
    done = run("check", file, "--target", "npu")
    assert done.returncode == 1 and "unsupported" in done.stdout


def test_bad_input_is_status_2(folder, tmp_path):
    keras_file, out = folder / "model.keras", tmp_path / "m.tflite"
    failed(run("tflite", folder / "no.keras", out), "no model file")
    failed(run("tflite", keras_file, out, "--scheme", "int8"), "`calibration` is")
    failed(run("tflite", keras_file, out, "--scheme", "x"), "float32, float16")
    failed(run("check", keras_file), "must be a whole TFLite file")
    failed(run("verify", keras_file, out, "--data", tmp_path), "must be a file or")
    assert run("tflite").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_bad_input_of_a_process(folder, tmp_path):
    command = ("-m", "export", "check", folder / "model.keras")
    done = in_a_process(*command, backend="tensorflow")
    failed(done, "must be a whole TFLite file")


MODEL = """
import sys
import numpy as np
import export, vit_keras
import keras
from tests.models import exported
from tests.vit_keras.backends import FAST
model = exported(num_layers=1)
pixels = np.load(sys.argv[1])
out = sys.argv[2]
"""
TFLITE = """
labels = list("abcdefghij")
report = export.to_tflite(
    model, out + "/m.tflite", scheme="int8", calibration=pixels, labels=labels
)
assert report.parity.passed and report.labels == labels, report
assert export.verify(model, out + "/m.tflite", pixels).sqnr_db > 10
"""
CUT = """
cut = keras.Model(model.input, model.get_layer("pooling").output)
rules = vit_keras.Preprocessing(mean=(0.4, 0.5, 0.6))
report = export.to_tflite(cut, out + "/cut.tflite", preprocessing=rules)
assert tuple(report.preprocessing["mean"]) == rules.mean
"""
SAVED_MODEL = """
report = export.to_saved_model(model, out + "/1")
assert report.parity.passed
assert export.verify(model, out + "/1", pixels).sqnr_db > 80
try:
    export.to_tflite(model, out + "/x.tflite", labels=["a"])
except ValueError as error:
    assert "`labels` must have 10 names" in str(error), error
else:
    raise SystemExit("bad labels were accepted")
try:
    export.to_saved_model(model, out + "/1")
except FileExistsError:
    pass
else:
    raise SystemExit("the directory was written over")
"""
DONE = """
print(keras.backend.backend(), "done")
"""


def exports(script, backend, folder, out):
    """Runs a script on a model of a backend, where that is installed."""
    if backend == "torch" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    pixels = folder / "pixels.npy"
    done = in_a_process("-c", MODEL + script + DONE, pixels, out, backend=backend)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"{backend} done")


@pytest.mark.parametrize(
    "backend", ["jax", pytest.param("torch", marks=pytest.mark.slow)]
)
def test_tflite_of_a_model_of_another_backend(backend, folder, tmp_path):
    exports(TFLITE, backend, folder, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_preprocessing_of_a_model_of_another_backend(backend, folder, tmp_path):
    exports(CUT, backend, folder, tmp_path)


@pytest.mark.slow  # of JAX, test_serving_cli.py shows it in a SavedModel of more
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_saved_model_of_a_model_of_another_backend(backend, folder, tmp_path):
    exports(SAVED_MODEL, backend, folder, tmp_path)

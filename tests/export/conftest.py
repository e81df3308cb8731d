"""One small model, real images and the files made of them, for all export tests."""

import functools
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import export
import vit_keras
from tests.models import exported


@pytest.fixture(scope="session", autouse=True)
def few_measured():
    """Means of keys and values are those of 8 images: the rewrite is exact with any.
    SavedModels are proven on many images at a time, not one: these are small.

    The demo, the README and the programs in other processes have the usual numbers.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.graph.build.MEASURED_ON", 8)
        patch.setattr("export.serving.saved_model.BATCH", 16)
        yield


@pytest.fixture(scope="session")
def model():
    return exported()


def digits(*numbers):
    """Some of the digits, enlarged: (N, 32, 32, 3) uint8."""
    from vit_keras import data

    chosen = data.digits()[0].take(np.arange(*numbers))
    ready, _ = data.prepare(chosen, (32, 32), vit_keras.Preprocessing())
    return ready.images


@pytest.fixture(scope="session")
def pixels():
    """48 real images, (48, 32, 32, 3) uint8."""
    return digits(48)


@pytest.fixture(scope="session")
def others():
    """24 more, (24, 32, 32, 3) uint8."""
    return digits(48, 72)


@pytest.fixture(scope="session")
def tflite_of(model, pixels, tmp_path_factory):
    """A function of scheme and options: the model's `.tflite` file and its report.

    Calibrated on all images, and written once for all tests that ask for the same:
    a test that changes a file makes a copy.
    """

    @functools.cache
    def written(scheme, **options):
        path = tmp_path_factory.mktemp(scheme) / "m.tflite"
        report = export.to_tflite(
            model, path, scheme=scheme, calibration=pixels, **options
        )
        return path, report

    return lambda scheme="float32", **options: written(scheme, **options)


@pytest.fixture
def in_mediapipe():
    """Runs `in_mediapipe.py` in the environment that `make test` sets up."""
    python = pathlib.Path(sys.prefix) / "mediapipe" / "bin" / "python"
    if not python.exists():
        pytest.skip("MediaPipe is not installed: make .venv/mediapipe/installed")

    def call(*arguments):
        script = pathlib.Path(__file__).with_name("in_mediapipe.py")
        command = [python, script, *arguments]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call

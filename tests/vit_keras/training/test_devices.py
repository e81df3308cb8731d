"""Two devices give the loss curve of one, on virtual devices of the CPU."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from vit_keras.training.devices import spread

ROOT = pathlib.Path(__file__).parents[3]
SCRIPT = """
import io, json, sys
import keras
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    tf.config.experimental.enable_op_determinism()
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, parts)
from rich.console import Console
from vit_keras.training import RECIPES, train
# Keras clips on each device by itself, which is another computation.
recipe = RECIPES["digits"].replace(
    epochs=2, clip_norm=None, mixup=0.2, ema=0.9,
    model={"image_size": 8, "patch_size": 4, "num_layers": 2, "hidden_size": 32,
           "num_heads": 2, "mlp_dim": 32},
)
for devices in (None, 2):
    out = f"{sys.argv[1]}/{devices}"
    train("digits", recipe, out, devices=devices, console=Console(file=io.StringIO()))
print(json.dumps(keras.distribution.distribution() is None))
"""


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="starts the backends itself"
)
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_train_as_one(backend, tmp_path):
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])  # as it was before
    one, two = (
        np.genfromtxt(tmp_path / name / "history.csv", delimiter=",", names=True)
        for name in ("None", "2")
    )
    assert len(one) == 2
    # The sum over a batch in another order, through 40 steps of AdamW.
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-4)
    np.testing.assert_allclose(two["val_loss"], one["val_loss"], rtol=1e-3)
    # What two devices leave opens on one.
    models = [
        keras.models.load_model(tmp_path / n / "model.keras") for n in ("None", "2")
    ]
    for a, b in zip(*(m.get_weights() for m in models), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_more_devices_than_there_are():
    with pytest.raises(ValueError, match="`devices` must be"), spread(999):
        pass


def test_one_device_changes_nothing():
    before = keras.distribution.distribution()
    with spread(1):
        assert keras.distribution.distribution() is before

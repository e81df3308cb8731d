"""Training over devices and processes, as a program and as what the tests ask of it.

    python -m tests.vit_keras.training.spread FOLDER NAME:DEVICES:PARTS[!] ...

One run after the other in one process: `FOLDER/NAME` over DEVICES (0 for the default),
split in PARTS; with "!" it is stopped after its first checkpoint, and a later one of
the same name goes on from there. JAX and TensorFlow fix their devices when they start.
"""

import contextlib
import io
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
from rich.console import Console

from tests.vit_keras.training.runs import SHORT, SIZES, few
from vit_keras.training import checkpoint, fitting, train
from vit_keras.training.processes import barrier, process_index

ROOT = pathlib.Path(__file__).parents[3]
ON_JAX = keras.backend.backend() == "jax"
RECIPE = SHORT.replace(
    # The norm of nearly every gradient is above this. Adam would hide an error in it.
    clip_norm=0.5,
    optimizer="adamw" if ON_JAX else "sgd",
    # Each device of TensorFlow draws its own dropout.
    model={**SIZES, "num_layers": 2, "dropout": 0.1 if ON_JAX else 0.0},
    **dict(epochs=3, mixup=0.2, ema=0.9, patience=5),
)


class Stopped(Exception):
    """In place of a kill."""


class Stopping(checkpoint.SaveCheckpoint):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        raise Stopped


def main(folder, *runs):
    if not ON_JAX:
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, parts)
        tf.config.experimental.enable_op_determinism()
    said = io.StringIO()
    for run in runs:
        name, devices, parts = run.rstrip("!").split(":")
        fitting.SaveCheckpoint = (
            Stopping if run.endswith("!") else checkpoint.SaveCheckpoint
        )
        with contextlib.suppress(Stopped):
            model = train(
                *(few(120), RECIPE),
                out=f"{folder}/{name}",
                devices=int(devices) or None,
                model_parallel=int(parts),
                console=Console(file=said),
            )
            for weight in model.weights if ON_JAX else ():
                spec = getattr(weight.value.sharding, "spec", None)
                print(name, weight.path, spec, weight.shape)
        barrier()
    assert keras.distribution.distribution() is None  # as it was before
    assert bool(said.getvalue()) == (process_index()[0] == 0)


@contextlib.contextmanager
def running(*arguments, **environment):
    """A process of this program, which does not outlive the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, *map(str, arguments)],
        cwd=ROOT,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(*arguments, backend="jax", processes=1, devices=1):
    """What process 0 printed; `devices` are those that each process has."""
    # What runs for a second is not worth much of a compiler's time.
    flags = f"--xla_force_host_platform_device_count={devices}"
    flags += " --xla_backend_optimization_level=0"
    environment = {"KERAS_BACKEND": backend, "XLA_FLAGS": flags}
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment |= {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(processes),
        }
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(processes):
            environment["KERAS_DISTRIBUTION_PROCESS_ID"] = str(number)
            started.append(stack.enter_context(running(*arguments, **environment)))
        ends = [process.communicate(timeout=600) for process in started]
        for process, (_, errors) in zip(started, ends, strict=True):
            assert process.returncode == 0, errors[-3000:]
    return ends[0][0]


def same_run(first, second):
    """Equal up to the order of a sum over the batch, through all steps."""
    a, b = (
        np.genfromtxt(run / "history.csv", delimiter=",", names=True)
        for run in (first, second)
    )
    assert len(a) == len(b) == RECIPE.epochs
    np.testing.assert_allclose(b["loss"], a["loss"], rtol=1e-4)
    np.testing.assert_allclose(b["val_loss"], a["val_loss"], rtol=1e-3)
    files = {path.name for path in first.iterdir()}
    assert files == {path.name for path in second.iterdir()} >= {"model.keras"}
    models = [keras.models.load_model(run / "model.keras") for run in (first, second)]
    for v, w in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(v, w, atol=2e-3)


if __name__ == "__main__":
    main(*sys.argv[1:])

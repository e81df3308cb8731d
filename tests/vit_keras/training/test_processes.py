"""Two processes on this machine, and a model split over devices, train as one device.

The runs are subprocesses: JAX fixes its processes and devices when it starts.
"""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from vit_keras.presets import get_config
from vit_keras.training.devices import choose
from vit_keras.training.processes import start

ROOT = pathlib.Path(__file__).parents[3]
# Arguments: folder, images, epochs, devices, model_parallel, names of runs; a name that
# ends in "!" is stopped after its first checkpoint.
SCRIPT = """
import io, sys
import keras, numpy as np
from rich.console import Console
from vit_keras import data
from vit_keras.training import RECIPES, train
from vit_keras.training.checkpoint import Checkpoint
from vit_keras.training.processes import process, wait

folder, images, epochs, devices, split, *names = sys.argv[1:]
# Norms of gradients are summed in another order: no clipping, as in test_devices.py.
recipe = RECIPES["digits"].replace(
    epochs=int(epochs), batch_size=40, clip_norm=None, mixup=0.2,
    ema=0.9, warmup=0.0, patience=5,
    model={"image_size": 8, "patch_size": 4, "num_layers": 2, "hidden_size": 32,
           "num_heads": 2, "mlp_dim": 32, "dropout": 0.1},
)
class Stopped(Exception):
    pass
class Stopping(Checkpoint):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        raise Stopped
import vit_keras.training.fit as fit
digits = data.digits()[0].take(np.arange(int(images)))
said = io.StringIO()
for name in names:
    fit.Checkpoint = Stopping if name.endswith("!") else Checkpoint
    try:
        model = train(
            digits, recipe, folder + "/" + name.rstrip("!"),
            devices=int(devices) or None, model_parallel=int(split),
            console=Console(file=said),
        )
    except Stopped:
        wait()
    else:
        for weight in model.weights:
            if weight.path.endswith(("query/kernel", "dense2/kernel", "head/kernel")):
                spec = getattr(weight.value.sharding, "spec", None)
                print(weight.path, spec, weight.shape)
assert keras.distribution.distribution() is None
assert bool(said.getvalue()) == (process()[0] == 0)
"""
only_once = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="starts the backend itself"
)


@contextlib.contextmanager
def running(*arguments, **environment):
    """A process of SCRIPT, which does not outlive the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(ROOT),
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


def run(*arguments, processes=1, devices=1):
    """What process 0 printed; `devices` are those of each process."""
    environment = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
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
        ends = [process.communicate(timeout=300) for process in started]
        for process, (_, errors) in zip(started, ends, strict=True):
            assert process.returncode == 0, errors[-3000:]
    return ends[0][0]


def same_run(first, second):
    """Equal up to the order of a sum over the batch, through all steps of AdamW."""
    a, b = (
        np.genfromtxt(run / "history.csv", delimiter=",", names=True)
        for run in (first, second)
    )
    assert len(a) == len(b) > 1
    np.testing.assert_allclose(b["loss"], a["loss"], rtol=1e-4)
    np.testing.assert_allclose(b["val_loss"], a["val_loss"], rtol=1e-3)
    files = {path.name for path in first.iterdir()}
    assert files == {path.name for path in second.iterdir()} >= {"model.keras"}
    models = [keras.models.load_model(run / "model.keras") for run in (first, second)]
    for v, w in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(v, w, atol=2e-3)


@only_once
def test_two_processes_train_as_one(tmp_path):
    run(tmp_path, 120, 2, 0, 1, "one")
    run(tmp_path, 120, 2, 0, 1, "two", processes=2)
    same_run(tmp_path / "one", tmp_path / "two")


@only_once
@pytest.mark.slow
def test_processes_take_up_what_others_left(tmp_path):
    sizes = (tmp_path, 400, 3, 0, 1)
    run(*sizes, "one", "one-two!")
    run(*sizes, "two", "two-one!", "one-two", processes=2, devices=2)
    run(*sizes, "two-one")
    for name in ("two", "two-one", "one-two"):
        same_run(tmp_path / "one", tmp_path / name)


@only_once
def test_split_model_trains_as_whole(tmp_path):
    run(tmp_path, 120, 2, 0, 1, "one", devices=4)
    printed = run(tmp_path, 120, 2, 4, 2, "split", devices=4)
    for line in (
        "encoderblock_1/attention/query/kernel P(None, 'model') (32, 32)",
        "encoderblock_1/mlp/dense2/kernel P('model', None) (32, 32)",
        "head/kernel P(None, None) (32, 10)",
    ):
        assert line in printed.splitlines()
    same_run(tmp_path / "one", tmp_path / "split")


@only_once
@pytest.mark.slow
def test_split_model_goes_on_whole_and_the_other_way_round(tmp_path):
    whole, split = (tmp_path, 400, 3, 0, 1), (tmp_path, 400, 3, 4, 2)
    run(*whole, "one", "one-split!", devices=4)
    run(*split, "split", "split-one!", "one-split", devices=4)
    run(*whole, "split-one", devices=4)
    for name in ("split", "split-one", "one-split"):
        same_run(tmp_path / "one", tmp_path / name)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="the backend that can")
def test_other_backends_name_the_one_that_can(monkeypatch):
    with pytest.raises(ValueError, match="`model_parallel` must be 1 on the backend"):
        choose(2, 2, get_config("vit_ti16"))
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match="must be jax"):
        start()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its variable")
def test_workers_of_tensorflow_are_refused(monkeypatch):
    workers = '{"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}}'
    monkeypatch.setenv("TF_CONFIG", workers)
    with pytest.raises(ValueError, match="must be jax"):
        start()
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["127.0.0.1:1"]}}')
    assert start() == (0, 1)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="splits on jax only")
@pytest.mark.parametrize(
    "devices, parts, name",
    [(3, 2, "devices"), (None, 2, "devices"), (2, 2, "num_heads"), (5, 5, "num_heads")],
)
def test_parts_must_fit(devices, parts, name):
    with pytest.raises(ValueError, match=f"divisor of `{name}`"):  # it has 3 heads
        choose(devices, parts, get_config("vit_ti16"))

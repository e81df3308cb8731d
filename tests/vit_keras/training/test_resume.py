"""A run that was killed and goes on ends with the weights of an unbroken one."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from tests.models import eagerly
from tests.vit_keras.training.runs import SHORT, few, quiet, same
from vit_keras.training import Recipe, checkpoint, train
from vit_keras.training.checkpoint import STATE, WEIGHTS, find_last, open_last

# All that draws or remembers.
EVERYTHING = SHORT.replace(
    preset=None,  # fine-tuning: the weights of another library, with a new head
    weights=str(pathlib.Path(__file__).parents[2] / "golden" / "hf-vit"),
    model={"dropout": 0.2, "drop_path_rate": 0.2},
    epochs=4,
    precision="float32",
    validation_split=0.2,
    **dict(mixup=0.5, cutmix=0.5, erase=0.3, randaugment=2, flip=True),
    **dict(ema=0.9, layer_decay=0.8, warmup=0.2, class_weights="balanced"),
)
PROGRAM = """
import contextlib, json, sys
from tests.models import eagerly
from tests.vit_keras.training.runs import few, quiet
from vit_keras.training import Recipe, train
with eagerly() if sys.argv[3:] else contextlib.nullcontext():
    train(few(), Recipe(**json.loads(sys.argv[1])), out=sys.argv[2], console=quiet())
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    with eagerly():
        return train(few(), EVERYTHING, out=out, console=quiet())


def start(out, recipe=EVERYTHING, *options):
    command = [sys.executable, "-c", PROGRAM, json.dumps(recipe.to_dict()), str(out)]
    command += options
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for_checkpoint(process, out, after=0):
    while process.poll() is None:
        last = find_last(out)
        if last is not None and last[1]["interval"] > after:
            return
        time.sleep(0.005)
    raise AssertionError(process.stderr.read().decode())


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("eager")
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the subprocess costs a minute"
)
def test_killed_run_goes_on(unbroken, tmp_path):
    process = start(tmp_path, EVERYTHING, "eagerly")
    wait_for_checkpoint(process, tmp_path)
    kill(process)
    done = find_last(tmp_path)[1]["interval"]
    assert 1 <= done < EVERYTHING.epochs
    console = quiet()
    model = train(few(), EVERYTHING, out=tmp_path, console=console)
    assert f"resuming from step {2 * done}" in console.file.getvalue()
    assert same(model, unbroken)
    names = ["best.keras", "history.csv", "labels.txt", "model.keras", "recipe.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [*names, "report.html"]
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 5


@pytest.mark.slow
def test_ten_kills(tmp_path):
    recipe = EVERYTHING.replace(epochs=60)
    draws = random.Random(0)
    for _ in range(10):
        last = find_last(tmp_path / "killed")
        process = start(tmp_path / "killed", recipe)
        after = last[1]["interval"] if last else 0
        wait_for_checkpoint(process, tmp_path / "killed", after)
        time.sleep(draws.uniform(0, 0.2))
        if process.poll() is not None:
            break
        kill(process)
    model = None
    if not (tmp_path / "killed" / "model.keras").exists():
        model = train(few(), recipe, out=tmp_path / "killed", console=quiet())
    model = model or keras.models.load_model(tmp_path / "killed" / "model.keras")
    assert same(model, train(few(), recipe, out=tmp_path / "whole", console=quiet()))


class Stopped(Exception):
    """In place of a kill, in the same process."""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that ended after its first checkpoint."""
    out = tmp_path_factory.mktemp("stopped")
    write = checkpoint.SaveCheckpoint.on_epoch_end

    def stop(self, epoch, logs=None):
        write(self, epoch, logs)
        raise Stopped

    with pytest.MonkeyPatch.context() as patch, eagerly():
        patch.setattr(checkpoint.SaveCheckpoint, "on_epoch_end", stop)
        with pytest.raises(Stopped):
            train(few(), EVERYTHING, out=out, console=quiet())
    return out


def test_another_recipe_is_refused(stopped):
    with pytest.raises(ValueError, match="holds the checkpoint of another recipe"):
        train(few(), EVERYTHING.replace(mixup=0.4), out=stopped, console=quiet())


def test_checkpoint_tells_its_recipe(stopped):
    folder, state = find_last(stopped)
    assert folder.name == "000001" and state["interval"] == 1
    assert Recipe(**state["recipe"]) == EVERYTHING
    assert len(state["random"]) > 0


def test_damaged_weights_are_named(stopped, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    file = find_last(out)[0] / WEIGHTS
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match="000001' cannot be read.*remove it"):
        train(few(), EVERYTHING, out=out, console=quiet())


@pytest.mark.parametrize(
    "state", [[], {}, {"interval": 1}, {"recipe": {}, "random": 1}]
)
def test_states_of_another_kind_are_named(state, tmp_path):
    folder = tmp_path / "checkpoint" / "000001"
    folder.mkdir(parents=True)
    (folder / STATE).write_text(json.dumps(state))
    (folder / WEIGHTS).write_bytes(b"")
    with pytest.raises(
        ValueError, match="000001' cannot be read.*another kind.*remove"
    ):
        open_last(tmp_path)


@pytest.mark.parametrize("damage", ["no state", "half a state", "no weights"])
def test_incomplete_checkpoint_is_passed_over(tmp_path, damage):
    for number in (1, 2):
        folder = tmp_path / "checkpoint" / f"{number:06d}"
        folder.mkdir(parents=True)
        (folder / STATE).write_text(json.dumps({"interval": number}))
        (folder / WEIGHTS).write_bytes(b"")
    assert find_last(tmp_path)[1]["interval"] == 2
    if damage == "half a state":
        (folder / STATE).write_text('{"interval"')
    else:
        (folder / (STATE if damage == "no state" else WEIGHTS)).unlink()
    assert find_last(tmp_path)[1]["interval"] == 1
    shutil.rmtree(tmp_path / "checkpoint" / "000001")
    assert find_last(tmp_path) is None


@pytest.mark.usefixtures("eager")
def test_incomplete_checkpoint_is_replaced(stopped, unbroken, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    following = tmp_path / "run" / "checkpoint" / "000002"
    following.mkdir()
    (following / WEIGHTS).write_bytes(b"half")
    model = train(few(), EVERYTHING, out=tmp_path / "run", console=quiet())
    assert same(model, unbroken)
    assert all(np.isfinite(w).all() for w in model.get_weights())

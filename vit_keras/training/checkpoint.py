"""What a killed run leaves, and how the same command goes on from it.

`RUN/checkpoint/000012/` holds the state after 12 segments: the weights with the
optimizer and its average (`state.weights.h5`), and `state.json` with the recipe, the
history and the random state. A folder appears by one rename when all of it is written;
then the one before it goes. `RUN/best.weights.h5` are the best weights so far.
"""

import json
import os
import pathlib
import shutil
import time

import keras
import numpy as np

from ..atomic import leftovers, staged
from .processes import alone, process

FOLDER = "checkpoint"
WEIGHTS, STATE = "state.weights.h5", "state.json"


def find_last(out: pathlib.Path) -> tuple[pathlib.Path, dict] | None:
    """The newest complete checkpoint of a run and its state, or None."""
    folders = sorted((out / FOLDER).glob("[0-9]*"), reverse=True)
    for folder in folders:
        try:
            state = json.loads((folder / STATE).read_text())
        except (OSError, ValueError):
            continue
        if (folder / WEIGHTS).is_file():
            return folder, state
    return None


def check_writable(out: pathlib.Path) -> None:
    """Make the folder of a run, try to write to it, and clear what a kill left there.

    Raises:
        OSError: it can not be made or written to.
    """
    probe = out / ".probe"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"`out` must be a folder that can be written to: {error}"
        ) from error
    for part in leftovers(out):
        part.unlink()


def check_room(out: pathlib.Path, model) -> None:
    """Compare the disk of a run with what it needs.

    Raises:
        OSError: the disk is too small.
    """
    # Weights, two moments and an average, twice while one replaces the other, and the
    # model itself.
    needed = model.count_params() * 4 * (2 * 4 + 2)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise OSError(
            f"`out` must have room for checkpoints: '{out}' has {free / 1e6:,.1f} MB "
            f"free, {needed / 1e6:,.1f} MB are needed"
        )


class Checkpoint(keras.callbacks.Callback):
    """Writes the state after a segment, in process 0.

    After the first one and the last one, and between them after so many that writing
    takes at most a tenth of the time: small models end a segment each second.

    Arguments:
        out: folder of the run.
        state: what goes into `state.json`; `segment` and `history` are kept up to date.
        watch: whose `message` tells that the weights are of no use.
    """

    def __init__(self, out, state, watch):
        super().__init__()
        self.out, self.state, self.watch = pathlib.Path(out), state, watch
        self.due = 0.0

    def on_epoch_end(self, epoch, logs=None):
        if self.watch.message or process()[0]:
            return
        row = {name: float(value) for name, value in (logs or {}).items()}
        self.state["history"].append({"segment": epoch, **row})
        write_csv(self.out / "history.csv", self.state["history"])
        started = time.monotonic()
        last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if last or started >= self.due:
            self.write(epoch + 1)
            self.due = time.monotonic() + 9 * (time.monotonic() - started)

    def write(self, segment):
        """The state after `segment` segments, in place of the one before."""
        self.state["segment"] = segment
        folder = self.out / FOLDER / f"{segment:06d}"
        beside = folder.with_name(f".{folder.name}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            with alone():
                self.model.save_weights(beside / WEIGHTS)
            self.state["random"] = [
                keras.ops.convert_to_numpy(state.value).tolist()
                for state in random_states(self.model)
            ]
            (beside / STATE).write_text(json.dumps(self.state))
            shutil.rmtree(folder, ignore_errors=True)  # one that `find_last` left out
            os.replace(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        for older in folder.parent.iterdir():
            if older != folder:  # also what a kill left half written
                shutil.rmtree(older, ignore_errors=True)


def write_csv(path: pathlib.Path, rows: list[dict]) -> None:
    """The history as a table, in one step."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names)]
    lines += [",".join(str(row.get(name, "")) for name in names) for row in rows]
    with staged(path) as beside:
        beside.write_text("\n".join(lines) + "\n")


def random_states(model):
    """The variables that dropout draws from; Keras does not save them as weights."""
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]


def restore(model, folder: pathlib.Path, state: dict) -> None:
    """Weights, optimizer and random state of a checkpoint into a compiled model.

    Raises:
        ValueError: the checkpoint is damaged.
    """
    try:
        with alone():
            model.load_weights(folder / WEIGHTS)
        for variable, value in zip(random_states(model), state["random"], strict=True):
            variable.assign(np.array(value, variable.dtype))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"the checkpoint '{folder}' can not be read ({error}); remove it to start "
            "again"
        ) from error

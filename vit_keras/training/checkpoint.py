"""Checkpoints of a run, from which the same command resumes.

`RUN/checkpoint/000012/` has the state after 12 intervals: the weights, the optimizer
and its moving average (`state.weights.h5`), and `state.json` with the recipe, history
and random state. A folder is renamed into place once complete; then the previous one is
deleted. `RUN/best.weights.h5` has the best weights so far.
"""

import json
import pathlib
import shutil
import time

import keras
import numpy as np

from ..atomic import publishing
from .processes import process_index, undistributed

FOLDER = "checkpoint"
WEIGHTS, STATE = "state.weights.h5", "state.json"


def find_last(out: pathlib.Path) -> tuple[pathlib.Path, dict] | None:
    """Return the newest complete checkpoint of a run and its state, or None."""
    folders = sorted((out / FOLDER).glob("[0-9]*"), reverse=True)
    for folder in folders:
        try:
            state = json.loads((folder / STATE).read_text())
        except (OSError, ValueError):
            continue
        if (folder / WEIGHTS).is_file():
            return folder, state
    return None


def check_room(out: pathlib.Path, model) -> None:
    """Check that a run's disk has room for its files.

    Raises:
        OSError: the disk has too little free space.
    """
    # Weights, two moments and an average, twice while a checkpoint is replaced, and the
    # model itself.
    needed = model.count_params() * 4 * (2 * 4 + 2)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise OSError(
            f"`out` must have room for checkpoints: '{out}' has {free / 1e6:,.1f} MB "
            f"free, {needed / 1e6:,.1f} MB are needed"
        )


class SaveCheckpoint(keras.callbacks.Callback):
    """Writes checkpoints after intervals, in process 0.

    The first and the last interval are saved, and others so rarely that writing takes
    at most a tenth of the time: small models end an interval each second.

    Arguments:
        out: folder of the run.
        state: contents of `state.json`; `interval` and `history` are updated.
        watch: a `StopOnNaN`; once it has a `message`, nothing is saved.
    """

    def __init__(self, out, state, watch):
        super().__init__()
        self.out, self.state, self.watch = pathlib.Path(out), state, watch
        self.due = 0.0

    def on_epoch_end(self, epoch, logs=None):
        if self.watch.message or process_index()[0]:
            return
        row = {name: float(value) for name, value in (logs or {}).items()}
        step = (epoch + 1) * self.watch.steps
        self.state["history"].append({"interval": epoch, "step": step, **row})
        write_csv(self.out / "history.csv", self.state["history"])
        started = time.monotonic()
        last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if last or started >= self.due:
            self.write(epoch + 1)
            self.due = time.monotonic() + 9 * (time.monotonic() - started)

    def write(self, interval):
        """Write the state after `interval` intervals, and delete the previous one."""
        self.state["interval"] = interval
        folder = self.out / FOLDER / f"{interval:06d}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Replaces an incomplete folder that `find_last` skipped, if there is one.
        with publishing(folder, folder=True) as work:
            work.mkdir()
            with undistributed():
                self.model.save_weights(work / WEIGHTS)
            self.state["random"] = [
                keras.ops.convert_to_numpy(state.value).tolist()
                for state in random_states(self.model)
            ]
            (work / STATE).write_text(json.dumps(self.state))
        for older in folder.parent.iterdir():
            if older != folder:  # incomplete ones too
                shutil.rmtree(older, ignore_errors=True)


def write_csv(path: pathlib.Path, rows: list[dict]) -> None:
    """Write the history as a CSV table, atomically."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names)]
    lines += [",".join(str(row.get(name, "")) for name in names) for row in rows]
    with publishing(path) as work:
        work.write_text("\n".join(lines) + "\n")


def random_states(model):
    """Return the states of dropout's generators, which Keras does not save."""
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]


def restore(model, folder: pathlib.Path, state: dict) -> None:
    """Restore weights, optimizer and random state of a checkpoint in a compiled model.

    Raises:
        ValueError: the checkpoint is damaged.
    """
    try:
        with undistributed():
            model.load_weights(folder / WEIGHTS)
        for variable, value in zip(random_states(model), state["random"], strict=True):
            variable.assign(np.array(value, variable.dtype))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"the checkpoint '{folder}' cannot be read ({error}); remove it to start "
            "again"
        ) from error

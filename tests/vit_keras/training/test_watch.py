"""What looks at a run while it goes: each callback by itself."""

import io
import json

import keras
from rich.console import Console

from tests.models import tiny
from vit_keras import atomic, create_model
from vit_keras.training import checkpoint, progress
from vit_keras.training.callbacks import StopOnNaN
from vit_keras.training.checkpoint import SaveCheckpoint, find_last


class Weights:
    """A model as `StopOnNaN` sees it."""

    stop_training = False

    def __init__(self, *values):
        self.trainable_variables = [
            keras.Variable([v], dtype="float32") for v in values
        ]


def test_watch_names_the_first_bad_step():
    watch = StopOnNaN(10, {"interval": 3})
    watch.set_model(Weights(1.0))
    watch.on_epoch_begin(4)
    for batch in (0, 1, 2):
        watch.on_train_batch_end(batch, {"loss": 0.5})
    assert not watch.message and not watch.model.stop_training
    for batch in (5, 3, 4):  # threads may come in another order
        watch.on_train_batch_end(batch, {"loss": float("nan")})
    assert watch.model.stop_training
    assert "became nan at step 44:" in watch.message
    assert watch.message.endswith("The last good checkpoint is that of step 30")


def test_watch_looks_at_the_weights():
    """The last step of an interval may spoil them after its loss was computed."""
    watch = StopOnNaN(10, {"interval": 0})
    watch.set_model(Weights(1.0, 2.0))
    watch.on_epoch_end(0)
    assert not watch.message
    watch.set_model(Weights(1.0, float("inf")))
    watch.on_epoch_end(0)
    assert "the weights became infinite or NaN at step 10" in watch.message


def test_bar_counts_steps_and_prints_where_it_can_not_draw(monkeypatch):
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    console = Console(file=io.StringIO(), width=100)
    with progress.new_bar(console) as bar:
        callback = progress.ProgressBar(bar, steps=5, images=64, done=2)
        callback.set_params({"epochs": 4})
        callback.on_train_begin()
        for batch in (0, 2, 1, 4, 3):  # threads may come in another order
            callback.on_train_batch_end(batch, {"loss": 0.5 + batch})
        (task,) = bar.tasks
        assert (task.completed, task.total) == (15, 20)
        callback.on_epoch_end(2, {"val_accuracy": 0.25})
        callback.on_train_batch_end(0, {"loss": 1.25})
        assert task.completed == 16
        assert task.fields["text"].startswith("loss 1.250  val 25.0%")
        assert task.fields["text"].endswith("images/s")
    said = console.file.getvalue()
    assert "step 15 of 20, 0:00:0" in said and "left: loss 3.500" in said
    (line,) = (row for row in said.splitlines() if row.startswith("step 15"))
    assert line.count("val 25.0%") == 1


def checkpointing(folder, epochs, seconds, monkeypatch):
    """Numbers of the intervals after which a checkpoint was written.

    An interval takes a second, a checkpoint as many as given.
    """
    clock, written = [0.0], []

    def write(self, interval):
        clock[0] += seconds
        written.append(interval)

    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(SaveCheckpoint, "write", write)
    callback = SaveCheckpoint(folder, {"interval": 0, "history": []}, StopOnNaN(1))
    callback.set_model(keras.Sequential())
    callback.set_params({"epochs": epochs})
    callback.model.stop_training = False
    for epoch in range(epochs):
        clock[0] += 1.0
        callback.on_epoch_end(epoch, {"loss": 1.0})
    return written


def test_checkpoints_take_a_tenth_of_the_time(tmp_path, monkeypatch):
    written = checkpointing(tmp_path, 40, 1.0, monkeypatch)
    assert written == [1, 10, 19, 28, 37, 40]
    assert checkpointing(tmp_path, 4, 0.1, monkeypatch) == [1, 2, 3, 4]
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 5


def test_a_checkpoint_replaces_all_others(tmp_path):
    model = create_model(tiny())
    model.compile("sgd", "mse")
    folder = tmp_path / "checkpoint"
    (folder / "000001").mkdir(parents=True)
    (folder / ".000002").mkdir()  # what a kill left
    state = {"interval": 1, "history": []}
    callback = SaveCheckpoint(tmp_path, state, StopOnNaN(1))
    callback.set_model(model)
    callback.write(3)
    assert [path.name for path in folder.iterdir()] == ["000003"]
    found, state = find_last(tmp_path)
    assert found == folder / "000003" and state["interval"] == 3
    assert json.loads((found / "state.json").read_text()) == state


def test_leftovers_of_a_kill_are_cleared(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".partial-1-best.weights.h5").write_bytes(b"half")
    (tmp_path / "run" / "labels.txt").write_text("a")
    atomic.check_writable(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["labels.txt"]

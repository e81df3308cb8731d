"""A progress bar for `fit`, and for reading files."""

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)


def new_bar(console: Console | None = None, **options) -> Progress:
    """A bar with count, remaining time and a free text at its end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
        **options,
    )


class ProgressBar(keras.callbacks.Callback):
    """One line for the whole run: epoch, remaining time, loss, accuracy, images/s.

    Arguments:
        bar: an open bar from `new_bar`; whoever opened it closes it, so that the
            terminal is whole again after an interrupt.
        done: segments that an earlier part of the run has done.
    """

    def __init__(self, bar: Progress, done: int = 0):
        super().__init__()
        self.bar = bar
        self.done = done

    def on_train_begin(self, logs=None):
        self.task = self.bar.add_task(
            "training",
            total=self.params["epochs"],
            completed=self.done,
            text="compiling",
        )

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        text = [f"loss {logs.get('loss', float('nan')):.3f}"]
        if "val_accuracy" in logs:
            text.append(f"validation {logs['val_accuracy']:.1%}")
        if "images_per_second" in logs:
            text.append(f"{logs['images_per_second']:.0f} images/s")
        self.bar.update(self.task, advance=1, text="  ".join(text))

"""A progress bar for `fit`, and for reading files."""

import time

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
        images: number of training images per epoch.
    """

    def __init__(self, bar: Progress, images: int):
        super().__init__()
        self.bar = bar
        self.images = images

    def on_train_begin(self, logs=None):
        self.task = self.bar.add_task(
            "training", total=self.params["epochs"], text="compiling"
        )

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        speed = self.images / (time.perf_counter() - self.started)
        text = [f"loss {logs.get('loss', float('nan')):.3f}"]
        if "val_accuracy" in logs:
            text.append(f"validation {logs['val_accuracy']:.1%}")
        text.append(f"{speed:.0f} images/s")
        self.bar.update(self.task, advance=1, text="  ".join(text))

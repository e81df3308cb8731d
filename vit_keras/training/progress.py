"""Progress bars for `fit` and for reading files."""

import datetime
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

from ..heads import HEADS

# Seconds between two lines without a terminal, such as in a log file.
SILENCE = 30.0


def new_bar(console: Console | None = None, **options) -> Progress:
    """Return a bar with count, remaining time and a free text at its end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),  # the remaining width
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
        expand=True,
        **options,
    )


class ProgressBar(keras.callbacks.Callback):
    """Progress bar of the whole run: steps, remaining time, loss, accuracy, images/s.

    Without a terminal, a line is printed from time to time.

    Arguments:
        bar: an open bar from `new_bar`; its opener closes it, which restores the
            terminal after an interrupt.
        steps: number of steps in an interval.
        images: number of images in a step.
        done: number of intervals done before a resume.
    """

    async_safe = True  # see `StopOnNaN`

    def __init__(self, bar: Progress, steps: int, images: int, done: int = 0):
        super().__init__()
        self.bar, self.steps, self.images, self.done = bar, steps, images, done
        self.loss = self.validation = self.speed = ""
        self.said = time.monotonic()

    def on_train_begin(self, logs=None):
        total, done = (n * self.steps for n in (self.params["epochs"], self.done))
        self.task = self.bar.add_task(
            "training", total=total, completed=done, text="compiling"
        )

    def on_train_batch_end(self, batch, logs=None):
        # Threads may arrive in another order than the steps.
        completed = max(self.done * self.steps + batch + 1, self._row().completed)
        self.loss = f"loss {(logs or {}).get('loss', float('nan')):.3f}"
        if speed := self._row().speed:
            self.speed = f"  {speed * self.images:,.0f} images/s"
        self.bar.update(self.task, completed=completed, text=self._text())

    def on_epoch_end(self, epoch, logs=None):
        self.done = epoch + 1
        for kind in HEADS.values():
            if (value := (logs or {}).get(f"val_{kind.metric}")) is not None:
                text = f"{value:.1%}" if kind.higher_is_better else f"{value:.4g}"
                self.validation = f"  val {text}"
        if self.bar.console.is_terminal or time.monotonic() < self.said + SILENCE:
            return
        row, self.said = self._row(), time.monotonic()
        left = datetime.timedelta(seconds=round(row.time_remaining or 0))
        self.bar.console.print(
            f"step {row.completed:.0f} of {row.total:.0f}, {left} left: {self._text()}"
        )

    def _text(self):
        return self.loss + self.validation + self.speed

    def _row(self):
        return next(row for row in self.bar.tasks if row.id == self.task)

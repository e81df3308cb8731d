"""Arguments that several commands of `vit-export` take, and how they are read."""

import contextlib
import json
import pathlib
import time
from typing import Annotated

import rich.console
import typer

from ..progress import told_to

Model = Annotated[pathlib.Path, typer.Argument(help="A .keras file.")]
Labels = Annotated[
    pathlib.Path | None,
    typer.Option(help="A class per line; default: labels.txt beside the model."),
]
Calibration = Annotated[
    pathlib.Path | None,
    typer.Option(help="Folder of images or .npy of pixels; required by int8."),
]
Rules = Annotated[
    pathlib.Path | None,
    typer.Option(help="JSON with mean and std, for a model without its own."),
]


def read_labels(model, labels):
    file = labels or model.with_name("labels.txt")
    if labels is None and not file.is_file():
        return None
    return file.read_text(encoding="utf-8").splitlines()


def read_rules(path):
    if path is None:
        return None
    from vit_keras import Preprocessing

    try:
        return Preprocessing(**json.loads(path.read_text()))
    except TypeError as error:
        raise ValueError(f"'{path}' holds no preprocessing: {error}") from error


@contextlib.contextmanager
def status(text):
    """Say on stderr what the work is at, and how long each stage took: a spinner on a
    terminal, plain lines elsewhere."""
    console, done = rich.console.Console(stderr=True, highlight=False), Stages()
    with console.status(text) as spinner:

        def begin(stage):
            if (line := done.end()) is not None:
                console.print(line, style="dim")
            done.begin(stage)
            spinner.update(f"{text}: {stage}")

        with told_to(begin):
            yield spinner
        if (line := done.end()) is not None:
            console.print(line, style="dim")


class Stages:
    """The stage that runs, and since when."""

    def __init__(self):
        self.name, self.since = None, 0.0

    def begin(self, name):
        self.name, self.since = name, time.monotonic()

    def end(self) -> str | None:
        """A line for what has run; None if there was nothing."""
        if self.name is None:
            return None
        return f"{time.monotonic() - self.since:6.1f} s  {self.name}"

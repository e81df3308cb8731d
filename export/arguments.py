"""Arguments that several commands of `vit-export` take, and how they are read."""

import contextlib
import json
import pathlib
from typing import Annotated

import rich.console
import typer

from .stages import told_to

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
    """A spinner on stderr with the stage of the work; nothing without a terminal."""
    with rich.console.Console(stderr=True).status(text) as spinner:
        with told_to(lambda stage: spinner.update(f"{text}: {stage}")):
            yield spinner

"""`vit-export c-array`: a `.tflite` file as a C header."""

import pathlib
from typing import Annotated

import typer

from .arguments import show_stages


def c_array_command(
    artefact: Annotated[
        pathlib.Path,
        typer.Argument(help="A .tflite file, exported with --target micro."),
    ],
    out: Annotated[
        pathlib.Path,
        typer.Argument(help="The header to write, as digits.h; names begin so."),
    ],
):
    """Write a .tflite file as a C header for a microcontroller, with its shapes,
    scales, operators, labels, and the memory it needs."""
    from ..tflite.c_array import c_array

    with show_stages("running it as a microcontroller does"):
        report = c_array(artefact, out)
    print(report)

"""`vit-export compile`: what a device runs of a `.tflite` file."""

import pathlib
from typing import Annotated

import typer

from .arguments import show_stages


def compile_command(
    artefact: Annotated[pathlib.Path, typer.Argument(help="A .tflite file.")],
    out: Annotated[pathlib.Path, typer.Argument(help="The compiled file to write.")],
    target: Annotated[
        str,
        typer.Option(help="qualcomm (for LiteRT) or ethos_u55, ethos_u65, ethos_u85."),
    ],
    soc: Annotated[
        str | None,
        typer.Option(help="Chip of target qualcomm. Default: SM8750."),
    ] = None,
):
    """Compile a .tflite file for a device, by its maker's compiler."""
    from ..compilers import compile_tflite

    with show_stages(f"compiling for {soc or target}"):
        report = compile_tflite(artefact, out, target, soc=soc)
    print(report)

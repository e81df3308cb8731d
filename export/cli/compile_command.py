"""`vit-export compile`: what a device runs of a `.tflite` file."""

import pathlib
from typing import Annotated

import typer

from .arguments import (
    Accelerator,
    MemoryMode,
    Soc,
    SystemConfig,
    VelaIni,
    show_stages,
    tool_options,
)


def compile_command(
    artefact: Annotated[pathlib.Path, typer.Argument(help="A .tflite file.")],
    out: Annotated[pathlib.Path, typer.Argument(help="The compiled file to write.")],
    target: Annotated[
        str,
        typer.Option(help="qualcomm (for LiteRT) or ethos_u55, ethos_u65, ethos_u85."),
    ],
    soc: Soc = None,
    accelerator: Accelerator = None,
    system_config: SystemConfig = None,
    memory_mode: MemoryMode = None,
    vela_ini: VelaIni = None,
):
    """Compile a .tflite file for a device, by its maker's compiler."""
    from ..compilers import compile_tflite

    options = tool_options(soc, accelerator, system_config, memory_mode, vela_ini)
    with show_stages(f"compiling for {soc or accelerator or target}"):
        report = compile_tflite(artefact, out, target, options=options)
    print(report)

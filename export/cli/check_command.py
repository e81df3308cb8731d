"""`vit-export check`: whether a target supports an artefact."""

import pathlib
import sys
from typing import Annotated

import typer

from ..targets import TARGETS
from . import output
from .arguments import (
    IMAGES_HELP,
    Accelerator,
    Artefact,
    MemoryMode,
    Soc,
    SystemConfig,
    VelaIni,
    show_stages,
    tool_options,
)
from .export_commands import TARGET_HELP


def check_command(
    artefact: Artefact,
    target: Annotated[
        str, typer.Option(help=f"{TARGET_HELP}; all: every target; tf-serving")
    ] = "npu",
    runtime: Annotated[
        str | None,
        typer.Option(
            help="Oldest TensorFlow Lite release that must open the file, such as 2.14."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images for --run, or to try a float file on in float16 (--target "
            f"gpu). {IMAGES_HELP}."
        ),
    ] = None,
    run: Annotated[
        int,
        typer.Option(
            min=0,
            help="Images of --data to run in the emulation of target qualcomm, on the "
            "first chip; a ViT-Ti takes half a minute an image.",
        ),
    ] = 0,
    soc: Soc = None,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Cycles by operator and block, on an Ethos-U."),
    ] = False,
    plot: Annotated[
        pathlib.Path | None,
        typer.Option(help="Plot the cycles of --profile to a PNG, PDF or SVG file."),
    ] = None,
    accelerator: Accelerator = None,
    system_config: SystemConfig = None,
    memory_mode: MemoryMode = None,
    vela_ini: VelaIni = None,
):
    """Check a .tflite file with a target's compiler or runtime, or a SavedModel for
    what clients of TF Serving rely on (--target tf-serving)."""
    from ..evaluation.check import check, check_all

    options = tool_options(soc, accelerator, system_config, memory_mode, vela_ini)
    if target == "all" and not artefact.is_dir():
        if options or profile or plot or data or run:
            raise ValueError(
                "`--target` must be gpu for --data, qualcomm for --soc and --run, and "
                "one of Ethos-U for --profile, --plot and the options of Vela. "
                "Received: --target all"
            )
        with show_stages("checking for every target"):
            reports = check_all(artefact, runtime)
        output.print_targets(artefact, reports)
        return
    if run and data is None:
        raise ValueError("`--data` must name images for --run")
    if data is not None and not run:
        options = {**(options or {}), "images": _tried_in_float16(artefact, data)}
    report = check(artefact, target, runtime, options=options)
    print(report)
    stopped = any(not problem.operator for problem in report.unsupported)
    if (profile or plot) and not stopped:
        _profile(artefact, target, options, plot)
    if not report.passed:
        sys.exit(1)
    if run and not _emulated(artefact, data, target, soc, run):
        sys.exit(1)
    compilers = target in TARGETS and TARGETS[target].checker_options.get("compilers")
    if compilers:
        with show_stages(f"asking the compilers of {', '.join(compilers)}"):
            reports = check_all(artefact, runtime, compilers)
        output.print_targets(artefact, reports)


def _tried_in_float16(artefact, data):
    """Print what float16 makes of a float file; return the images."""
    from ..evaluation.half_precision import half_precision
    from ..evaluation.parity_images import images_for

    images = images_for(artefact, data, limit=256)
    print(half_precision(artefact, images))
    return images


def _profile(artefact, target, options, plot):
    """Print Vela's cycles by operator and block, and plot them to a file."""
    from ..evaluation.profile import plot_profile, profile

    found = profile(artefact, target, options=options)
    output.print_profile(found)
    if plot is not None:
        plot_profile(found, plot)


def _emulated(artefact, data, target, soc, number):
    """Print how far an emulation is from LiteRT; return whether it is near enough."""
    from ..evaluation.emulation import emulate

    soc = None if soc is None else soc.split(",")[0]
    with show_stages("emulating"):
        found = emulate(artefact, data, target=target, soc=soc, limit=number)
    for name, parity in found.items():
        print(f"{name}: {parity}, emulated against LiteRT on this CPU")
    return all(parity.passed for parity in found.values())

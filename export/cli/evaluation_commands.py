"""`vit-export verify`, `compare`, `check`, `describe` and `benchmark`."""

import json
import pathlib
import sys
from typing import Annotated, Any

import rich
import typer

from vit_keras.cli.tables import escaped, new_table, print_table

from ..targets import TARGETS
from . import output
from .arguments import (
    IMAGES_HELP,
    Artefact,
    Images,
    Limit,
    Model,
    Modules,
    OutputName,
    read_modules,
    show_stages,
)
from .export_commands import TARGET_HELP


def verify_command(
    model: Model,
    artefact: Artefact,
    data: Images,
    limit: Limit = 256,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Also compare every tensor (--data: the calibration images).",
        ),
    ] = False,
    plot: Annotated[
        pathlib.Path | None,
        typer.Option(help="Plot the errors of --layers to a PNG, PDF or SVG file."),
    ] = None,
    output_name: OutputName = None,
    modules: Modules = None,
):
    """Compare an artefact with its Keras model on images."""
    from ..evaluation.tensor_errors import plot_errors
    from ..evaluation.verify import verify_outputs
    from ..graph.open_source import open_source
    from ..tflite.layer_errors import verify_layers

    with show_stages("comparing"):
        loaded = open_source(model, read_modules(modules))
        found = verify_outputs(loaded, artefact, data, output=output_name, limit=limit)
        errors = []
        if layers or plot:
            errors = verify_layers(loaded, artefact, data)
    if errors:
        output.print_layer_errors(errors)
        if plot is not None:
            plot_errors(errors, plot)
    for name, parity in found.items():
        print(f"{artefact}: {parity}" if len(found) == 1 else f"{name}: {parity}")
    if not all(parity.passed for parity in found.values()):
        sys.exit(1)


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
    soc: Annotated[
        str | None,
        typer.Option(
            help="Chips of target qualcomm, as SM8750,SM8450. Default: the target's."
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
    data: Annotated[str | None, typer.Option(help=f"{IMAGES_HELP}. For --run.")] = None,
):
    """Check a .tflite file with a target's compiler or runtime, or a SavedModel for
    what clients of TF Serving rely on (--target tf-serving)."""
    from ..evaluation.check import check, check_all

    if bool(run) != (data is not None):
        raise ValueError("`--run` and `--data` must be given together")
    socs = None if soc is None else tuple(soc.split(","))
    if target != "all" or artefact.is_dir():
        report = check(artefact, target, runtime, socs=socs)
        print(report)
        if not report.passed:
            sys.exit(1)
        if run and not _emulated(artefact, data, target, socs, run):
            sys.exit(1)
        row = TARGETS.get(target)
        if row is not None and (compilers := row.checker_options.get("compilers")):
            with show_stages(f"asking the compilers of {', '.join(compilers)}"):
                reports = check_all(artefact, runtime, compilers)
            output.print_targets(artefact, reports)
        return
    if socs or run:
        raise ValueError("`--target` must be qualcomm for --soc and --run")
    with show_stages("checking for every target"):
        reports = check_all(artefact, runtime)
    output.print_targets(artefact, reports)


def _emulated(artefact, data, target, socs, number):
    """Print how far an emulation is from LiteRT; return whether it is near enough."""
    from ..evaluation.emulation import emulate

    soc = None if socs is None else socs[0]
    with show_stages("emulating"):
        found = emulate(artefact, data, target=target, soc=soc, limit=number)
    for name, parity in found.items():
        print(f"{name}: {parity}, emulated against LiteRT on this CPU")
    return all(parity.passed for parity in found.values())


def compare_command(
    old: Annotated[pathlib.Path, typer.Argument(help="Artefact in use.")],
    new: Annotated[pathlib.Path, typer.Argument(help="Artefact to replace it.")],
    data: Images,
    limit: Limit = 256,
):
    """Compare the outputs and the speed of two versions before switching."""
    from vit_keras import Preprocessing
    from vit_keras.data import load_images

    from ..evaluation import runners
    from ..evaluation.comparison import compare
    from ..evaluation.verify import read_sidecar

    inside = read_sidecar(new).get("preprocessing")
    preprocessing = Preprocessing(**inside) if inside else None
    with show_stages("comparing"):
        shape: Any = runners.load(new).input_shape
        pixels = load_images(data, shape[1:3], preprocessing, limit, held_out=True)
        result = compare(old, new, pixels)
    print(result)


def describe_command(
    artefact: Annotated[pathlib.Path, typer.Argument(help="A .tflite file.")],
):
    """Print the metadata of a .tflite file: name, licence, labels, how it was made."""
    from ..flatbuffer.metadata import read_metadata

    rich.print_json(json.dumps(read_metadata(artefact)), ensure_ascii=False)


def benchmark_command(
    artefacts: Annotated[
        list[pathlib.Path],
        typer.Argument(help=".tflite files and SavedModel directories."),
    ],
    threads: Annotated[int, typer.Option(min=1, help="Number of LiteRT threads.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs per artefact.")] = 30,
):
    """Time artefacts side by side at batch 1."""
    from ..evaluation.benchmark import benchmark

    table = new_table("artefact", "size", "latency (median)", "CPU time")
    for row in benchmark(artefacts, num_threads=threads, runs=runs):
        times = (f"{ms:.2f} ms" for ms in (row.latency_ms, row.cpu_ms))
        table.add_row(*escaped(row.path, f"{row.size_bytes / 1e6:.2f} MB", *times))
    print_table(table)

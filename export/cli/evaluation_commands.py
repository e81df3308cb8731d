"""`vit-export verify`, `compare`, `check`, `describe` and `benchmark`."""

import json
import pathlib
import sys
from typing import Annotated, Any

import rich
import typer

from vit_keras.cli.tables import escaped, new_table, print_table

from . import output
from .arguments import (
    IMAGES_HELP,
    Accelerator,
    Artefact,
    Images,
    Limit,
    MemoryMode,
    Model,
    Modules,
    OutputName,
    SystemConfig,
    VelaIni,
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
    data: Annotated[
        str | None,
        typer.Option(
            help="Images that a float file is tried on in float16 (--target gpu). "
            f"{IMAGES_HELP}."
        ),
    ] = None,
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
    from ..evaluation.half_precision import half_precision
    from ..evaluation.profile import plot_profile
    from ..evaluation.profile import profile as cycles_of

    options = {
        "accelerator": accelerator,
        "system_config": system_config,
        "memory_mode": memory_mode,
        "vela_ini": vela_ini,
    }
    options = {key: value for key, value in options.items() if value is not None}
    if target == "all" and (options or profile or plot or data):
        raise ValueError(
            "`--target` must be gpu for --data, and one of Ethos-U for --profile, "
            "--plot and the options of Vela. Received: --target all"
        )
    if data is not None:
        options["images"] = _images_for(artefact, data)
        print(half_precision(artefact, options["images"]))
    if target != "all" or artefact.is_dir():
        report = check(artefact, target, runtime, options=options)
        print(report)
        stopped = any(not problem.operator for problem in report.unsupported)
        if (profile or plot) and not stopped:
            found = cycles_of(artefact, target, options=options)
            output.print_profile(found)
            if plot is not None:
                plot_profile(found, plot)
        if not report.passed:
            sys.exit(1)
        return
    with show_stages("checking for every target"):
        reports = check_all(artefact, runtime)
    output.print_targets(artefact, reports)


def compare_command(
    old: Annotated[pathlib.Path, typer.Argument(help="Artefact in use.")],
    new: Annotated[pathlib.Path, typer.Argument(help="Artefact to replace it.")],
    data: Images,
    limit: Limit = 256,
):
    """Compare the outputs and the speed of two versions before switching."""
    from ..evaluation.comparison import compare

    with show_stages("comparing"):
        result = compare(old, new, _images_for(new, data, limit))
    print(result)


def _images_for(artefact, data, limit=256):
    """Images of a source, as an artefact takes them."""
    from vit_keras import Preprocessing
    from vit_keras.data import load_images

    from ..evaluation import runners
    from ..evaluation.verify import read_sidecar

    inside = read_sidecar(artefact).get("preprocessing")
    preprocessing = Preprocessing(**inside) if inside else None
    shape: Any = runners.load(artefact).input_shape
    return load_images(data, shape[1:3], preprocessing, limit, held_out=True)


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

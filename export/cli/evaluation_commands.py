"""`vit-export verify`, `compare`, `describe` and `benchmark`."""

import json
import pathlib
import sys
from typing import Annotated

import rich
import typer

from vit_keras.cli.tables import escaped, new_table, print_table

from . import output
from .arguments import (
    Artefact,
    Images,
    LabelledLimit,
    Limit,
    Model,
    Modules,
    OutputName,
    Threads,
    TimedRuns,
    read_modules,
    show_stages,
)


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


def compare_command(
    old: Annotated[pathlib.Path, typer.Argument(help="Artefact in use.")],
    new: Annotated[pathlib.Path, typer.Argument(help="Artefact to replace it.")],
    data: Images,
    limit: Limit = 256,
):
    """Compare the outputs and the speed of two versions before switching."""
    from ..evaluation.comparison import compare
    from ..evaluation.parity_images import images_for

    with show_stages("comparing"):
        result = compare(old, new, images_for(new, data, limit))
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
    threads: Threads = 1,
    runs: TimedRuns = 30,
    model: Annotated[
        pathlib.Path | None,
        typer.Option(help="Model that they were made of, to compare them on --data."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Labelled images as for training: a folder, tfds:NAME."),
    ] = None,
    limit: LabelledLimit = 1000,
):
    """Time artefacts side by side at batch 1; with --model and --data the table of
    `vit-export report`: accuracy, agreement, SQNR, memory and what the target's tool
    says."""
    from ..evaluation.benchmark import benchmark

    if (model is None) != (data is None):
        raise ValueError("`--model` and `--data` must be given together")
    titles, rows = ["artefact", "size", "latency (median)", "CPU time"], []
    for row in benchmark(artefacts, num_threads=threads, runs=runs):
        times = (f"{ms:.2f} ms" for ms in (row.latency_ms, row.cpu_ms))
        rows.append([row.path, f"{row.size_bytes / 1e6:.2f} MB", *times])
    said = ""
    if model is not None:
        more, columns, said = _scores(model, artefacts, data, limit or None)
        titles += more
        rows = [[*row, *cells] for row, cells in zip(rows, columns, strict=True)]
    table = new_table(*titles)
    for row in rows:
        table.add_row(*escaped(*row))
    print_table(table)
    if said:
        print(said)


def _scores(model, artefacts, data, limit):
    """Titles and cells of what artefacts are worth on images, and a line on Keras."""
    from ..comparison_report import columns
    from ..comparison_report.peak_memory import peak_memory
    from ..comparison_report.score_artefacts import score_artefacts
    from ..comparison_report.verdicts import artefact_verdict

    with show_stages("comparing"):
        found = score_artefacts(model, artefacts, data, limit=limit)
    name = columns.metric_name(found.metric)
    cells = [
        (
            columns.metric_text(scores.value, scores.noise, scores.metric),
            columns.drop_text(scores),
            columns.agreement_text(scores),
            columns.sqnr_text(scores),
            columns.memory_text(None if path.is_dir() else peak_memory(path)),
            columns.verdict_text(artefact_verdict(path)),
        )
        for path, scores in zip(artefacts, found.scores, strict=True)
    ]
    keras = columns.metric_text(found.keras, found.keras_noise, found.metric)
    said = f"Keras: {name} {keras}, on {found.images}"
    titles = (name, "against Keras", "agreement", "SQNR", "memory", "verdict")
    return titles, cells, said

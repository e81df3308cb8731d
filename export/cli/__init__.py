"""The command line `vit-export`: tflite, saved-model, verify, compare, check, describe,
benchmark, prune, cluster, qat.

Exit status: 0 good, 1 the artefact failed its check, 2 wrong usage or bad input, with
one clear line on stderr.
"""

import json
import os
import pathlib
import sys
from typing import Annotated

# Conversion needs this backend, whichever the model was trained on. Set before
# anything imports Keras.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import rich  # noqa: E402
import rich.table  # noqa: E402
import typer  # noqa: E402

import export  # noqa: E402

from ..evaluation import tensor_errors  # noqa: E402
from ..quantization.clipping import RANGES  # noqa: E402
from . import output, serving_commands, training_commands  # noqa: E402
from .arguments import (
    Calibration,
    Labels,
    Model,
    Rules,
    read_labels,
    read_rules,
    status,
)

app = typer.Typer(
    help="From a trained Keras model to a proven artefact.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Out = Annotated[pathlib.Path, typer.Argument(help="What to write.")]
Artefact = Annotated[pathlib.Path, typer.Argument(help=".tflite or SavedModel.")]
SCHEME_HELP = "; ".join(f"{k}: {v.summary}" for k, v in export.SCHEMES.items())
TARGET_HELP = "; ".join(f"{k}: {v.summary}" for k, v in export.TARGETS.items())


@app.command()
def tflite(
    model: Model,
    out: Out,
    scheme: Annotated[str, typer.Option(help=SCHEME_HELP)] = "float32",
    target: Annotated[str | None, typer.Option(help=TARGET_HELP)] = None,
    calibration: Calibration = None,
    calibration_method: Annotated[
        str, typer.Option(help=f"Ranges of int8: {', '.join(RANGES)}.")
    ] = "min_max",
    batch: Annotated[int, typer.Option(help="Images per run, fixed.")] = 1,
    input_dtype: Annotated[str | None, typer.Option()] = None,
    output_dtype: Annotated[str | None, typer.Option()] = None,
    labels: Labels = None,
    description: Annotated[
        str | None, typer.Option(help="Of the model, kept in the file.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Of the model, kept in the file.")
    ] = None,
    preprocessing: Rules = None,
    heads_apart: Annotated[
        bool | None, typer.Option(help="Attention head by head: less memory.")
    ] = None,
    min_sqnr: Annotated[
        float | None,
        typer.Option(help="dB that an int8 file must reach: parts are raised for it."),
    ] = None,
    accuracy_drop: Annotated[
        float | None,
        typer.Option(help="Points that int8 may lose: parts are raised for it."),
    ] = None,
    evaluation: Annotated[
        pathlib.Path | None,
        typer.Option(help="For --accuracy-drop: class folders, or .npz."),
    ] = None,
    enforce_parity: Annotated[
        bool, typer.Option(help="Refuse a file below its scheme's threshold.")
    ] = True,
):
    """Write a .tflite file, run it in LiteRT and compare it with the model."""
    with status(f"exporting {scheme}"):
        report = export.to_tflite(
            model,
            out,
            scheme=scheme,
            target=target,
            calibration=calibration,
            calibration_method=calibration_method,
            batch=batch,
            input_dtype=input_dtype,
            output_dtype=output_dtype,
            labels=read_labels(model, labels),
            description=description,
            licence=licence,
            preprocessing=read_rules(preprocessing),
            heads_apart=heads_apart,
            min_sqnr=min_sqnr,
            accuracy_drop=accuracy_drop,
            evaluation=evaluation,
            enforce_parity=enforce_parity,
        )
    output.summary(report)
    output.next_commands(
        f"verify {model} {out} --data {calibration or 'IMAGES'}",
        f"check {out} --target {target or 'all'}",
        f"benchmark {out}",
    )


@app.command()
def verify(
    model: Model,
    artefact: Artefact,
    data: Annotated[
        pathlib.Path, typer.Option(help="Folder of images or .npy of pixels.")
    ],
    limit: Annotated[int, typer.Option(min=1, help="Images at most.")] = 256,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Each tensor; data: of the calibration."),
    ] = False,
    plot: Annotated[
        pathlib.Path | None, typer.Option(help="PNG, PDF or SVG of --layers.")
    ] = None,
):
    """Compare an artefact with its Keras model on images."""
    from vit_keras.model import open_model

    from ..graph.build import find_preprocessing
    from ..quantization.calibration import load_images

    with status("comparing"):
        loaded = open_model(model)
        size, rules = loaded.input_shape[1:3], find_preprocessing(loaded)
        pixels = load_images(data, size, rules, limit)
        parity = export.verify(loaded, artefact, pixels)
        errors = []
        if layers or plot:
            errors = export.verify_layers(loaded, artefact, data)
    if errors:
        _show_layers(errors, plot)
    print(f"{artefact}: {parity}")
    if not parity.passed:
        sys.exit(1)


def _show_layers(errors, plot):
    table = rich.table.Table(
        rich.table.Column("tensor", overflow="fold"), "operator", "dtype", "SQNR"
    )
    for error in errors:
        table.add_row(
            *(error.name, error.operator, error.dtype, f"{error.sqnr_db:.1f} dB")
        )
    rich.print(table)
    if plot is not None:
        tensor_errors.plot(errors, plot)


@app.command()
def check(
    artefact: Artefact,
    target: Annotated[str, typer.Option(help=f"{TARGET_HELP}; all: each")] = "npu",
    runtime: Annotated[
        str | None, typer.Option(help="TensorFlow Lite that must open it, as 2.14.")
    ] = None,
):
    """Say whether a target takes a file, and what it refuses; of a SavedModel, whether
    it keeps what clients of TF Serving rely on (--target tf-serving)."""
    from ..evaluation.check import check_all

    if target != "all" or artefact.is_dir():
        report = export.check(artefact, target, runtime)
        print(report)
        if not report.passed:
            sys.exit(1)
        return
    with status("asking every compiler"):
        reports = check_all(artefact, runtime)
    output.targets(artefact, reports)


@app.command()
def describe(artefact: Annotated[pathlib.Path, typer.Argument(help="A .tflite file.")]):
    """Print what a .tflite file says about itself: name, licence, labels, origin."""
    rich.print_json(json.dumps(export.read_metadata(artefact)), ensure_ascii=False)


@app.command()
def benchmark(
    artefacts: Annotated[list[pathlib.Path], typer.Argument(help="What to time.")],
    threads: Annotated[int, typer.Option(min=1)] = 1,
    runs: Annotated[int, typer.Option(min=1)] = 30,
):
    """Time artefacts side by side at batch 1."""
    table = rich.table.Table("artefact", "size", "latency (median)", "CPU time")
    for row in export.benchmark(artefacts, num_threads=threads, runs=runs):
        table.add_row(
            row.path,
            f"{row.size_bytes / 1e6:.2f} MB",
            f"{row.latency_ms:.2f} ms",
            f"{row.cpu_ms:.2f} ms",
        )
    rich.print(table)


app.command("saved-model")(serving_commands.saved_model)
app.command()(serving_commands.compare)
app.command()(training_commands.prune)
app.command()(training_commands.cluster)
app.command()(training_commands.qat)


def main():
    """Run, and turn expected errors into one line and an exit status."""
    try:
        app()
    except export.ParityError as error:
        _fail(error, 1)
    except (ValueError, OSError, ImportError) as error:
        _fail(error, 2)


def _fail(error, status):
    print(f"vit-export: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(status)

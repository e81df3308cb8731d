"""`vit-export report`: a model's files compared on labelled images, as a page."""

import pathlib
import shlex
import sys
from typing import Annotated

import typer

from vit_keras.cli.tables import escaped, new_table, print_table

from ..comparison_report.plan_files import DEFAULT_SCHEMES, DEFAULT_TARGETS
from ..schemes import SCHEMES
from ..targets import TARGETS
from .arguments import (
    HeadName,
    LabelledLimit,
    Model,
    Modules,
    OutputName,
    PreprocessingName,
    Threads,
    TimedRuns,
    read_modules,
    read_preprocessing,
    show_stages,
)


def report_command(
    model: Model,
    data: Annotated[
        str,
        typer.Option(
            help="Labelled images as for training: a folder, an .npz file, tfds:NAME. "
            "The test part is reported, else the validation part."
        ),
    ],
    out: Annotated[
        pathlib.Path,
        typer.Option(help="Folder for the page, the table and the files."),
    ],
    schemes: Annotated[
        str | None,
        typer.Option(
            help=f"As int8,float16, of {', '.join(SCHEMES)}; or all. Default: "
            f"{', '.join(DEFAULT_SCHEMES)}."
        ),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            help=f"As cpu,npu, of {', '.join(TARGETS)}; or all. Default: "
            f"{', '.join(DEFAULT_TARGETS)}."
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Images for int8 ranges, which are never reported. Default: the "
            "training part of --data, else a fifth of it, set aside."
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Part to report: train, validation or test.")
    ] = None,
    limit: LabelledLimit = 1000,
    max_mb: Annotated[
        float | None, typer.Option(help="Largest file to take, in MB.")
    ] = None,
    max_ms: Annotated[
        float | None, typer.Option(help="Longest latency here to take, in ms.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(help="Largest loss against Keras to take, in percentage points."),
    ] = None,
    layers: Annotated[
        bool, typer.Option(help="Also compare each tensor with its float value.")
    ] = True,
    runs: TimedRuns = 30,
    threads: Threads = 1,
    preprocessing: PreprocessingName = None,
    head: HeadName = None,
    output_name: OutputName = None,
    modules: Modules = None,
):
    """Export in several schemes and for several targets, measure every file on labelled
    images, and write a page that compares them and says which to take.

    Stopped and started again, it goes on where it was.
    """
    from ..comparison_report.columns import COLUMNS, metric_name, metric_text
    from ..comparison_report.write_report import write_report

    with show_stages("report"):
        report = write_report(
            model,
            data,
            out,
            schemes=_names(schemes),
            targets=_names(targets),
            calibration=calibration,
            part=part,
            limit=limit or None,
            max_mb=max_mb,
            max_ms=max_ms,
            max_drop=max_drop,
            layers=layers,
            runs=runs,
            num_threads=threads,
            preprocessing=read_preprocessing(preprocessing),
            head=head,
            output=output_name,
            custom_objects=read_modules(modules),
            command=f"vit-export {shlex.join(sys.argv[1:])}",
        )
    metric = metric_name(report.metric)
    titles = [column.title.format(metric=metric) for column in COLUMNS]
    table = new_table("target", *titles, wrap=("verdict",))
    for file in report.files:
        cells = (column.cell(file) for column in COLUMNS)
        table.add_row(*escaped(file.planned.target, *cells))
    print_table(table)
    keras = metric_text(report.keras, report.keras_noise, report.metric)
    print(f"Keras: {metric} {keras}, on {report.images}")
    for pair, reason in report.impossible.items():
        print(f"not possible: {pair}: {reason}")
    for target, file in report.taken.items():
        print(f"take for {target}: {file.planned.scheme if file else 'none'}")
    print(f"rule: {report.budget.rule}")
    print(f"wrote {report.page} and {report.table}")
    for made_by in report.commands.values():
        print(f"next: {made_by}")


def _names(text):
    """Names between commas, "all", or None."""
    if text is None or text == "all":
        return text
    return tuple(name.strip() for name in text.split(","))

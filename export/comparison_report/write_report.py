"""`write_report`: make every file that is asked for, measure all, write the page."""

import dataclasses
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_keras.atomic import publishing, remove

from ..evaluation.parity_images import content_hash
from ..inputs import ExportInputs, UserInputs
from ..progress import stage
from ..report import versions
from .choice import CostLimits, choose
from .columns import csv_text
from .export_command import export_command
from .findings import ComparisonReport
from .kept import Kept, model_hash
from .keras_reference import KerasReference
from .latencies import processor, timed
from .measure_file import measure_file
from .plan_files import plan_files
from .predictions import predictions_html
from .report_folder import report_folder
from .report_page import make_report_page
from .reported_images import open_reported

if TYPE_CHECKING:
    import keras

    from vit_keras import Preprocessing

LIMIT = 1000  # images: of an accuracy of 80 % the standard error is 1.3 points
PAGE, TABLE, CALIBRATION = "report.html", "report.csv", "calibration.npy"


def write_report(
    model: "keras.Model | str | os.PathLike[str]",
    data: Any,
    out: str | os.PathLike[str],
    *,
    schemes: Sequence[str] | str | None = None,
    targets: Sequence[str] | str | None = None,
    calibration: Any = None,
    part: str | None = None,
    limit: int | None = LIMIT,
    max_mb: float | None = None,
    max_ms: float | None = None,
    max_drop: float | None = None,
    layers: bool = True,
    runs: int = 30,
    num_threads: int = 1,
    preprocessing: "Preprocessing | str | None" = None,
    labels: Any = None,
    head: str | None = None,
    output: str | int | None = None,
    custom_objects: dict[str, Any] | None = None,
    command: str = "",
) -> ComparisonReport:
    """Export a model in several schemes for several targets, measure every file on
    labelled images, and write a page that compares them.

    `out` then holds `report.html`, which needs no other file and no network;
    `report.csv`; the files with their reports; `calibration.npy`; and in JSON what was
    found about each. A run that was stopped goes on from there when it is called again:
    what was made or found from the same model, images, options and versions is kept,
    anything else is made anew, with a warning that says what differs.
    Latencies are measured by each run, all files in turn.

    A file that cannot be made, as one below its scheme's parity threshold, is a row
    with the reason.

    Arguments:
        model: as for `to_tflite`; with a head, and with preprocessing of its own or
            given.
        data: labelled images, or images with masks or depths, as training takes them.
            The test part is reported, else the validation part.
        out: folder to write, made if it does not exist.
        schemes: names in `SCHEMES`, or "all". None is float32, float16, dynamic_int8,
            dynamic_int4, int8 and int8_attention16.
        targets: names in `TARGETS`, or "all"; None is "any". Pairs that a target does
            not take are named as not possible.
        calibration: images for ranges, as for `to_tflite`; 128 at most are drawn. None
            is the training part of `data`; of data without one, a fifth, 128 images at
            most, is set aside and not reported. Images that are reported are left out.
        part: of `data`, to report, "train", "validation" or "test".
        limit: report at most this many images, drawn at random; None is all.
        max_mb, max_ms, max_drop: budget of the file to take: its size in MB, its
            latency here in ms, and its loss against Keras in percentage points (of an
            error in its unit). Without any, the smallest file is taken whose loss is at
            most two standard errors of it; with a loss the smallest that meets all;
            else the most accurate that does.
        layers: whether to compare each tensor of each file with its float value, too.
        runs: timed runs of each file.
        num_threads: threads of LiteRT, for latencies.
        preprocessing, labels, head, output, custom_objects: as for `to_tflite`.
        command: what the page names as the command that made it.

    Returns:
        A `ComparisonReport`.

    Raises:
        ValueError: an unknown scheme or target, no pair that is possible, or data that
            does not fit the model.
        FileNotFoundError: the model or the data does not exist.
        OSError: `out` cannot be written to, or another process writes a report there.
        MissingDependency: the extra "export" is not installed.
    """
    budget = CostLimits(max_mb, max_ms, max_drop)
    planned, impossible = plan_files(schemes, targets)
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` must be at least 1, or None. Received: {limit}")
    stage("reading the model and the images")
    export = {
        **{"preprocessing": preprocessing, "labels": labels, "head": head},
        **{"output": output, "custom_objects": custom_objects},
    }
    subject = ExportInputs.open(UserInputs(model, **export), limit=1)
    images, pixels, where = open_reported(
        data, subject, calibration=calibration, part=part, limit=limit
    )
    with report_folder(out) as folder:
        export |= {"model": model, "calibration": str(folder / CALIBRATION)}
        for old in (PAGE, TABLE):  # neither may stand beside other files than its own
            remove(folder / old)
        _publish_pixels(folder / CALIBRATION, pixels)
        of = {
            "model": model_hash(model),
            "calibration": content_hash(pixels),
            **images.hashes(),
            "options": _options(subject),
            "versions": versions(),
        }
        keras = KerasReference(subject, images)
        reference = Kept(folder / "keras.found.json", "Keras").get(
            "scores",
            {key: value for key, value in of.items() if key != "calibration"},
            lambda: {"value": keras.scored().value, "noise": keras.scored().noise},
        )
        common = {"of": of, "export": export, "layers": layers}
        files = [
            measure_file(
                *(file, folder, subject, images, keras),
                place=f"{number}/{len(planned)}",
                **common,
            )
            for number, file in enumerate(planned, 1)
        ]
        files = timed(files, num_threads, runs)
        taken = {
            target: choose([f for f in files if f.planned.target == target], budget)
            for target in dict.fromkeys(file.target for file in planned)
        }
        report = ComparisonReport(
            page=folder / PAGE,
            table=folder / TABLE,
            model=_name(model),
            metric=subject.outputs.kind.metric,
            keras=reference["value"],
            keras_noise=reference["noise"],
            images=images.words,
            calibration=f"{len(pixels)} images {where}",
            files=tuple(files),
            impossible=impossible,
            budget=budget,
            taken=taken,
            commands={
                target: export_command(file.planned, file.path, export)
                for target, file in taken.items()
                if file is not None
            },
            command=command,
            processor=processor(),
            threads=num_threads,
            runs=runs,
            versions=of["versions"],
            notes=images.notes,
        )
        stage("writing the page")
        _publish_text(report.table, _csv(report, len(images)))
        _publish_text(report.page, make_report_page(report, _pictures(report, keras)))
        return report


def _options(subject) -> dict[str, Any]:
    """What of the options changes a file, as plain data."""
    inside = subject.preprocessing
    return {
        "preprocessing": None if inside is None else dataclasses.asdict(inside),
        "labels": subject.labels,
        "head": subject.outputs.head,
        "output": subject.output,
    }


def _pictures(report, keras):
    """HTML of the predictions of the file to take, else of the smallest."""
    chosen = [file for file in report.taken.values() if file is not None]
    others = [file for file in report.files if file.scores is not None]
    others.sort(key=lambda file: file.size_bytes or 0)
    if not (file := next(iter([*chosen, *others]), None)):
        return ""
    return (
        f"<section><h2>What {file.planned} says, beside Keras</h2>"
        '<p class="quiet">Of the reported images those on which the two differ most: '
        "the others differ less.</p>"
        f"{predictions_html(file, keras)}</section>"
    )


def _csv(report, images):
    keras = {"metric": report.metric, "value": round(report.keras, 6)}
    keras |= {"noise": round(report.keras_noise, 6), "images": images}
    packages = " ".join(f"{name} {v}" for name, v in report.versions.items())
    common = {"runs": report.runs, "threads": report.threads}
    common |= {"processor": report.processor, "versions": packages}
    taken = [file for file in report.taken.values() if file is not None]
    return csv_text(report.files, keras, common, taken, report.impossible)


def _name(model):
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    return f"the model {model.name}"


def _publish_pixels(path, pixels):
    content = io.BytesIO()  # of a full disk, NumPy says only how much it wrote
    np.save(content, pixels)
    with publishing(path) as work:
        work.write_bytes(content.getbuffer())


def _publish_text(path, text):
    with publishing(path) as work:
        work.write_text(text, encoding="utf-8")

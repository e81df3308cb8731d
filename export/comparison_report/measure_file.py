"""One file of a report: made, scored, weighed, asked about, and looked into."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from ..errors import ParityError
from ..evaluation import runners
from ..evaluation.tensor_errors import TensorError
from ..evaluation.verify import sidecar
from ..graph.open_source import open_source
from ..inputs import ExportInputs
from ..progress import report_stages_to, stage
from ..report import read_report
from ..tflite.layer_errors import verify_layers
from ..tflite.writer import to_tflite
from .kept import Kept, file_hash
from .keras_reference import KerasReference
from .peak_memory import peak_memory
from .plan_files import PlannedFile
from .reported_images import ReportedImages
from .scores import FileScores, beside_keras, score_outputs
from .verdicts import Verdict, ask_tools, tool_versions


@dataclasses.dataclass(frozen=True)
class MeasuredFile:
    """One row of a report.

    Attributes:
        planned: its scheme and target.
        path: of the file.
        failed: why there is no file, or None.
        size_bytes: of the file.
        scores: on the reported images.
        verdicts: of the target's tool, and of the compilers that it stands for.
        memory_mb: see `peak_memory`.
        blocks: {block: SQNR in dB where it ends}, in order; empty if not asked for.
        worst: the tensor of the least SQNR, in words.
        latency_ms, cpu_ms: median of one image, timed alternately with the others.
        notes: of the export.
    """

    planned: PlannedFile
    path: pathlib.Path
    failed: str | None = None
    size_bytes: int | None = None
    scores: FileScores | None = None
    verdicts: tuple[Verdict, ...] = ()
    memory_mb: float | None = None
    blocks: dict[str, float] = dataclasses.field(default_factory=dict)
    worst: str = ""
    latency_ms: float | None = None
    cpu_ms: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the file is there and no tool refuses it."""
        return self.failed is None and all(
            v.supported is not False for v in self.verdicts
        )


def measure_file(
    planned: PlannedFile,
    folder: pathlib.Path,
    subject: ExportInputs,
    images: ReportedImages,
    keras: KerasReference,
    *,
    place: str,
    of: dict[str, Any],
    export: dict[str, Any],
    layers: bool,
) -> MeasuredFile:
    """Make a file and measure it, as far as an earlier run has not.

    Arguments:
        planned: scheme and target.
        folder: where the file, its report and what was found are.
        subject: the opened model.
        images: the reported images.
        keras: what the Keras model gives.
        place: of the file among all, for messages, as "3/20".
        of: what the findings depend on: "model", "calibration", "images", "truth",
            "options" and "versions".
        export: arguments of `to_tflite`.
        layers: whether to compare each tensor with its float value.
    """
    path = folder / f"{planned.name}.tflite"
    name = f"{place} {planned}"
    kept = Kept(folder / f"{planned.name}.found.json", name)
    base = {key: of[key] for key in ("model", "calibration", "options", "versions")}
    before = kept.found.get("file", {}).get("found", {})
    there = before.get("sha256") == file_hash(path)
    made = kept.get("file", base, lambda: _exported(planned, path, export), there)
    if "file" not in kept.anew:
        stage(f"{name}: kept from the run before")
    if made["failed"]:
        return MeasuredFile(planned, path, failed=made["failed"])
    report = read_report(path)
    own = {"file": made["sha256"], "versions": of["versions"]}
    seen = {**own, "images": of["images"], "truth": of["truth"], "model": of["model"]}
    scores = kept.get("scores", seen, lambda: _scores(path, subject, images, keras))
    known = kept.found.get("verdicts", {}).get("found", ())
    asked = all(v["supported"] is not None for v in known)  # tools may be there now
    verdicts = kept.get(
        "verdicts",
        {**own, "tools": tool_versions()},
        lambda: ask_tools(planned, path, report),
        asked,
    )
    memory = kept.get("memory", own, lambda: peak_memory(path))
    blocks, worst = {}, ""
    if layers and planned.scheme != "float32":
        inside = {**own, "model": of["model"], "calibration": of["calibration"]}
        blocks, worst = kept.get("layers", inside, lambda: _layers(path, export))
    return MeasuredFile(
        planned=planned,
        path=path,
        size_bytes=path.stat().st_size,
        scores=FileScores(**{**scores, "differing": tuple(scores["differing"])}),
        verdicts=tuple(
            Verdict(**{**v, "problems": tuple(v["problems"])}) for v in verdicts
        ),
        memory_mb=memory,
        blocks=blocks,
        worst=worst,
        notes=report.notes,
    )


def _nobody(text):
    """Listen to the stages of one file, which are too many in a report."""


def _exported(planned, path, export):
    """Export; a file that is refused is a finding, not the end."""
    try:
        with report_stages_to(_nobody):
            to_tflite(path=path, scheme=planned.scheme, target=planned.target, **export)
    except (ParityError, ValueError, RuntimeError) as error:
        for old in (path, sidecar(path)):  # of another run: it is not what was asked
            old.unlink(missing_ok=True)
        return {"failed": f"{type(error).__name__}: {error}", "sha256": file_hash(path)}
    return {"failed": None, "sha256": file_hash(path)}


def _scores(path, subject, images, keras):
    return dataclasses.asdict(score_artefact(path, subject, images, keras))


def score_artefact(
    path: str | os.PathLike[str],
    subject: ExportInputs,
    images: ReportedImages,
    keras: KerasReference,
) -> FileScores:
    """Run an artefact on the reported images, and compare it with Keras.

    Raises:
        ValueError: its outputs have another shape than the model's.
    """
    expected = keras.scored(runners.load(path).output_shape, f"'{path}'")
    found = score_outputs(run_of(path), images, subject.outputs)
    return beside_keras(expected, found, subject.outputs.head, len(images))


def run_of(path):
    """Function from pixels to the first output of an artefact, on all cores."""
    if pathlib.Path(path).is_dir():
        return runners.load(path)

    def run(pixels):
        return next(iter(runners.run_on_all_cores(path, pixels).values()))

    return run


def _layers(path, export):
    """Return ({block: SQNR where it ends}, the worst tensor in words)."""
    model = export["model"]
    if isinstance(model, str | os.PathLike):
        model = open_source(model, export["custom_objects"])
    try:
        with report_stages_to(_nobody):
            errors = verify_layers(model, path, export["calibration"])
    except ValueError as error:
        return {}, f"not compared: {error}"
    finite = [error for error in errors if np.isfinite(error.sqnr_db)]
    if not finite:
        return {}, ""
    blocks = {_block(error): round(error.sqnr_db, 2) for error in finite}
    worst = min(finite, key=lambda error: error.sqnr_db)
    return blocks, f"{worst.name} ({worst.operator}), {worst.sqnr_db:.1f} dB"


def _block(error: TensorError) -> str:
    """The layer that a tensor belongs to: the last of it is the block's own result."""
    return error.name.split("/")[0]

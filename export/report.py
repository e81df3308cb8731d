"""The export report and the publication of an artefact with its report."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

from vit_keras.atomic import publish_together
from vit_keras.atomic import workspace as workspace
from vit_keras.text_files import read_json

from .evaluation.benchmark import size_bytes
from .evaluation.parity import Parity
from .evaluation.verify import sidecar
from .flatbuffer.first_run import made_here

PACKAGES = (
    "vit-keras-edge",
    "keras",
    "tensorflow",
    "ai-edge-litert",
    "litert-quantizer",
)

NOT_PROVEN = "not proven for target"  # begins the note on a tool that is not installed


@dataclasses.dataclass(frozen=True)
class OutputReport:
    """One output of an artefact.

    Attributes:
        name: in the artefact's signature.
        dtype: name of a NumPy dtype.
        shape: of the tensor; None for any number of images.
        parity: agreement with the Keras model.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    parity: Parity

    def __str__(self):
        return f"{self.dtype} {self.shape}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**dataclasses.asdict(self), "parity": self.parity.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "OutputReport":
        """Build what `to_dict` described."""
        changes = {
            "shape": tuple(data["shape"]),
            "parity": Parity.from_dict(data["parity"]),
        }
        return cls(**{**data, **changes})


def output_reports(
    runner: Any, parities: Mapping[str, Parity]
) -> tuple[OutputReport, ...]:
    """Describe the outputs of an opened artefact, with their parities by name."""
    return tuple(
        OutputReport(name, runner.output_dtypes[name], shape, parities[name])
        for name, shape in runner.output_shapes.items()
    )


def ends(runner: Any, parities: Mapping[str, Parity]) -> dict[str, Any]:
    """Return the report's fields on input and outputs of an opened artefact."""
    outputs = output_reports(runner, parities)
    return {
        "input": f"{runner.input_dtype} {runner.input_shape}",
        "output": str(outputs[0]),
        "parity": outputs[0].parity,
        "outputs": outputs,
    }


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """Report of `to_tflite` and `to_saved_model`, also written as JSON.

    Attributes:
        path: the artefact.
        format: "tflite" or "saved_model".
        scheme: name of the scheme.
        target: name of the target, or None.
        size_bytes: on disk.
        input: "dtype (shape)" of the artefact.
        output: the same, of the first output.
        preprocessing: what was put inside the artefact, or None for nothing.
        input_meaning: what the artefact takes, and what happens to it, in words.
        model_input: what `model.predict` takes, as parity feeds it, in words.
        operators: how many of each operator (`.tflite` only).
        parity: agreement with the Keras model, of the first output.
        parity_images: the images that parity was measured on.
        evaluation: what the model and the artefact reach on the labelled images that
            were given: "metric", "images", "model" and "file"; or None.
        calibration: number, SHA-256 and source of the calibration images, or None.
        labels: names of classes, labels or values, or None.
        head: what the outputs mean, a name in `vit_keras.heads.HEADS`, or None.
        activation: what the model's last layer applies, as "softmax"; "linear" for
            logits and values.
        model_output: name or index of the output, of a model with several.
        outputs: all of the artefact's, as `OutputReport`; the first is above, too.
        rewrites: exact changes of the graph (`graph/rewrites.py`), in order.
        plan: all decisions about the file (`ExportPlan`; `.tflite` only).
        mixed: parts that fell back to higher precision (`MixedPrecision`), or None.
        checked_by: the compiler or runtime that accepted the file for its target.
        facts: measurements or estimates of that tool.
        runtime: first release of TensorFlow Lite that opens the file.
        notes: what the user should know, one line each.
        versions: of the packages that made the artefact.
    """

    path: str
    format: str
    scheme: str
    target: str | None
    size_bytes: int
    input: str
    output: str
    preprocessing: dict[str, Any] | None
    operators: dict[str, int] | None
    parity: Parity
    parity_images: str
    calibration: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    labels: list[str] | None = None
    head: str | None = None
    activation: str = "linear"
    input_meaning: str = ""
    model_input: str = ""
    model_output: str | int | None = None
    outputs: tuple[OutputReport, ...] = ()
    rewrites: tuple[str, ...] = ()
    plan: dict[str, Any] | None = None
    mixed: dict[str, Any] | None = None
    checked_by: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    runtime: str | None = None
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            **dataclasses.asdict(self),
            "parity": self.parity.to_dict(),
            "outputs": [output.to_dict() for output in self.outputs],
        }

    @property
    def evaluation_text(self) -> str:
        """What the model and the artefact reach on labelled images, one line."""
        if self.evaluation is None:
            return "accuracy: not measured; give `evaluation`, labelled images"
        found = self.evaluation
        metric = found["metric"].replace("_", " ")
        values = f"model {found['model']:.4f}, file {found['file']:.4f}"
        return f"{metric}: {values} on {found['images']} images"

    def __str__(self):
        lines = [
            f"{self.path}  {self.size_bytes / 1e6:.2f} MB  {self.scheme}",
            f"  input {self.input}, output {self.output}",
            f"  takes {self.input_meaning}",
            f"  model.predict takes {self.model_input}",
            f"  {self.evaluation_text}",
            f"  parity: {self.parity} ({self.parity_images})",
        ]
        lines += [f"  {x.name}: {x}, parity: {x.parity}" for x in self.outputs[1:]]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def versions() -> dict[str, str]:
    """Return installed versions of Python and of the packages used in exports."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def read_report(path: str | os.PathLike[str]) -> ExportReport:
    """Read the report in the JSON beside an artefact.

    Raises:
        FileNotFoundError: there is no JSON.
        ValueError: it is no JSON, or another release of this package wrote it.
    """
    data = read_json(sidecar(path))
    try:
        parity = Parity.from_dict(data["parity"])
        notes, rewrites = tuple(data["notes"]), tuple(data["rewrites"])
        outputs = tuple(OutputReport.from_dict(output) for output in data["outputs"])
        changes = {"parity": parity, "notes": notes, "rewrites": rewrites}
        changes["outputs"] = outputs
        report = ExportReport(**{**data, **changes})
        str(report)  # which needs each value to be of its kind
        return report
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"'{sidecar(path)}' is a report of another release: {error}; export anew"
        ) from error


def publish(work, path, report: ExportReport) -> ExportReport:
    """Rename an artefact and its JSON report to their final names.

    Arguments:
        work: the artefact in a `workspace`.
        path: its final name.
        report: of the artefact.

    Returns:
        The report with the final path and size.
    """
    report = dataclasses.replace(
        report, path=str(path), size_bytes=size_bytes(work), versions=versions()
    )
    if work.is_file():
        made_here(work)
    publish_files(work, path, report.to_dict())
    return report


def publish_files(work, path, data):
    """Rename a file or folder and the JSON of `data` to their final names.

    Arguments are those of `publish`.
    """
    note = work.with_name("report.json")
    note.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n")
    # An older artefact's JSON must never stand beside a newer artefact.
    publish_together({pathlib.Path(path): work, sidecar(path): note})

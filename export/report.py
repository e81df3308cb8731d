"""What stands beside an artefact, and how files are written without half-done ones."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import tempfile
from typing import Any

from .evaluation.benchmark import size_bytes
from .evaluation.verify import Parity, sidecar

PACKAGES = (
    "vit-keras-edge",
    "keras",
    "tensorflow",
    "ai-edge-litert",
    "litert-quantizer",
)


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `to_tflite` and `to_saved_model` wrote; the JSON beside it says the same.

    Attributes:
        path: the artefact.
        format: "tflite" or "saved_model".
        scheme: name of the scheme.
        target: name of the target, or None.
        size_bytes: on disk.
        input, output: "dtype (shape)" of the artefact's ends.
        preprocessing: what is inside the artefact, or None for nothing.
        operators: how many of each operator (`.tflite` only).
        parity: agreement with the Keras model.
        parity_images: what parity was measured on.
        calibration: number, SHA-256 and source of the calibration images, or None.
        labels: class names, or None.
        rewrites: exact changes of the graph (`graph/rewrites.py`), in order.
        form: how the graph was written (`forms.Form`; `.tflite` only).
        mixed: what was raised above int8, and why (`mixed.Choice`), or None.
        checked_by: the compiler or runtime that accepted the file for its target.
        facts: what that measured or estimated.
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
    preprocessing: dict | None
    operators: dict[str, int] | None
    parity: Parity
    parity_images: str
    calibration: dict | None = None
    labels: list[str] | None = None
    rewrites: tuple[str, ...] = ()
    form: dict[str, Any] = dataclasses.field(default_factory=dict)
    mixed: dict[str, Any] | None = None
    checked_by: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    runtime: str | None = None
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_dict(self):
        """Plain data for JSON."""
        return {**dataclasses.asdict(self), "parity": self.parity.to_dict()}

    def __str__(self):
        lines = [
            f"{self.path}  {self.size_bytes / 1e6:.2f} MB  {self.scheme}",
            f"  input {self.input}, output {self.output}",
            f"  parity: {self.parity} ({self.parity_images})",
        ]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def versions() -> dict[str, str]:
    """Installed versions of the packages that shape an artefact, and of Python."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def read_report(path) -> ExportReport:
    """The report in the JSON beside an artefact."""
    data = json.loads(sidecar(path).read_text())
    parity = data["parity"]
    # JSON holds neither: equal outputs have an infinite ratio, broken ones no number.
    lost = float("inf") if parity.pop("passed") else float("nan")
    for name in ("sqnr_db", "max_abs", "cosine"):
        parity[name] = lost if parity[name] is None else parity[name]
    data["notes"] = tuple(data["notes"])
    return ExportReport(**{**data, "parity": Parity(**parity)})


@contextlib.contextmanager
def staged(path):
    """A temporary path beside `path`, on the same disk, that is removed at the end.

    Work on it, then `publish` it: whatever happens before, nothing half-written
    appears under the final name and nothing else is left behind.

    Raises:
        FileNotFoundError: the folder of `path` does not exist.
        OSError: the folder can not be written to.
    """
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder '{path.parent}' does not exist")
    work = tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        yield pathlib.Path(work) / path.name
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish(staged_path, path, report: ExportReport):
    """Give an artefact its final name, with its JSON beside it.

    Returns:
        The report with the final path and size.
    """
    report = dataclasses.replace(
        report, path=str(path), size_bytes=size_bytes(staged_path), versions=versions()
    )
    note = staged_path.with_name("report.json")
    note.write_text(json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n")
    # The JSON of an older artefact must not stand beside a newer one, even when the
    # process is killed between the two renames.
    sidecar(path).unlink(missing_ok=True)
    os.replace(staged_path, path)
    os.replace(note, sidecar(path))
    return report

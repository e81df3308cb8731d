"""What the tools of targets say of a file."""

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
from typing import Any

from ..errors import MissingDependency
from ..evaluation.check import SERVING, CheckReport, check, check_all
from ..flatbuffer.metadata import read_metadata
from ..report import NOT_PROVEN, ExportReport
from ..targets import get_target
from .plan_files import PlannedFile

# Packages of the checkers, whose versions decide what they say.
TOOLS = ("ethos-u-vela", "onnxruntime-qnn", "openvino", "tflite-micro")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the tool of a target says of a file.

    Attributes:
        target: name in `TARGETS`.
        supported: whether the target takes the whole file; None if nobody was asked.
        tool: compiler, runtime or list, with version; or what is to be installed.
        problems: unsupported operators, one line each.
        facts: measurements or estimates of the tool.
    """

    target: str
    supported: bool | None
    tool: str
    problems: tuple[str, ...] = ()
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def tool_versions() -> dict[str, str]:
    """Return the versions of the packages of `TOOLS` that are installed."""
    found = {}
    for package in TOOLS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def ask_tools(
    planned: PlannedFile, path: pathlib.Path, report: ExportReport
) -> list[dict[str, Any]]:
    """Ask the tool of the target, and the compilers that the target stands for.

    Arguments:
        planned: scheme and target of the file.
        path: of the file.
        report: of its export, which has asked the target's tool if it is installed.

    Returns:
        `Verdict`s as plain data.
    """
    missing = [note for note in report.notes if note.startswith(NOT_PROVEN)]
    own = Verdict(planned.target, True, report.checked_by, facts=report.facts)
    if missing:  # perhaps it was installed since
        own = _verdict(planned.target, _checked(path, planned.target))
    found = [own]
    compilers = get_target(planned.target).checker_options.get("compilers", ())
    for name, said in check_all(path, targets=compilers).items():
        found.append(_verdict(name, said))
    return [dataclasses.asdict(verdict) for verdict in found]


def artefact_verdict(path: str | os.PathLike[str]) -> Verdict:
    """Ask the tool of the target that an artefact was made for, as it says itself.

    Raises:
        ValueError: it is neither a TFLite file nor a SavedModel directory.
        FileNotFoundError: it does not exist.
    """
    if os.path.isdir(path):
        target = SERVING
    else:
        target = read_metadata(path).get("export", {}).get("target") or "any"
    return _verdict(target, _checked(path, target))


def _checked(path, target):
    try:
        return check(path, target)
    except MissingDependency as error:
        return error


def _verdict(target, said: CheckReport | MissingDependency) -> Verdict:
    if isinstance(said, MissingDependency):
        return Verdict(target, None, str(said))
    return Verdict(target, said.passed, said.tool, said.problems, said.facts)

"""What makes a file of a report again: a command, or a call in Python."""

import dataclasses
import json
import os
import pathlib
import shlex
from typing import Any

from vit_keras import Preprocessing
from vit_keras.atomic import publishing

from .plan_files import PlannedFile

PREPROCESSING = "preprocessing.json"


def export_command(
    planned: PlannedFile, path: str | os.PathLike[str], export: dict[str, Any]
) -> str:
    """Return what makes a file again, byte for byte.

    Preprocessing that has no name is written beside the file, for the command to read.

    Arguments:
        planned: scheme and target.
        path: of the file.
        export: the other arguments of `to_tflite`.

    Returns:
        A line for the shell; of what only Python has, as a model in memory, a call.
    """
    given = {name: value for name, value in export.items() if value is not None}
    model, objects = given.pop("model"), given.pop("custom_objects", {})
    modules = {getattr(value, "__module__", None) for value in objects.values()}
    if (
        not isinstance(model, str | os.PathLike)
        or "labels" in given
        or not isinstance(given.get("output", ""), str)
        or modules & {None, "__main__"}
    ):
        return _call(planned, path, model, given, objects)
    if isinstance(given.get("preprocessing"), Preprocessing):
        file = pathlib.Path(path).with_name(PREPROCESSING)
        with publishing(file) as work:
            fields = dataclasses.asdict(given["preprocessing"])
            work.write_text(json.dumps(fields) + "\n", encoding="utf-8")
        given["preprocessing"] = str(file)
    words = ["vit-export", "tflite", os.fspath(model), str(path)]
    words += ["--scheme", planned.scheme, "--target", planned.target]
    for name, value in given.items():
        words += [f"--{name}", value]
    for module in sorted(map(str, modules)):
        words += ["--module", module]
    return shlex.join(words)


def _call(planned, path, model, given, objects):
    stored = isinstance(model, str | os.PathLike)
    words = [repr(os.fspath(model)) if stored else "model", repr(str(path))]
    given = {"scheme": planned.scheme, "target": planned.target, **given}
    for name, value in given.items():
        home = "vit_keras." if isinstance(value, Preprocessing) else ""
        words.append(f"{name}={home}{value!r}")
    if objects:
        words.append("custom_objects=custom_objects")
    return f"export.to_tflite({', '.join(words)})"

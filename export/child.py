"""An export in a process that runs Keras on TensorFlow.

A model on JAX or PyTorch goes through its saved `.keras` file into this child process.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from .errors import ParityError
from .quantization.calibration import CALIBRATION_LIMIT, as_array
from .report import read_report

# exit status of the child -> the error to raise here
CHILD_ERRORS = {1: ParityError, 2: ValueError}


def in_child(command, model, path, options):
    """Run the export in a process on the TensorFlow backend.

    It calls this package's own command line, so that there is one way only.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = model
        if not isinstance(model, str | os.PathLike):
            source = os.path.join(folder, "model.keras")
            model.save(source)
        arguments = [sys.executable, "-m", "export", command, str(source), str(path)]
        arguments += _as_flags(options, folder)
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        roots = [str(pathlib.Path(__file__).parents[1])]
        roots += [environment["PYTHONPATH"]] if "PYTHONPATH" in environment else []
        environment["PYTHONPATH"] = os.pathsep.join(roots)
        done = subprocess.run(
            arguments, env=environment, capture_output=True, text=True
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        message = lines[-1].removeprefix("vit-export: ")
        raise CHILD_ERRORS.get(done.returncode, RuntimeError)(message)
    return read_report(path)


def _as_flags(options, folder):
    """Options of a writer as arguments of the command line."""
    flags = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is None:
            continue
        file = os.path.join(folder, name)
        if name == "calibration" and not isinstance(value, str | os.PathLike):
            value = f"{file}.npy"
            np.save(value, as_array(options[name], CALIBRATION_LIMIT))
        elif name == "evaluation" and not isinstance(value, str | os.PathLike):
            value = f"{file}.npz"
            np.savez(value, images=options[name][0], labels=options[name][1])
        elif name == "labels":
            value = f"{file}.txt"
            text = "\n".join(map(str, options[name])) + "\n"
            pathlib.Path(value).write_text(text, encoding="utf-8")
        elif name == "preprocessing":
            value = f"{file}.json"
            pathlib.Path(value).write_text(
                json.dumps(dataclasses.asdict(options[name]))
            )
        if isinstance(value, list | tuple):
            flags += [part for item in value for part in (flag, str(item))]
        elif isinstance(value, bool):
            flags.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            flags += [flag, str(value)]
    return flags

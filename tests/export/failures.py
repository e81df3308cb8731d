"""Exports that fail, one for every documented error; run on any backend.

`python -m tests.export.failures FOLDER` tries them all and prints, per line, the name
of a case and what happened, as JSON. FOLDER holds what `prepare` wrote.
"""

import json
import os
import pathlib
import sys

import keras

import export
from export.progress import report_stages_to

# name -> (function, model, artefact, options); paths are relative to the folder.
CASES = {
    "ParityError": (
        *("to_tflite", "outliers.keras", "m.tflite"),
        {"scheme": "int8", "calibration": "pixels.npy"},
    ),
    "UnsupportedOperators": ("to_tflite", "erfinv.keras", "m.tflite", {}),
    "MissingDependency": (
        *("to_tflite", "good.keras", "m.tflite", {"scheme": "dynamic_int8"}),
    ),
    "FileNotFoundError": ("to_tflite", "no.keras", "m.tflite", {}),
    "FileNotFoundError: folder": ("to_tflite", "good.keras", "no/m.tflite", {}),
    "FileNotFoundError: images": (
        *("to_tflite", "good.keras", "m.tflite", {"calibration": "no"}),
    ),
    "IsADirectoryError": ("to_tflite", "good.keras", "folder", {}),
    "NotADirectoryError": ("to_tflite", "good.keras", "file/m.tflite", {}),
    "FileExistsError": ("to_saved_model", "good.keras", "folder", {}),
    "OSError: too long": ("to_tflite", "good.keras", 300 * "m" + ".tflite", {}),
    "ValueError: option": ("to_tflite", "good.keras", "m.tflite", {"scheme": "int7"}),
    "ValueError: model": ("to_tflite", "broken.keras", "m.tflite", {}),
    "ValueError: labels": ("to_tflite", "good.keras", "m.tflite", {"labels": ["a"]}),
}


def attempt(name, folder):
    """What happens in a case, as plain data."""
    function, model, path, options = CASES[name]
    if "calibration" in options:
        options = {**options, "calibration": folder / options["calibration"]}
    stages = []
    try:
        with report_stages_to(stages.append):
            getattr(export, function)(folder / model, folder / path, **options)
    except Exception as error:
        parity = getattr(error, "parity", None)
        return {
            "type": type(error).__name__,
            "message": str(error),
            "errno": getattr(error, "errno", None),
            "parity": parity and parity.to_dict(),
            "stages": stages,
        }
    raise AssertionError(f"{name}: nothing was refused")


def without_quantizer(folder):
    """A folder whose `litert_quantizer`, for PYTHONPATH, cannot be imported."""
    shim = folder / "shim" / "litert_quantizer.py"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text("raise ImportError('not here')\n")
    return str(shim.parent)


def main():
    folder = pathlib.Path(sys.argv[1])
    before = os.environ.get("PYTHONPATH", "")
    for name in CASES:
        if name == "MissingDependency":
            os.environ["PYTHONPATH"] = without_quantizer(folder) + os.pathsep + before
        print(json.dumps([name, attempt(name, folder)]), flush=True)
        os.environ["PYTHONPATH"] = before
    print(json.dumps(["backend", keras.backend.backend()]))


if __name__ == "__main__":
    main()

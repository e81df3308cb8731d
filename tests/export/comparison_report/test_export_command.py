"""What makes a file again, of options that are no words, too."""

import collections
import json
import pathlib
import shlex

import numpy as np
import pytest

import export
import vit_keras
from export.cli.arguments import read_preprocessing
from export.comparison_report.export_command import export_command
from export.comparison_report.plan_files import PlannedFile
from tests.models import exported
from vit_keras import Preprocessing

INT8 = PlannedFile("int8", "any")
GIVEN = dict.fromkeys(("preprocessing", "labels", "head", "output", "custom_objects"))


def options(command):
    """What follows each option of a line for the shell."""
    words = shlex.split(command)
    assert words[:2] == ["vit-export", "tflite"]
    pairs = collections.defaultdict(list)
    for name, value in zip(words[4::2], words[5::2], strict=True):
        pairs[name].append(value)
    return words[2:4], pairs


def test_a_line_has_every_option(tmp_path):
    reading = Preprocessing((0.1, 0.2, 0.3), (0.5, 0.5, 0.4), crop=0.9)
    given = GIVEN | {
        "model": pathlib.Path("my model.keras"),
        "calibration": "c.npy",
        "preprocessing": reading,
        "output": "logits",
        # Of a module that can be imported by its name.
        "custom_objects": {"A": collections.Counter, "B": json.JSONDecoder},
    }
    path = tmp_path / "a 'b'.tflite"
    files, found = options(export_command(INT8, path, given))
    assert files == ["my model.keras", str(path)]
    assert read_preprocessing(found.pop("--preprocessing")[0]) == reading
    assert found == {
        "--scheme": ["int8"],
        "--target": ["any"],
        "--output": ["logits"],
        "--calibration": ["c.npy"],
        "--module": ["collections", "json.decoder"],
    }


@pytest.mark.parametrize(
    "only_python", [{"labels": ["a", "b"]}, {"output": 1}, {"model": object()}]
)
def test_what_only_python_has_is_a_call(only_python):
    given = GIVEN | {"model": "m.keras", "calibration": "c.npy"} | only_python
    call = export_command(INT8, "x.tflite", given)
    model = "model" if "model" in only_python else "'m.keras'"
    assert call.startswith(f"export.to_tflite({model}, 'x.tflite', scheme='int8', ")
    for name in set(only_python) - {"model"}:
        assert f"{name}={only_python[name]!r}" in call


def test_the_call_makes_the_file(tmp_path):
    model, images = exported(num_layers=1), np.zeros((10, 32, 32, 3), "uint8")
    report = export.write_report(
        model,
        (images + np.arange(10, dtype="uint8")[:, None, None, None], np.arange(10)),
        tmp_path,
        schemes="float32",
        labels=list("0123456789"),
        runs=1,
    )
    (file,) = report.files
    before = file.path.read_bytes()
    file.path.unlink()
    eval(report.commands["any"], {"export": export, "vit_keras": vit_keras} | locals())
    assert file.path.read_bytes() == before

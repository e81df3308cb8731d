"""The demo at one epoch of a small model, with some of the schemes: its steps, its
table, its commands, and nothing but that."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from export import SCHEMES
from tests.models import slow_but
from tests.program import run

ROOT = pathlib.Path(__file__).parents[1]
# One block and AdamW: the graph of Muon takes TensorFlow longer to build than all else.
SMALL = """
import dataclasses, runpy, sys
import export
from vit_keras.training import recipes
names = sys.argv[1].split(",")
export.SCHEMES = {name: export.SCHEMES[name] for name in names}
digits = recipes.RECIPES["digits"]
sizes = {**digits.model, "num_layers": 1}
recipes.RECIPES["digits"] = digits.replace(model=sizes, optimizer="adamw")
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# How the lines of the demo begin: its steps, its table, and what to try next. A slow
# machine also says how far training is.
OURS = re.compile(
    r"\d+ (real )?images|training|epoch|exporting|skipped|\s+held out\s*$|[┏┃┡│└]"
    r"|step \d+ of|Try next|  \S*vit-|\S+ was not written|$"
)


FEW = ("float32", "int8")


@pytest.mark.parametrize(
    "schemes", slow_but([(FEW,)], [(FEW,), (tuple(SCHEMES),)]), ids=len
)
def test_demo(schemes, tmp_path):
    out = tmp_path / "digits"
    environment = {**os.environ, "COLUMNS": "100"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # libraries log all that they can
    done = subprocess.run(
        [sys.executable, "-c", SMALL, ",".join(schemes), ROOT / "examples" / "demo.py"]
        + ["--epochs", "1", "--out", out],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [line for line in done.stdout.splitlines() if not OURS.match(line)] == []
    for name in FEW:
        assert (out / f"{name}.tflite").is_file()
        assert (out / f"{name}.tflite.json").is_file()
        assert f"{name}.tflite" in done.stdout
    assert (out / "saved_model" / "1" / "saved_model.pb").is_file()
    for word in ("size", "accuracy", "agreement", "SQNR", "latency"):
        assert word in done.stdout
    tail = done.stdout.split("Try next:")[1].strip().splitlines()
    assert len(tail) == 3
    for line in tail[:2]:
        program, *arguments = shlex.split(line)
        done = run(pathlib.Path(program).name, *arguments)
        assert done.returncode == 0, done.stderr

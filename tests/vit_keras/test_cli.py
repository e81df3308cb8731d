"""`vit-keras` as a user types it: its output and its exit status."""

import csv
import json
import pathlib
import subprocess
import sys

import keras
import pytest
from typer.testing import CliRunner

from tests import program
from tests.vit_keras.training.runs import same
from vit_keras import PRESETS, cli, data
from vit_keras.training import RECIPES, fit


def run(*arguments):
    return program.run("vit-keras", *arguments)


def failed(done, *words):
    program.refused(done, "vit-keras", *words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    sizes = "image_size=8 patch_size=4 num_layers=1 hidden_size=16 num_heads=2"
    settings = [f"model.{size}" for size in (sizes + " mlp_dim=16").split()]
    # The graph of Muon takes TensorFlow longer to build than all else.
    settings.append("optimizer=adamw")
    options = [part for text in settings for part in ("--set", text)]
    done = run("train", "--data", "digits", "--out", out, "--epochs", 1, *options)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    from PIL import Image

    _, held_out = data.digits()
    path = tmp_path_factory.mktemp("photo") / "digit.png"
    Image.fromarray(held_out.images[0]).resize((33, 21)).save(path)
    return path


def test_presets():
    done = run("presets")
    assert done.returncode == 0
    for name, preset in PRESETS.items():
        line = next(line for line in done.stdout.splitlines() if f" {name} " in line)
        assert f"{preset.parameters:,}" in line and "arXiv" in line


def test_train_evaluate_predict(trained, photo):
    recipe = json.loads((trained / "recipe.json").read_text())
    assert recipe["epochs"] == 1 and recipe["model"]["hidden_size"] == 16
    done = run("evaluate", trained, "--data", "digits")
    assert done.returncode == 0, done.stderr
    assert "on 359 images" in done.stdout and "accuracy 0." in done.stdout
    done = run("predict", trained, photo, photo, "--top", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 2 and lines[0] == lines[1]
    assert lines[0].startswith(f"{photo}: ") and lines[0].count("%") == 2


def test_recipe_repeats_the_run(trained, tmp_path):
    """To the last bit: the same losses, the same weights."""
    recipe, again = trained / "recipe.json", tmp_path / "again"
    done = run("train", "--data", "digits", "--out", again, "--recipe", recipe)
    assert done.returncode == 0, done.stderr
    assert (again / "recipe.json").read_text() == recipe.read_text()
    first, second = (path / "history.csv" for path in (trained, again))
    with open(first) as one, open(second) as two:
        a, b = (next(csv.DictReader(f)) for f in (one, two))
    assert {k for k in a if a[k] != b[k]} <= {
        *("images_per_second", "input_images_per_second")
    }
    for name in ("model.keras", "best.keras"):
        models = [keras.models.load_model(p / name) for p in (trained, again)]
        assert same(*models)


def test_as_a_program(tmp_path):
    """The one that pip installs: exit status, and one line in place of a traceback."""
    program = pathlib.Path(sys.executable).with_name("vit-keras")
    command = [program, "evaluate", tmp_path / "no", "--data", "digits"]
    failed(subprocess.run(command, capture_output=True, text=True), "no model file")


def parsed(monkeypatch, *arguments):
    """The recipe that `train` gets from a command line."""
    got = []
    monkeypatch.setattr(fit, "train", lambda data, recipe, **_: got.append(recipe))
    options = ["train", "--data", "digits", "--out", "x"]
    result = CliRunner().invoke(cli.app, [*options, *arguments])
    if result.exception:
        raise result.exception
    return got[0]


def test_recipe_by_name_and_settings(monkeypatch):
    assert parsed(monkeypatch) == RECIPES["digits"]
    assert parsed(monkeypatch, "--recipe", "deit3") == RECIPES["deit3"]
    settings = ("mixup=0.2", "model.dropout=0.1", "optimizer=lamb", "clip_norm=null")
    options = [part for text in settings for part in ("--set", text)]
    recipe = parsed(monkeypatch, "--recipe", "folder", *options, "--epochs", "3")
    assert recipe == RECIPES["folder"].replace(
        mixup=0.2, model={"dropout": 0.1}, optimizer="lamb", clip_norm=None, epochs=3
    )
    assert parsed(monkeypatch, "--preset", "vit_b16").model == {}


@pytest.mark.parametrize("kept", [True, False])
def test_stopped_by_the_user(monkeypatch, tmp_path, kept):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "train", stopped)
    if kept:
        folder = tmp_path / "checkpoint" / "000001"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
        (folder / "state.weights.h5").write_bytes(b"")
    options = ["train", "--data", "digits", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.app, options)
    assert result.exit_code == 130
    assert ("resumes from the last checkpoint" in result.output) == kept


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--recipe", "deit4", "`--recipe` must be one of digits, .*deit4"),
        ("--set", "mixup", "`--set` must be FIELD=VALUE. Received: mixup"),
        ("--set", "mixups=1", "`mixups` is not a field.*Did you mean `mixup`"),
        ("--set", "mixup=much", "`mixup` must be a number"),
        ("--set", "epochs=1.5", "`epochs` must be an integer"),
    ],
)
def test_bad_recipe_options(monkeypatch, option, value, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        parsed(monkeypatch, option, value)


def test_recipes():
    result = CliRunner().invoke(cli.app, ["recipes"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for name in RECIPES:
        assert f" {name} " in result.output


def test_bad_input_is_one_clear_line(trained, photo, tmp_path):
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04")
    failed(run("evaluate", tmp_path, "--data", "digits"), "cannot be opened")
    (tmp_path / "bad.json").write_text('{"epoch": 3}')
    options = ["--data", "digits", "--out", tmp_path / "x"]
    failed(run("train", *options, "--recipe", tmp_path / "bad.json"), "no recipe")
    text = tmp_path / "text.png"
    text.write_text("hello")
    failed(run("predict", trained, text), "cannot read", "text.png")


def test_bad_usage(trained, tmp_path):
    failed(run("train", "--data", "digits", "--out", trained), "holds a run already")
    out = tmp_path / "run"
    failed(
        run("train", "--data", tmp_path / "no", "--out", out), "'digits' or a folder"
    )
    failed(
        run("train", "--data", "digits", "--out", out, "--preset", "vit_b17"),
        "`preset` must be one of",
        "Did you mean",
    )
    assert run("train").returncode == 2
    assert run("no-such-command").returncode == 2

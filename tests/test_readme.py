"""The README's words are true: its code runs, its commands exist, its map is right."""

import dataclasses
import importlib
import pathlib
import re
import tomllib

import numpy as np
import pytest
from PIL import Image

from vit_keras import PRESETS

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_first_lines_are_the_two_commands():
    block = README.split("```")[1].splitlines()
    assert [line.split("#")[0].strip() for line in block[1:3]] == [
        "make demo",
        "make test",
    ]
    makefile = (ROOT / "Makefile").read_text()
    assert "\ndemo:" in makefile and "\ntest:" in makefile


def test_python_blocks_run(tmp_path, monkeypatch):
    """One after the other; the preset that they name has one of its blocks here."""
    preset = PRESETS["vit_ti16"]
    small = dataclasses.replace(preset, config=preset.config.replace(num_layers=1))
    monkeypatch.setitem(PRESETS, "vit_ti16", small)
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 6
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        if "keras_hub" in block and not _offline_preset(monkeypatch, tmp_path):
            continue
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "model.keras").is_file()
    assert (tmp_path / "model.tflite").is_file()
    assert (tmp_path / "vit" / "1" / "saved_model.pb").is_file()


def _offline_preset(monkeypatch, folder):
    """Have KerasHub give a small classifier without network, and photographs; False if
    it is not installed."""
    try:
        import keras_hub
    except ImportError:
        return False
    converter = keras_hub.layers.ImageConverter(
        image_size=(32, 32), scale=1 / 127.5, offset=-1
    )
    backbone = keras_hub.models.ViTBackbone(
        **{"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 1},
        **{"num_heads": 2, "hidden_dim": 32, "mlp_dim": 32},
    )
    preprocessor = keras_hub.models.ViTImageClassifierPreprocessor(converter)
    classifier = keras_hub.models.ViTImageClassifier(
        backbone=backbone, num_classes=5, preprocessor=preprocessor
    )
    presets = keras_hub.models.ImageClassifier
    monkeypatch.setattr(presets, "from_preset", lambda name: classifier)
    (folder / "photos").mkdir()
    draws = np.random.default_rng(0)
    for i in range(8):
        pixels = draws.integers(0, 256, (40, 48, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")
    return True


def test_named_paths_exist():
    # A folder in the first column, what is in it in the second.
    rows = re.findall(r"^\| `(\w+/)` \| (.*) \|$", README, re.M)
    assert [folder for folder, _ in rows] == [
        "vit_keras/",
        "export/",
        "examples/",
        "benchmarks/",
        "tests/",
    ]
    for folder, text in rows:
        assert (ROOT / folder).is_dir()
        for name in re.findall(r"`([a-z_]+(?:/|\.py))`", text):
            assert (ROOT / folder / name).exists(), name


@pytest.mark.parametrize("program", ["vit-keras", "vit-export"])
def test_commands_of_the_readme_exist(program):
    module = {"vit-keras": "vit_keras.cli", "vit-export": "export.cli"}[program]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"][program] == f"{module}:main"
    commands = set(re.findall(rf"`{program} ([a-z-]+)", README))
    app = importlib.import_module(module).app
    known = {c.name or c.callback.__name__ for c in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    assert commands and commands <= known


def test_every_dependency_has_a_floor():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    for line in (line for lines in lists for line in lines):
        assert line.startswith("vit-keras-edge") or re.search(r">=|==", line), line

"""The table of published weights."""

import re

import pytest

from vit_keras.presets import PRESETS
from vit_keras.weights.published import PUBLISHED

HOSTS = (
    "https://storage.googleapis.com/vit_models/",
    "https://dl.fbaipublicfiles.com/deit/",
)
every_row = pytest.mark.parametrize("name", PUBLISHED)


def test_files_are_listed_once():
    urls = [row.url for row in PUBLISHED.values()]
    assert len(set(urls)) == len(urls)


@every_row
def test_name_says_what_the_row_is(name):
    row = PUBLISHED[name]
    assert re.fullmatch(
        r"(vit|deit)_[a-z]+\d+(_augreg|_distilled)?_(\d{3}|in21k)", name
    )
    assert name.split("_")[1] == row.preset.split("_")[1]
    assert name.endswith("_in21k") or name.endswith(f"_{row.image_size}")
    assert row.classes == (21843 if name.endswith("_in21k") else 1000)
    assert row.image_size in (224, 384)


@every_row
def test_preset_is_the_size_of_the_file(name):
    row = PUBLISHED[name]
    config = PRESETS[row.preset].config
    file = row.url.rpartition("/")[2].lower()
    patch = re.search(r"(?:patch|(?:ti|s|b|l|h)_)(\d+)", file)
    assert patch and config.patch_size == (int(patch.group(1)),) * 2
    letter = re.match(r"(?:vit-|deit_)?(ti|s|b|l|h)", file)
    widths = {"ti": 192, "s": 384, "b": 768, "l": 1024, "h": 1280}
    assert letter and config.hidden_size == widths[letter.group(1)]
    assert config.distillation_token == ("distilled" in file)
    assert row.image_size % config.patch_size[0] == 0


@every_row
def test_source_is_named(name):
    row = PUBLISHED[name]
    assert row.url.startswith(HOSTS)
    assert row.url.endswith({"augreg": ".npz", "timm": ".pth"}[row.layout])
    assert row.licence == "Apache-2.0"
    assert row.paper in ("2106.10270", "2010.11929", "2012.12877")
    assert row.sha256 is None or re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", row.sha256)
    assert row.sha256 is None or row.sha256[:8] in row.url


@every_row
def test_accuracy_is_plausible_and_has_a_source(name):
    row = PUBLISHED[name]
    assert row.top1 is None or (60 < row.top1 < 90 and row.classes == 1000)
    assert (row.top1 is None) == (row.top1_source is None)


@every_row
def test_preprocessing_follows_the_authors(name):
    row = PUBLISHED[name]
    mean = (0.485, 0.456, 0.406) if row.layout == "timm" else (0.5, 0.5, 0.5)
    assert row.preprocessing.mean == mean
    assert row.preprocessing.interpolation == "bicubic"
    assert row.preprocessing.crop == (0.9 if row.image_size == 224 else 1.0)

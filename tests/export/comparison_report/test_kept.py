"""Findings that a later run takes over, and those that it does not."""

import json
import re

import keras
import numpy as np
import pytest

from export.comparison_report.kept import Kept, file_hash, model_hash
from tests.models import TINY
from vit_keras import create_model


def never():
    raise AssertionError("it was kept")


def test_kept_if_found_from_the_same(tmp_path):
    path = tmp_path / "x.json"
    of = {"model": "abc", "options": {"size": (1, 2)}}
    first = Kept(path, "int8 for any")
    assert first.get("scores", of, lambda: {"value": 1}) == {"value": 1}
    assert first.anew == ["scores"]
    again = Kept(path, "int8 for any")
    assert again.get("scores", dict(of), never) == {"value": 1}
    assert again.anew == []


def test_what_differs_is_said(tmp_path):
    path = tmp_path / "x.json"
    Kept(path, "x").get("scores", {"model": "a", "images": "b", "k": 1}, lambda: 1)
    kept = Kept(path, "int8 for any")
    words = "int8 for any, scores: found anew, .*: images, model$"
    with pytest.warns(UserWarning, match=words):
        assert kept.get("scores", {"model": "c", "k": 1}, lambda: 2) == 2
    assert Kept(path, "x").get("scores", {"model": "c", "k": 1}, never) == 2


def test_found_anew_if_the_file_is_gone(tmp_path):
    Kept(tmp_path / "x.json", "x").get("file", {}, lambda: 1)
    assert Kept(tmp_path / "x.json", "x").get("file", {}, lambda: 2, good=False) == 2


def test_an_error_keeps_nothing(tmp_path):
    with pytest.raises(AssertionError):
        Kept(tmp_path / "x.json", "x").get("file", {}, never)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", '{"file": {"of"', "3"])
def test_damaged(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.warns(UserWarning, match="damaged: int8 is made anew"):
        kept = Kept(tmp_path / "x.json", "int8")
    assert kept.get("file", {}, lambda: 1) == 1
    assert json.loads((tmp_path / "x.json").read_text())["file"]["found"] == 1


def test_hash_of_a_model(tmp_path):
    keras.utils.set_random_seed(0)
    model = create_model(TINY)
    before = model_hash(model)
    assert before == model_hash(model) and re.fullmatch("[0-9a-f]{64}", before)
    bias = model.get_layer("head").bias
    bias.assign(np.asarray(bias) + 1)
    assert model_hash(model) != before
    path = tmp_path / "model.keras"
    path.write_bytes(b"abc")
    assert model_hash(path) == model_hash(str(path)) == file_hash(path)
    assert file_hash(tmp_path / "missing") is None

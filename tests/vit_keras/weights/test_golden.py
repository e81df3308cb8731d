"""Checkpoints that the real packages wrote, and what those packages computed."""

import numpy as np
import pytest

import vit_keras
from tests.models import run
from tests.vit_keras.weights.golden_files import CASES, TOLERANCE, file_of, golden
from vit_keras.weights.describe import describe
from vit_keras.weights.loader import find
from vit_keras.weights.recognise import recognise

# Bare files of timm: what they leave open has tests of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*nothing in the file tells")


@pytest.mark.parametrize("name", CASES)
def test_recognised_and_described(name):
    case = CASES[name]
    match = recognise(find(file_of(name)))
    assert match.layout.name == case["layout"]
    assert not match.unused
    assert not match.misfits
    config = describe(match, **case["needs"])
    expected = dict(case["config"])
    scaled = expected.pop("layer_scale", False)
    assert (config.layer_scale_init_value is not None) == scaled
    for field, value in expected.items():
        value = tuple(value) if isinstance(value, list) else value
        assert getattr(config, field) == value, field
    told = {"include_top", "class_token", "position_prefix", "qkv_bias"}
    defaults = {"include_top": True, "position_prefix": True, "qkv_bias": True}
    for field in told - set(expected) - {"class_token"}:
        assert getattr(config, field) == defaults[field], field


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_the_package(name):
    images, outputs = golden(name)
    # A package that returns tokens is compared by its tokens.
    task = "features" if outputs.ndim == 3 else "classify"
    model = vit_keras.from_checkpoint(file_of(name), task=task, **CASES[name]["needs"])
    np.testing.assert_allclose(run(model, images), outputs, rtol=0, atol=TOLERANCE)
    assert np.abs(outputs).max() > 0.1  # else the tolerance would mean nothing

"""Tokens and positions: moved into one another, resized, refused."""

import re

import keras
import numpy as np
import pytest
import safetensors.numpy as safetensors

from tests.models import images_for, run
from tests.vit_keras.weights.golden_files import (
    AUGREG,
    CASES,
    GOLDEN,
    TOLERANCE,
    arrays_of,
    blank,
    config_of,
    equal,
    file_of,
    golden,
    refused,
    saved,
    sizes_of,
    values,
)
from vit_keras import create_model, from_checkpoint, load_weights
from vit_keras.weights.resize import METHODS, resize_positions

# Bare files of timm: what they leave open has tests of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*nothing in the file tells")

WITH_TOKENS = ["timm-token", "timm-distilled", "timm-registers", "timm-dinov2"]
WITH_TOKENS += ["augreg-token", "bv-tok", "hf-deit", "hf-dinov2-registers", "kh-token"]


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("name", WITH_TOKENS)
def test_positions_of_the_prefix_may_be_part_of_the_tokens(name, prefix):
    images, outputs = golden(name)
    task = "features" if outputs.ndim == 3 else "classify"
    model = from_checkpoint(
        file_of(name), task=task, **CASES[name]["needs"], position_prefix=prefix
    )
    assert model.config.position_prefix == prefix
    np.testing.assert_allclose(run(model, images), outputs, rtol=0, atol=TOLERANCE)


def test_tokens_and_positions_by_hand():
    arrays = arrays_of("augreg-token")
    place = arrays[AUGREG["posembed_input/embedding"]]
    model = blank("augreg-token", position_prefix=False)
    load_weights(model, file_of("augreg-token"))
    found = values(model)
    np.testing.assert_array_equal(
        found["class_token/token"], arrays["cls"] + place[:, :1]
    )
    np.testing.assert_array_equal(found["posembed_input/embedding"], place[:, 1:])
    model = blank("bv-tok", position_prefix=True)
    load_weights(model, file_of("bv-tok"))
    found, arrays = values(model), arrays_of("bv-tok")
    expected = arrays["params/pos_embedding"]
    np.testing.assert_array_equal(
        found["posembed_input/embedding"],
        np.concatenate([np.zeros_like(expected[:, :1]), expected], axis=1),
    )


def test_a_distillation_token_without_a_head_is_a_register(tmp_path):
    """transformers' DeiTForImageClassification reads the class token only."""
    arrays = {
        n.replace("cls_classifier", "classifier"): a
        for n, a in arrays_of("hf-deit").items()
        if not n.startswith("distillation_classifier")
    }
    path = saved(tmp_path, arrays)
    for file in GOLDEN.joinpath("hf-deit").glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    model = from_checkpoint(path)
    config = model.config
    assert not config.distillation_token and config.num_register_tokens == 1
    assert config.pooling == "token" and config.classes == 5
    both = from_checkpoint(file_of("hf-deit"))
    one = keras.Model(both.inputs[0], both.get_layer("head").output)
    images = images_for(config)
    np.testing.assert_allclose(
        run(model, images), run(one, images), rtol=0, atol=TOLERANCE
    )
    other = from_checkpoint(path, position_prefix=False)
    np.testing.assert_allclose(
        run(other, images), run(one, images), rtol=0, atol=TOLERANCE
    )


# The method that each layout's authors use.
RESIZED = {
    "augreg-token": "zoom",
    "bv-gap": "zoom",
    "bv-tok": "zoom",
    "hf-vit": "bicubic",
    "hf-rect": "bicubic",
    "hf-dinov2": "bicubic",
    "hf-dinov2-registers": "bicubic_antialias",
    "kh-token": "bilinear",
    "timm-token": "bicubic_antialias",
    "timm-registers": "bicubic_antialias",
    "timm-distilled": "bicubic_antialias",
    "vk-h5": "zoom",
    "vp-cls": "bicubic_antialias",
}
GRIDS = [(6, 6), (3, 6), (2, 3)]


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        pytest.param(n, GRIDS[(i + k) % 3], marks=pytest.mark.slow if k else ())
        for i, n in enumerate(RESIZED)
        for k in (0, 1)
    ],
)
def test_positions_are_resized_and_the_prefix_is_not(name, grid):
    (p, q), old = config_of(name).patch_size, config_of(name)
    size, needs = (grid[0] * p, grid[1] * q), CASES[name]["needs"]
    original = from_checkpoint(file_of(name), **needs)
    model = from_checkpoint(file_of(name), **{**needs, "image_size": size})
    assert model.config.image_size == size
    before, after = values(original), values(model)
    path = "posembed_input/embedding"
    prefix = before[path].shape[1] - old.grid[0] * old.grid[1]
    table = before[path][0, prefix:].reshape(*old.grid, -1)
    expected = resize_positions(table, grid, RESIZED[name]).reshape(-1, table.shape[-1])
    np.testing.assert_array_equal(after[path][:, :prefix], before[path][:, :prefix])
    np.testing.assert_allclose(after[path][0, prefix:], expected, rtol=0, atol=1e-6)
    equal(
        {k: v for k, v in after.items() if k != path},
        {k: v for k, v in before.items() if k != path},
    )
    other = blank(name, image_size=size)
    report = load_weights(other, file_of(name))
    equal(values(other), after)
    assert report.resized == [f"positions from {old.grid} to {grid}, {RESIZED[name]}"]


def test_a_preset_at_another_image_size():
    name = "augreg-token"
    p, _ = config_of(name).patch_size
    given = {**sizes_of(name), "image_size": 6 * p}
    model = create_model("vit_ti16", weights=file_of(name), **given)
    equal(values(model), values(from_checkpoint(file_of(name), image_size=6 * p)))


def test_a_rectangle_of_the_settings_is_resized():
    """Where the file's own grid is no square, its settings tell it."""
    config = config_of("hf-rect")
    assert config.grid[0] != config.grid[1]
    p, q = config.patch_size
    model = from_checkpoint(file_of("hf-rect"), image_size=(3 * p, 3 * q))
    assert model.config.grid == (3, 3)


def test_no_square_into_another_rectangle_is_refused(tmp_path):
    arrays = arrays_of("bv-gap")
    arrays["params/pos_embedding"] = np.ones((1, 15, 8), "f4")
    path = saved(tmp_path, arrays, "model.npz")
    with refused(model := blank("bv-gap"), "15 positions"):
        load_weights(model, path)
    p, q = model.config.patch_size
    good = blank("bv-gap", image_size=(3 * p, 5 * q))
    assert not load_weights(good, path).resized


@pytest.mark.parametrize("name", ["augreg-token", "timm-token", "hf-vit"])
def test_grown_patches_give_the_same_outputs(name):
    """FlexiViT, arXiv 2212.08013: on patches that are resized alike."""
    images, outputs = golden(name)
    p, q = config_of(name).patch_size
    method = {"zoom": "bilinear"}.get(RESIZED[name], RESIZED[name])
    rows, columns = METHODS[method](p, 2 * p), METHODS[method](q, 2 * q)
    n, height, width, c = images.shape
    cut = images.reshape(n, height // p, p, width // q, q, c)
    grown = np.einsum("Pp,Qq,nhpwqc->nhPwQc", rows, columns, cut)
    grown = grown.reshape(n, 2 * height, 2 * width, c).astype("float32")
    needs = CASES[name]["needs"]
    words = re.escape(f"patches from {(p, q)} to {(2 * p, 2 * q)} pixels")
    with pytest.warns(UserWarning, match=words):
        model = from_checkpoint(
            file_of(name), **needs, patch_size=2 * p, image_size=(2 * height, 2 * width)
        )
    np.testing.assert_allclose(run(model, grown), outputs, rtol=0, atol=TOLERANCE)
    with pytest.warns(UserWarning, match=words):
        load_weights(
            blank(name, patch_size=2 * p, image_size=2 * height), file_of(name)
        )


def test_positions_of_the_original_dinov2(tmp_path):
    """Meta's files: the names of timm, and registers that have no positions."""
    arrays = arrays_of("timm-dinov2")
    arrays["register_tokens"] = arrays.pop("reg_token")
    place = np.full_like(arrays["cls_token"], 0.5)
    arrays["cls_token"] = arrays["cls_token"] - place
    arrays["pos_embed"] = np.concatenate([place, arrays["pos_embed"]], axis=1)
    arrays["mask_token"] = np.zeros((1, 8), "float32")
    safetensors.save_file(arrays, tmp_path / "dinov2.safetensors")
    images, outputs = golden("timm-dinov2")
    model = from_checkpoint(
        tmp_path / "dinov2.safetensors", **CASES["timm-dinov2"]["needs"]
    )
    np.testing.assert_allclose(run(model, images), outputs, rtol=0, atol=TOLERANCE)

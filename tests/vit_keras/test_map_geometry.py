"""Ways of resizing: where a photograph lies in the input, masks there, maps back."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.models import tiny
from tests.shapes import shapes
from vit_keras import Preprocessing, ViTConfig
from vit_keras.preprocessing import (
    fit,
    fit_mask,
    normalize,
    placed_box,
    to_photograph,
    visible_box,
)
from vit_keras.weights.settings import read_timm
from vit_keras.weights.written_settings import write_timm

COVER, STRETCH, CONTAIN = (
    Preprocessing(interpolation="nearest", resize=resize)
    for resize in ("cover", "stretch", "contain")
)
SIZES = [((12, 20), (8, 8)), ((20, 12), (8, 16)), ((7, 5), (16, 16)), ((9, 9), (9, 9))]


def test_cover_is_the_default():
    assert Preprocessing() == Preprocessing(resize="cover")
    assert Preprocessing((0.5,) * 3, (0.5,) * 3, "bicubic", 0.9).crop == 0.9


@pytest.mark.parametrize("size", [(12, 20), (20, 12), (1, 50)])
def test_stretch_is_pillows_resize(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype("uint8")
    rules = Preprocessing(resize="stretch")
    wanted = Image.fromarray(pixels).resize((16, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(fit(pixels, (8, 16), rules), np.asarray(wanted))
    assert visible_box(size, (8, 16), rules) == (0, 0, size[1], size[0])


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((16, 16), (4, 0, 12, 8)),
        ((8, 32), (0, 2, 16, 6)),
        ((100, 1), (7, 0, 8, 8)),  # at least a pixel
        ((4, 8), (0, 0, 16, 8)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_contain_pads_with_the_mean(size, box, channels):
    mean = (0.1, 0.5, 0.9)[:channels]
    rules = Preprocessing(mean, (0.5,) * channels, resize="contain")
    pixels = np.full((*size, channels), 200, "uint8")
    assert placed_box(size, (8, 16), rules) == box
    found = fit(pixels, (8, 16), rules)
    left, top, right, bottom = box
    wanted = np.empty((8, 16, channels), "uint8")
    wanted[:] = [round(255 * m) for m in mean]  # 25.5, 127.5, 229.5: to even
    wanted[top:bottom, left:right] = 200
    np.testing.assert_array_equal(found, wanted)
    # The mean's colour is zero in the model's input, but for half a grey level.
    assert abs(normalize(found, rules)[wanted != 200]).max(initial=0) < 1.01 / 255


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resize": "fill"}, "`resize` must be one of cover, stretch, contain"),
        ({"resize": "contain", "crop": 0.9}, "`crop` must be 1 with resize"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        Preprocessing(**options)


@pytest.mark.parametrize("resize", ["cover", "stretch", "contain"])
def test_settings_come_back(resize):
    rules = Preprocessing(resize=resize)
    config = tiny(preprocessing=rules)
    assert ViTConfig(**config.to_dict()).preprocessing == rules
    written = write_timm(config, "timm")
    assert read_timm(written)["preprocessing"] == rules
    written["config.json"]["pretrained_cfg"]["crop_pct"] = 0.5
    if resize == "contain":
        with pytest.raises(ValueError, match="`crop` must be 1"):
            read_timm(written)
    else:
        assert read_timm(written)["preprocessing"].crop == 0.5


@pytest.mark.parametrize("rules", [COVER, STRETCH, CONTAIN], ids=lambda r: r.resize)
@pytest.mark.parametrize(("size", "image_size"), SIZES)
def test_masks_lie_as_their_images(rules, size, image_size):
    """The index of each pixel, as colours and as numbers, goes the same way."""
    numbers = np.arange(size[0] * size[1]).astype("uint8").reshape(size)
    image = fit(np.repeat(numbers[..., None], 3, axis=-1), image_size, rules)
    mask = fit_mask(numbers, image_size, rules)
    assert mask.shape == image_size and mask.dtype == "uint8"
    left, top, right, bottom = placed_box(size, image_size, rules)
    inside = mask[top:bottom, left:right]
    np.testing.assert_array_equal(inside, image[top:bottom, left:right, 0])
    outside = np.ones(image_size, bool)
    outside[top:bottom, left:right] = False
    assert (mask[outside] == 255).all()
    depth = fit_mask(numbers.astype("float32"), image_size, rules)
    assert depth.dtype == "float32" and np.isnan(depth[outside]).all()
    np.testing.assert_array_equal(depth[~outside], mask[~outside])


def test_crops_keep_the_centre():
    mask = np.arange(64).reshape(8, 8).astype("uint8")
    half = dataclasses.replace(COVER, crop=0.5)
    np.testing.assert_array_equal(fit_mask(mask, (4, 4), half), mask[2:6, 2:6])
    half = dataclasses.replace(STRETCH, crop=0.5)
    assert visible_box((8, 16), (4, 4), half) == (4, 2, 12, 6)


@pytest.mark.parametrize("rules", [COVER, STRETCH, CONTAIN], ids=lambda r: r.resize)
@pytest.mark.parametrize(("size", "image_size"), [((12, 20), (48, 48)), *SIZES])
def test_maps_come_back(rules, size, image_size):
    """Over a larger input, nothing is lost of what the model sees."""
    larger = tuple(8 * side for side in image_size)
    mask = np.random.default_rng(0).integers(0, 9, size).astype("uint8")
    back = to_photograph(fit_mask(mask, larger, rules), size, rules)
    left, top, right, bottom = visible_box(size, larger, rules)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    seen = (y >= top) & (y <= bottom) & (x >= left) & (x <= right)
    np.testing.assert_array_equal(back, np.where(seen, mask, 255))
    assert seen.all() == (rules.resize != "cover" or back.max() < 255)


@pytest.mark.parametrize("rules", [COVER, STRETCH, CONTAIN], ids=lambda r: r.resize)
def test_floats_are_interpolated(rules):
    """A ramp over the photograph stays that ramp: linear in its coordinates."""
    size, image_size = (30, 50), (60, 80)
    left, top, right, bottom = visible_box(size, image_size, rules)
    x0, y0, x1, y1 = placed_box(size, image_size, rules)
    y, x = np.mgrid[: image_size[0], : image_size[1]] + 0.5
    y = (y - y0) * (bottom - top) / (y1 - y0) + top
    x = (x - x0) * (right - left) / (x1 - x0) + left
    back = to_photograph(np.stack([x, 2 * y - x], -1).astype("float32"), size, rules)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    seen = ~np.isnan(back[..., 0])
    if rules.resize == "cover":
        np.testing.assert_array_equal(seen, (x > left) & (x < right))
    else:
        assert seen.all()
    # float32 of values up to 100.
    np.testing.assert_allclose(
        back[seen], np.stack([x, 2 * y - x], -1)[seen], atol=1e-4
    )


def test_maps_of_a_coarser_grid():
    """A map of one value per patch is of the whole input, too."""
    grid = np.array([[1, 2], [3, 4]], "uint8")
    back = to_photograph(grid, (4, 6), COVER)  # the middle 4 x 4 are seen
    np.testing.assert_array_equal(
        back,
        np.pad(
            np.kron(grid, np.ones((2, 2), "uint8")),
            ((0, 0), (1, 1)),
            constant_values=255,
        ),
    )


def test_shapes_are_the_same_by_seed():
    first, again, other = (shapes(3, (32, 40), seed) for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first[0] != other[0]).any()
    images, masks = shapes(40, border=1)
    assert images.shape == (40, 48, 64, 3) and masks.shape == (40, 48, 64)
    assert np.unique(masks).tolist() == [0, 1, 2, 3, 255]
    assert images[masks == 0].max() < 96 <= images[(masks > 0) & (masks < 255)].max()

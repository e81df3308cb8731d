"""Operations on many images at once equal Pillow's on each."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from vit_keras.training.randaugment import (
    OPERATIONS,
    THREE,
    randaugment,
    three_augment,
)


def _affine(image, matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def _enhance(kind):
    return lambda image, m: kind(image).enhance(1.0 + 0.9 * m)


PILLOW = {
    "identity": lambda image, m: image,
    "autocontrast": lambda image, m: ImageOps.autocontrast(image),
    "equalize": lambda image, m: ImageOps.equalize(image),
    "rotate": lambda image, m: image.rotate(30.0 * m),
    "solarize": lambda image, m: ImageOps.solarize(image, round(256 * (1 - abs(m)))),
    "posterize": lambda image, m: ImageOps.posterize(image, 8 - round(4 * abs(m))),
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": lambda image, m: _affine(image, (1, 0.3 * m, 0, 0, 1, 0)),
    "shear_y": lambda image, m: _affine(image, (1, 0, 0, 0.3 * m, 1, 0)),
    "translate_x": lambda image, m: _affine(
        image, (1, 0, 0.45 * m * image.width, 0, 1, 0)
    ),
    "translate_y": lambda image, m: _affine(
        image, (1, 0, 0, 0, 1, 0.45 * m * image.height)
    ),
}
PILLOW_THREE = {
    "grey": lambda image: ImageOps.grayscale(image).convert(image.mode),
    "solarize": lambda image: ImageOps.solarize(image, 128),
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(1.0)),
}
MAGNITUDES = np.array((-1.0, -0.83, -0.3, 0.0, 0.2, 0.55, 0.9, 1.0))


def pictures(channels=3, size=(22, 40)):
    """Smooth ones, as photographs; the first is all of one grey."""
    draws = np.random.default_rng(0)
    pictures = []
    for _ in MAGNITUDES:
        shape = (5, 9, 3) if channels == 3 else (5, 9)
        coarse = Image.fromarray(draws.integers(0, 256, shape, "uint8"))
        pictures.append(np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC)))
    pictures[0] = np.full_like(pictures[0], 77)
    return np.stack(pictures).reshape(-1, *size, channels)


def with_pillow(images, function, *arguments):
    results = []
    for image, *rest in zip(images, *arguments, strict=True):
        image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        results.append(np.asarray(function(image, *rest)))
    return np.stack(results).reshape(images.shape)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_equals_pillow(name, channels):
    images = pictures(channels)
    before = images.copy()
    result = OPERATIONS[name](images, MAGNITUDES)
    assert result.dtype == np.uint8 and result.shape == images.shape
    np.testing.assert_array_equal(images, before)
    expected = with_pillow(images, PILLOW[name], MAGNITUDES)
    difference = np.abs(result.astype(int) - expected)
    if name == "rotate":
        # Pillow counts in steps of 2**-16 pixels: where two pixels are equally near,
        # it may take the other one.
        assert (difference > 0).mean() < 0.005
    else:
        # Pillow's tables hold whole numbers: autocontrast may round otherwise.
        assert difference.max() <= (name == "autocontrast")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", THREE)
def test_three_equal_pillow(name, channels):
    images = pictures(channels)
    result = THREE[name](images)
    expected = with_pillow(images, PILLOW_THREE[name])
    # Pillow puts three box filters in place of the Gaussian.
    tolerance = 4 if name == "blur" else 0
    assert np.abs(result.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"autocontrast", "equalize"}))
def test_no_magnitude_no_change(name):
    images = pictures()
    result = OPERATIONS[name](images, np.zeros(len(images)))
    np.testing.assert_array_equal(result, images)


def test_each_operation_is_as_likely():
    draws = np.random.default_rng(0)
    images = np.repeat(pictures()[1:2], 2800, axis=0)
    chances = draws.random((2800, 2))
    changed = images.copy()
    randaugment(changed, 1, 0.6, chances)
    chosen = (chances[:, 0] * len(OPERATIONS)).astype(int)
    for at, name in enumerate(OPERATIONS):
        rows = np.flatnonzero(chosen == at)
        assert 140 < len(rows) < 260  # 200, four standard deviations of 14
        signs = np.where(chances[rows, 1] < 0.5, -0.6, 0.6)
        assert 0.3 < (signs > 0).mean() < 0.7
        expected = OPERATIONS[name](images[rows], signs)
        np.testing.assert_array_equal(changed[rows], expected)


def test_operations_follow_each_other():
    images = pictures()
    chances = np.array([[0.15, 0.95, 0.7, 0.2]] * len(images))  # equalize, then shift
    changed = images.copy()
    randaugment(changed, 2, 0.5, chances)
    first = OPERATIONS["equalize"](images, None)
    half = np.full(len(images), -0.5)
    np.testing.assert_array_equal(changed, OPERATIONS["translate_y"](first, half))


def test_one_of_three():
    images = pictures()
    changed = images.copy()
    three_augment(changed, np.linspace(0, 0.99, len(images)))
    kinds = (np.linspace(0, 0.99, len(images)) * 3).astype(int)
    for at, operation in enumerate(THREE.values()):
        rows = kinds == at
        assert rows.any()
        np.testing.assert_array_equal(changed[rows], operation(images[rows]))

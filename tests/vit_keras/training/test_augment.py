"""Random changes to images: what they keep, what they change, where draws come from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vit_keras.training import Recipe
from vit_keras.training.augment import (
    OPERATIONS,
    THREE,
    BatchAugment,
    augment_image,
    crop_box,
    draws_for,
)

PLAIN = Recipe(shift=0.0, flip=False)
# Nothing to do at magnitude 0; "autocontrast" and "equalize" have no magnitude.
IDENTITY = sorted(set(OPERATIONS) - {"autocontrast", "equalize"})


def picture(mode="RGB", size=(40, 30)):
    channels = (3,) if mode == "RGB" else ()
    draws = np.random.default_rng(0)
    pixels = draws.integers(30, 200, (size[1], size[0], *channels)).astype("uint8")
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", [*OPERATIONS, *THREE])
def test_operation_keeps_the_kind(name, mode):
    image = picture(mode)
    for magnitude in (-1.0, -0.3, 0.0, 0.9, 1.0):
        if name in OPERATIONS:
            changed = OPERATIONS[name](image, magnitude)
        else:
            changed = THREE[name](image)
        assert (changed.size, changed.mode) == (image.size, image.mode)
        assert np.asarray(changed).dtype == np.uint8
        if magnitude == 1.0 and name not in ("identity", "grey", "color"):
            assert not np.array_equal(changed, image)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", IDENTITY)
def test_no_magnitude_no_change(name, mode):
    image = picture(mode)
    changed = np.asarray(OPERATIONS[name](image, 0.0)).astype(int)
    whole = np.asarray(image).astype(int)
    np.testing.assert_array_equal(changed, whole)


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_never_fails(channels):
    recipe = PLAIN.replace(randaugment=3, magnitude=1.0, three_augment=True, crop=0.1)
    source = np.random.default_rng(1).integers(0, 256, (11, 7, channels), "uint8")
    results = [
        augment_image(source, (8, 6), recipe, draws_for(0, 0, i)) for i in range(300)
    ]
    assert {r.shape for r in results} == {(8, 6, channels)}
    assert {r.dtype for r in results} == {np.dtype("uint8")}
    assert len({r.tobytes() for r in results}) > 200


@given(
    st.integers(1, 500),
    st.integers(1, 500),
    st.floats(0.01, 1.0),
    st.integers(0, 2**32),
)
def test_crop_lies_in_the_image(width, height, smallest, seed):
    draws = np.random.default_rng(seed)
    left, top, right, bottom = crop_box(width, height, smallest, draws)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_crop_covers_the_range_of_areas():
    draws = np.random.default_rng(0)
    boxes = np.array([crop_box(400, 300, 0.2, draws) for _ in range(2000)])
    sides = boxes[:, 2:] - boxes[:, :2]
    shares = sides.prod(axis=1) / (400 * 300)
    # Sides are rounded to pixels: 1% of the area at most here.
    assert 0.19 < shares.min() < 0.25 and 0.9 < shares.max() <= 1
    ratios = sides[:, 0] / sides[:, 1]
    assert 0.74 < ratios.min() < 0.8 and 1.25 < ratios.max() < 1.35


def test_shift_and_flip_reach_every_place():
    image = np.zeros((8, 8, 1), "uint8")
    image[4, 2] = 255
    recipe = Recipe(shift=0.125, flip=True)
    moved = [
        augment_image(image, (8, 8), recipe, draws_for(0, 0, i)) for i in range(300)
    ]
    places = {tuple(np.argwhere(m[..., 0])[0]) for m in moved}
    columns = {2 + d for d in (-1, 0, 1)} | {5 + d for d in (-1, 0, 1)}
    assert places == {(r, c) for r in (3, 4, 5) for c in columns}
    assert augment_image(image, (8, 8), PLAIN, draws_for(0, 0, 0)) is image


def test_draws_follow_from_their_place():
    def numbers(*place):
        return tuple(draws_for(*place).random(4))

    places = [(s, t, p) for s in range(3) for t in range(3) for p in range(3)]
    assert len({numbers(*place) for place in places}) == len(places)
    assert numbers(1, 2, 3) == numbers(1, 2, 3)


def batch(number=16, size=20):
    """Image i has the value i everywhere, and class i."""
    images = np.zeros((number, size, size, 3), "float32")
    images += np.arange(number, dtype="float32")[:, None, None, None]
    return images, np.eye(number, dtype="float32")


@pytest.mark.parametrize("changes", [{"mixup": 0.8}, {"cutmix": 1.0}])
def test_labels_say_what_is_mixed(changes):
    images, labels = batch()
    mix = BatchAugment(PLAIN.replace(**changes))
    mixed, shares = mix(images, labels, 3)
    assert mixed.shape == images.shape and mixed.dtype == np.float32
    # Sums of two float32 products.
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert not np.array_equal(shares, labels)
    # The mean of constant images tells the shares; CutMix has whole pixels only, so
    # a rectangle's area is off by up to a row and a column.
    means = mixed.mean(axis=(1, 2, 3))
    expected = shares @ np.arange(len(labels))
    if "mixup" in changes:
        np.testing.assert_allclose(means, expected, atol=1e-4)
        return
    other = (shares - np.diag(np.diag(shares))).argmax(axis=1)
    distance = np.maximum(np.abs(other - np.arange(len(labels))), 1)
    assert (np.abs(means - expected) <= distance * (2 / 20 + 1 / 400)).all()
    for i, image in enumerate(mixed):
        assert set(np.unique(image)) <= {i, other[i]}
        assert_rectangle(image[..., 0] != i)


def assert_rectangle(mask):
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    np.testing.assert_array_equal(mask, np.outer(rows, columns))
    for line in (rows, columns):
        assert np.count_nonzero(np.diff(line.astype(int))) <= 2


def test_erase_touches_one_rectangle():
    images, labels = batch()
    erase = BatchAugment(PLAIN.replace(erase=1.0))
    erased, same = erase(images + 300, labels, 0)
    np.testing.assert_array_equal(same, labels)
    changed = (erased != images + 300).any(axis=-1)
    assert changed.any()
    for mask in changed:
        assert_rectangle(mask)


def test_batch_draws_follow_from_the_step():
    images, labels = batch()
    recipe = PLAIN.replace(mixup=0.8, cutmix=1.0, erase=0.5, seed=4)
    first, second = BatchAugment(recipe), BatchAugment(recipe)
    for step in (5, 0, 5):
        a = first(images, labels, step)
    b = second(images, labels, 5)
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(second(images, labels, 6)[0], b[0])
    other = BatchAugment(recipe.replace(seed=5))(images, labels, 5)
    assert not np.array_equal(other[0], b[0])


def test_nothing_to_do():
    images, labels = batch()
    plain = BatchAugment(PLAIN)
    assert not plain
    assert plain(images, labels, 0)[0] is images

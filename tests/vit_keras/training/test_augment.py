"""Random changes to images: what they keep, what they change, where draws come from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_keras.training import Recipe
from vit_keras.training.augment import (
    augment,
    draws_for,
    mix,
    random_box,
    random_crop,
)

PLAIN = Recipe(shift=0.0, flip=False)


@pytest.mark.parametrize("channels", [1, 3])
def test_everything_at_once_never_fails(channels):
    recipe = PLAIN.replace(
        **dict(randaugment=3, magnitude=1.0, three_augment=True, erase=0.5),
        **dict(shift=0.2, flip=True),
    )
    source = np.random.default_rng(1).integers(0, 256, (11, 7, channels), "uint8")
    crops = [
        random_crop(source, (8, 6), 0.1, draws_for(0, 0, i), "bicubic")
        for i in range(300)
    ]
    crops = np.stack(crops)
    before = crops.copy()
    results = augment(crops, recipe, 0, range(300))
    assert results.shape == (300, 8, 6, channels) and results.dtype == np.uint8
    assert len({r.tobytes() for r in results}) > 200
    np.testing.assert_array_equal(crops, before)


@pytest.mark.parametrize(
    "changes",
    [
        {"shift": 0.2, "flip": True},
        {"randaugment": 2, "three_augment": True},
        {"erase": 0.5},
    ],
)
def test_an_image_follows_from_its_place(changes):
    recipe = PLAIN.replace(**changes)
    images = np.random.default_rng(1).integers(0, 256, (12, 10, 10, 3), "uint8")
    whole = augment(images, recipe, 3, range(12))
    part = augment(images[4:9], recipe, 3, range(4, 9))
    np.testing.assert_array_equal(part, whole[4:9])
    for other, step in ((recipe, 4), (recipe.replace(seed=1), 3)):
        assert not np.array_equal(augment(images, other, step, range(12)), whole)


@given(
    st.integers(1, 500),
    st.integers(1, 500),
    st.floats(0.01, 1.0),
    st.integers(0, 2**32),
)
def test_crop_lies_in_the_image(width, height, smallest, seed):
    draws = np.random.default_rng(seed)
    box = random_box(height, width, (smallest, 1.0), (3 / 4, 4 / 3), draws)
    left, top, right, bottom = box
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_crop_covers_the_range_of_areas():
    draws = np.random.default_rng(0)
    ranges = (0.2, 1.0), (3 / 4, 4 / 3)
    boxes = np.array([random_box(300, 400, *ranges, draws) for _ in range(2000)])
    sides = boxes[:, 2:] - boxes[:, :2]
    shares = sides.prod(axis=1) / (400 * 300)
    # Sides are rounded to pixels: 1% of the area at most here.
    assert 0.19 < shares.min() < 0.25 and 0.9 < shares.max() <= 1
    ratios = sides[:, 0] / sides[:, 1]
    assert 0.74 < ratios.min() < 0.8 and 1.25 < ratios.max() < 1.35


def test_shift_and_flip_reach_every_place():
    images = np.zeros((300, 8, 8, 1), "uint8")
    images[:, 4, 2] = 255
    moved = augment(images, Recipe(shift=0.125, flip=True), 0, range(300))
    places = {tuple(np.argwhere(m[..., 0])[0]) for m in moved}
    columns = {2 + d for d in (-1, 0, 1)} | {5 + d for d in (-1, 0, 1)}
    assert places == {(r, c) for r in (3, 4, 5) for c in columns}


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
    before = images.copy()
    mixed, shares = mix(images, labels, PLAIN.replace(**changes), 3)
    assert mixed.shape == images.shape and mixed.dtype == shares.dtype == np.float32
    np.testing.assert_array_equal(images, before)
    # Sums of two float32 products.
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert not np.array_equal(shares, labels)
    # The mean of constant images tells the shares.
    means = mixed.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, shares @ np.arange(len(labels)), atol=1e-4)
    if "mixup" in changes:
        return
    other = (shares - np.diag(np.diag(shares))).argmax(axis=1)
    for i, image in enumerate(mixed):
        assert set(np.unique(image)) <= {i, other[i]}
        assert_rectangle(image[..., 0] != i)


@pytest.mark.parametrize("changes", [{"mixup": 0.3}, {"cutmix": 0.3}])
def test_shares_are_those_of_the_papers(changes):
    """A Beta(0.3, 0.3) has its mean at 1/2 and a standard deviation of 0.395."""
    images, labels = batch(500)
    shares = [
        np.diag(mix(images, labels, PLAIN.replace(**changes), step)[1])
        for step in range(4)
    ]
    # Errors of mean and deviation of 2,000 draws: 0.009 and below; a whole image, by
    # chance mixed with itself, and whole pixels do less.
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)
    assert np.std(shares) == pytest.approx(0.395, abs=0.03)


def test_one_kind_for_each_batch():
    images, labels = batch()
    both = PLAIN.replace(mixup=0.8, cutmix=1.0)
    whole = [
        np.isin(mix(images, labels, both, step)[0], np.arange(16)).all()
        for step in range(40)
    ]
    assert 8 < sum(whole) < 32  # CutMix: 20, within four standard deviations


def assert_rectangle(mask):
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    np.testing.assert_array_equal(mask, np.outer(rows, columns))
    for line in (rows, columns):
        assert np.count_nonzero(np.diff(line.astype(int))) <= 2


def test_erase_touches_one_rectangle():
    images = np.zeros((400, 20, 20, 3), "uint8")
    erased = augment(images, PLAIN.replace(erase=0.25), 0, range(400))
    shares = []
    for image in erased:
        mask = image.any(axis=-1)  # noise is black in one of 2**24 pixels
        if mask.any():
            assert_rectangle(mask)
            shares.append(mask.mean())
    assert 65 < len(shares) < 135  # 100, four standard deviations of 8.7
    # Sides are whole pixels: half a pixel of each of 20 changes the area by 5 %.
    assert min(shares) < 0.05 and 0.28 < max(shares) < 0.36


def test_mix_follows_from_the_step():
    images, labels = batch()
    recipe = PLAIN.replace(mixup=0.8, cutmix=1.0, seed=4)
    first, second = (mix(images, labels, recipe, 5) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    for other, step in ((recipe, 6), (recipe.replace(seed=5), 5)):
        assert not np.array_equal(mix(images, labels, other, step)[0], first[0])


def test_nothing_to_do():
    images, labels = batch()
    assert mix(images, labels, PLAIN, 0)[0] is images
    assert augment(images, PLAIN, 0, range(16)) is images

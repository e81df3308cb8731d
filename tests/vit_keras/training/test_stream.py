"""Batches by number: the same however they are reached."""

import threading
import time

import numpy as np
import pytest

from tests.models import tiny
from tests.vit_keras.training.runs import FAST, few
from vit_keras import data
from vit_keras.preprocessing import ImageError
from vit_keras.training.stream import Stream

CONFIG = tiny(image_size=8, patch_size=4, classes=10)
RANDOM = FAST.replace(
    batch_size=8, randaugment=2, erase=0.5, mixup=0.5, cutmix=0.5, flip=True
)


def numbered(number=20):
    """Image i has the value i everywhere, so that a batch tells who is in it."""
    images = np.zeros((number, 8, 8, 3), "uint8")
    images += np.arange(number, dtype="uint8")[:, None, None, None]
    labels = np.arange(number) % 10
    return data.Dataset(images, labels, tuple("0123456789"))


def members(stream, step):
    """Which images of `numbered` are in a batch."""
    rules = stream.config.preprocessing
    values = stream[step][0][:, 0, 0, 0] * rules.std[0] + rules.mean[0]
    return [round(255 * float(v)) for v in values]


def plain(**changes):
    changes = {"batch_size": 4, "shift": 0.0, "flip": False, **changes}
    shard = changes.pop("shard", (0, 1))
    return Stream(numbered(), CONFIG, FAST.replace(**changes), shard=shard)


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("crop", [None, 0.3])
def test_batch_follows_from_its_number(crop):
    recipe = RANDOM.replace(crop=crop)
    stream = Stream(few(), CONFIG, recipe)
    batches = [stream[g] for g in range(15)]  # more than the 12 of a pass
    assert batches[0][0].shape == (8, 8, 8, 3) and batches[0][0].dtype == np.float32
    for g in (14, 3, 3, 0, 13):
        assert equal(stream[g], batches[g])
    other = Stream(few(), CONFIG, recipe)
    assert equal(other[7], batches[7])
    generator = other.batches(9)
    for g in range(9, 15):
        assert equal(next(generator), batches[g])
    generator.close()
    assert len({images.tobytes() for images, _ in batches}) == 15
    reseeded = Stream(few(), CONFIG, recipe.replace(seed=1))
    assert not equal(reseeded[0], batches[0])


def test_each_image_once_per_pass():
    stream = plain()
    passes = [
        [i for g in range(5 * n, 5 * n + 5) for i in members(stream, g)]
        for n in range(3)
    ]
    for order in passes:
        assert sorted(order) == list(range(20))
    assert passes[0] != passes[1] != passes[2]
    _, labels = stream[2]
    assert labels.argmax(axis=1).tolist() == [i % 10 for i in members(stream, 2)]


def test_copies_come_in_one_batch():
    stream = plain(repeats=2)
    for step in range(12):
        inside = members(stream, step)
        assert inside[::2] == inside[1::2] and len(set(inside)) == 2
    # The copies are changed apart.
    images, _ = Stream(
        few(), CONFIG, FAST.replace(batch_size=4, repeats=2, randaugment=2)
    )[0]
    assert not np.array_equal(images[0], images[1])


def test_accumulate_makes_smaller_batches():
    whole, parts = plain(batch_size=8), plain(batch_size=8, accumulate=2)
    assert members(whole, 0) == members(parts, 0) + members(parts, 1)


def test_shards_partition_the_batch():
    for recipe in (RANDOM, RANDOM.replace(mixup=0.0, cutmix=0.0, erase=0.0)):
        whole = Stream(few(), CONFIG, recipe)[3]
        parts = [Stream(few(), CONFIG, recipe, shard=(i, 3))[3] for i in range(3)]
        assert [len(images) for images, _ in parts] == [2, 3, 3]
        for i in range(2):
            joined = np.concatenate([part[i] for part in parts])
            np.testing.assert_array_equal(joined, whole[i])


def test_less_than_one_batch():
    images, labels = Stream(few(5), CONFIG, FAST)[3]
    assert len(images) == len(labels) == 5


def test_teacher_rides_along():
    seen = []

    def teacher(images):
        seen.append(images)
        return images.mean(axis=(1, 2))

    stream = Stream(few(), CONFIG, RANDOM, teacher=teacher)
    images, targets = stream[2]
    assert seen[0] is images  # the images that the student sees
    np.testing.assert_array_equal(targets["teacher"], images.mean(axis=(1, 2)))
    np.testing.assert_array_equal(targets["label"], Stream(few(), CONFIG, RANDOM)[2][1])


def test_files_are_read_when_needed(tmp_path):
    from PIL import Image

    pixels = few(12)
    files = []
    for i, image in enumerate(pixels.images):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(files[-1])
    on_disk = data.Dataset(files, pixels.labels, pixels.classes)
    for recipe in (RANDOM, RANDOM.replace(crop=0.5)):
        streams = [Stream(d, CONFIG, recipe) for d in (pixels, on_disk)]
        assert equal(streams[0][1], streams[1][1])


def test_threads_end_with_the_generator():
    before = threading.active_count()
    generator = Stream(few(), CONFIG, FAST).batches(0)
    next(generator)
    assert threading.active_count() > before
    generator.close()
    assert threading.active_count() == before


def test_an_error_reaches_the_reader(tmp_path):
    gone = data.Dataset([tmp_path / "gone.png"] * 4, np.zeros(4, int), ("a", "b"))
    generator = Stream(gone, CONFIG, FAST).batches(0)
    with pytest.raises(ImageError, match="gone.png"):
        next(generator)


def test_speed_is_measured():
    stream = plain()
    assert stream.images_per_second() == np.inf
    started = time.perf_counter()
    for g in range(5):
        stream[g]
    at_least = 20 * stream.workers / (time.perf_counter() - started)
    assert stream.images_per_second() >= at_least

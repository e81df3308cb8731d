"""Data sets with a class at each pixel: arrays, splitting, renumbering, preparing."""

import numpy as np
import pytest

from tests.shapes import CLASSES, shapes
from tests.vit_keras.mask_files import NAMES, classes, pairs, save
from vit_keras import Preprocessing, data
from vit_keras.data import Dataset, LazyImages
from vit_keras.preprocessing import ImageError, fit

IMAGES, MASKS = shapes(6, (16, 24), border=1)
RULES = Preprocessing()


def dataset(kind):
    """The same data with masks as an array, a list, or read on access."""
    labels = {
        "array": MASKS,
        "list": list(MASKS),
        "lazy": LazyImages(lambda at: MASKS[at], np.arange(len(MASKS))),
    }[kind]
    return Dataset(IMAGES, labels, CLASSES, "segmentation")


def test_pairs_of_arrays():
    splits = data.open_splits((IMAGES, MASKS), task="segment")
    assert splits.counts() == {"train": 6}
    train = splits.train
    assert train.classes == ("0", "1", "2", "3") and train.head == "segmentation"
    np.testing.assert_array_equal(train.labels, MASKS)
    held_out = data.open_splits((IMAGES, MASKS.astype("int64")), True, "segment")
    assert held_out.counts() == {"test": 6} and held_out.test.labels.dtype == "uint8"
    binary = data.open_source((IMAGES, MASKS == 1), task="segment")
    assert binary.classes == ("0", "1")
    depths = np.where(MASKS == 255, np.inf, MASKS).astype("float64")
    found = data.open_source((IMAGES, depths), task="depth")
    assert found.head == "depth" and found.labels.dtype == "float32"
    np.testing.assert_array_equal(
        found.labels, np.where((MASKS == 255) | (MASKS == 0), np.nan, MASKS)
    )


def test_npz_files(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, images=IMAGES, masks=MASKS, classes=CLASSES)
    found = data.open_source(path, task="segment")
    assert found.classes == CLASSES and found.labels[0].shape == (16, 24)
    np.savez(path, images=IMAGES, depth=MASKS.astype("float32"))
    assert data.open_source(path, task="depth").head == "depth"
    with pytest.raises(ValueError, match=r"images and masks. .* holds images, depth"):
        data.open_splits(path, task="segment")
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match="no whole .npz file"):
        data.open_splits(path, task="segment")


@pytest.mark.parametrize(
    ("given", "task", "words"),
    [
        ((IMAGES, MASKS[:3]), "segment", r"`masks` must be \(6, 16, 24\)"),
        ((IMAGES, MASKS / 2), "segment", "dtype=float64"),
        ((IMAGES, MASKS.astype(int) - 1), "segment", r"Received: dtype=int64, -1\.\."),
        ((IMAGES, MASKS + np.int64(300)), "segment", "0..254"),
        ((IMAGES, MASKS), "depth", "`depth` must be floats"),
        ((IMAGES / 2, MASKS), "segment", "`images` must be uint8"),
        (Dataset(IMAGES, MASKS, CLASSES), "segment", "must have head='segmentation'"),
        ("digits", "segment", "`data` must be a folder of images and masks"),
    ],
)
def test_other_data(given, task, words):
    error = FileNotFoundError if given == "digits" else ValueError
    with pytest.raises(error, match=words):
        data.open_splits(given, task=task)


def test_classes_of_an_npz_file_must_be_enough(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, masks=MASKS, classes=CLASSES[:3])
    with pytest.raises(ValueError, match="3 classes, numbers up to 3"):
        data.open_splits(tmp_path / "a.npz", task="segment")


@pytest.mark.parametrize("kind", ["array", "list", "lazy"])
def test_taking_and_splitting(kind):
    given = dataset(kind)
    assert data.open_splits(given, task="segment").train is given
    taken = given.take(np.array([4, 1]))
    for i, at in enumerate((4, 1)):
        np.testing.assert_array_equal(taken.images[i], IMAGES[at])
        np.testing.assert_array_equal(taken.labels[i], MASKS[at])
    rest, aside = data.split(given, 1 / 3, seed=0)
    assert (len(rest), len(aside)) == (4, 2)
    whole = sorted(mask.tobytes() for part in (rest, aside) for mask in part.labels)
    assert whole == sorted(mask.tobytes() for mask in MASKS)


@pytest.mark.parametrize("kind", ["array", "list", "lazy"])
def test_renumbering(kind):
    names = ("square", "sky", "background", "triangle", "circle")
    found = data.match_classes(dataset(kind), names)
    assert found.classes == names
    table = np.full(256, 255)
    table[:4] = [2, 4, 0, 3]
    for at in (0, 3):
        assert found.labels[at].dtype == "uint8"
        np.testing.assert_array_equal(found.labels[at], table[MASKS[at]])
    with pytest.raises(ValueError, match="unknown: triangle"):
        data.match_classes(dataset(kind), names[:3] + names[4:])


def test_heads():
    for kind in ("array", "list", "lazy"):
        given = dataset(kind)
        assert data.with_head(given, None) is given
    with pytest.raises(ValueError, match="`head` must be that of the data"):
        data.with_head(given, "softmax")
    for labels, words in (
        (MASKS.astype("int64"), "uint8"),
        (MASKS[0], r"\(N, H, W\)"),
        (np.full_like(MASKS, 4), "from 0 to 3, or 255"),
    ):
        wrong = Dataset(IMAGES, labels, CLASSES, "segmentation")
        with pytest.raises(ValueError, match=f"`labels` must be {words}"):
            data.with_head(wrong, "segmentation")
    depth = Dataset(IMAGES, MASKS, ("depth",), "depth")
    with pytest.raises(ValueError, match="must be floats"):
        data.with_head(depth, None)


def test_preparing_reads_both(tmp_path):
    """Pixels at the model's size, masks at their own; pairs of two sizes left out."""
    masks = pairs(tmp_path, "images/{}.png", "masks/{}.png")
    classes(tmp_path, NAMES)
    save(tmp_path / "masks/1.png", masks[1].T)
    (tmp_path / "images/2.png").write_bytes(b"none")
    train = data.open_source(tmp_path, task="segment")
    assert len(train) == 4
    ready, bad = data.prepare(train, (8, 8), RULES)
    assert len(bad) == 2 and "cannot read" in bad[1]
    assert bad[0].endswith("(height, width) = (16, 24). Received: (24, 16)")
    assert ready.images.shape == (2, 8, 8, 3)
    for at, own in enumerate((0, 3)):
        np.testing.assert_array_equal(ready.labels[at], masks[own])
        pixels, mask = data.read_pair(train, own, 3)
        np.testing.assert_array_equal(ready.images[at], fit(pixels, (8, 8), RULES))
        np.testing.assert_array_equal(mask, masks[own])
    with pytest.raises(ImageError, match="1.png: its mask must have its size"):
        data.prepare(train, (8, 8), RULES, strict=True)
    lazy, _ = data.prepare(train, (8, 8), RULES, keep_pixels=False)
    assert [path.stem for path in lazy.images] == ["0", "3"]


def test_masks_that_vanish_later_are_reported(tmp_path):
    pairs(tmp_path)
    classes(tmp_path, NAMES)
    train = data.open_source(tmp_path, task="segment")
    (tmp_path / "masks/0.png").unlink()
    ready, (line,) = data.prepare(train, (8, 8), RULES)
    assert len(ready) == 3 and "cannot use the mask" in line and "0.png" in line


def test_masks_are_no_images_for_calibration(tmp_path):
    pairs(tmp_path, "train/{}.png", "trainannot/{}.png")
    save(tmp_path / "others/a.png", IMAGES[0])
    found = data.load_images(tmp_path, (16, 24), RULES)
    wanted = shapes(1, (16, 24), seed=0)[0]
    assert len(found) == 4
    np.testing.assert_array_equal(found[:1], wanted)
    plain = data.load_images(tmp_path / "trainannot", (16, 24), RULES)
    assert len(plain) == 4 and plain.max() <= 3

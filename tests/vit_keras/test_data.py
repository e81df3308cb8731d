"""Folders, the embedded digits, splits and batches."""

import dataclasses
import pathlib

import numpy as np
import pytest
from PIL import Image

from vit_keras import Preprocessing, data
from vit_keras.preprocessing import ImageError, normalize

RULES = Preprocessing()


@pytest.fixture
def photos(tmp_path):
    """Two classes, every format, grey and RGBA, one nested folder, a stray file."""
    rng = np.random.default_rng(0)

    def save(path, mode="RGB", size=(20, 14)):
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
        pixels = rng.integers(0, 256, (*size, channels)).astype("uint8")
        Image.fromarray(pixels.squeeze()).convert(mode).save(path)

    save(tmp_path / "cat" / "a.jpg")
    save(tmp_path / "cat" / "b.PNG", "RGBA")
    save(tmp_path / "cat" / "deep" / "c.webp")
    save(tmp_path / "dog" / "d.bmp")
    save(tmp_path / "dog" / "e.jpeg", "L", (9, 40))
    save(tmp_path / "dog" / "f.png", "L")
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    return tmp_path


def corrupt(folder):
    whole = (folder / "cat" / "a.jpg").read_bytes()
    (folder / "cat" / "broken.jpg").write_bytes(whole[: len(whole) // 2])


def test_digits_are_those_of_scikit_learn():
    training, held_out = data.digits()
    assert (len(training), len(held_out)) == (1438, 359)
    assert training.images.shape[1:] == (8, 8, 3)
    assert training.images.dtype == np.uint8
    assert training.classes == tuple("0123456789")
    assert training.images.max() == 255 and training.images.min() == 0
    # The counts of the classes as scikit-learn's documentation gives them.
    counts = np.bincount(np.concatenate([training.labels, held_out.labels]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    again, _ = data.digits()
    np.testing.assert_array_equal(training.images, again.images)


def test_digits_equal_the_source():
    source = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")
    original = source.load_digits()
    with np.load(pathlib.Path(data.__file__).with_name("digits.npz")) as stored:
        np.testing.assert_array_equal(stored["images"], original.images)
        np.testing.assert_array_equal(stored["labels"], original.target)


def test_folder(photos):
    dataset = data.folder(photos)
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert [f.name for f in dataset.images[:3]] == ["a.jpg", "b.PNG", "c.webp"]
    ready, bad = data.prepare(dataset, (16, 24), RULES)
    assert ready.images.shape == (6, 16, 24, 3) and ready.images.dtype == np.uint8
    assert bad == []


def test_corrupt_file_is_named_and_left_out(photos):
    corrupt(photos)
    seen = []
    ready, bad = data.prepare(
        data.folder(photos), (8, 8), RULES, advance=lambda: seen.append(1)
    )
    assert len(ready) == 6 and len(seen) == 7
    assert len(bad) == 1 and "broken.jpg" in bad[0]
    with pytest.raises(ImageError, match="broken.jpg"):
        data.prepare(data.folder(photos), (8, 8), RULES, strict=True)


def test_large_data_stays_on_disk(photos, monkeypatch):
    corrupt(photos)
    kept, _ = data.prepare(data.folder(photos), (8, 8), RULES)
    monkeypatch.setattr("vit_keras.data.reading.CACHE_BYTES", 100)
    lazy, bad = data.prepare(data.folder(photos), (8, 8), RULES)
    assert isinstance(lazy.images, list) and len(lazy) == 6 and len(bad) == 1
    a = data.Batches(kept, (8, 8), RULES, 4)
    b = data.Batches(lazy, (8, 8), RULES, 4)
    for i in range(2):
        np.testing.assert_array_equal(a[i][0], b[i][0])
        np.testing.assert_array_equal(a[i][1], b[i][1])


def test_bad_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="'digits' or a folder"):
        data.folder(tmp_path / "no")
    with pytest.raises(ValueError, match="at least two folders"):
        data.folder(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"")
    with pytest.raises(ValueError, match="must hold readable images"):
        data.prepare(data.folder(tmp_path), (8, 8), RULES)


def test_split_is_stratified_and_complete():
    labels = np.repeat([0, 1, 2], [50, 10, 1])
    images = np.arange(61).reshape(61, 1, 1, 1).astype("uint8")
    dataset = data.Dataset(images, labels, ("a", "b", "c"))
    rest, share = data.split(dataset, 0.2, seed=1)
    assert np.bincount(share.labels, minlength=3).tolist() == [10, 2, 0]
    both = np.concatenate([rest.images, share.images]).ravel()
    assert sorted(both) == list(range(61))
    _, other = data.split(dataset, 0.2, seed=2)
    assert not np.array_equal(share.images, other.images)
    for fraction in (0, 1, -0.1):
        with pytest.raises(ValueError, match="`fraction`"):
            data.split(dataset, fraction, seed=0)


def test_batches():
    training, _ = data.digits()
    small = dataclasses.replace(training.take(np.arange(10)))
    batches = data.Batches(small, (8, 8), RULES, 4)
    assert len(batches) == 3
    images, labels = batches[2]
    assert images.shape == (2, 8, 8, 3) and images.dtype == np.float32
    np.testing.assert_array_equal(images, normalize(small.images[8:], RULES))
    np.testing.assert_array_equal(labels.argmax(1), small.labels[8:])
    assert labels.sum() == 2

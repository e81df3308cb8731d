"""Which images a report is of, and that none of them calibrates."""

import numpy as np
import pytest
from PIL import Image

from export.comparison_report.reported_images import open_labelled, open_reported
from export.inputs import ExportInputs, UserInputs
from tests.export.dense_models import SIZE, dense
from vit_keras import data


@pytest.fixture(scope="module")
def subject(model):
    return ExportInputs.open(UserInputs(model), limit=1)


def colours(number, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (number, 32, 32, 3)).astype("uint8")


def class_folders(folder, number, seed=0):
    for i, image in enumerate(colours(number, seed)):
        path = folder / str(i % 10) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def common(images, pixels):
    """How many of the calibration images are reported."""
    shown = images.pixels(np.arange(len(images)))
    return len({x.tobytes() for x in shown} & {x.tobytes() for x in pixels})


def test_parts_of_a_folder(subject, tmp_path):
    class_folders(tmp_path / "train", 30, 0)
    class_folders(tmp_path / "test", 20, 1)
    images, pixels, where = open_reported(tmp_path, subject)
    assert len(images) == 20 and images.words == (
        f"all 20 images of the test part of '{tmp_path}'"
    )
    assert len(pixels) == 30 and where == f"of the training part of '{tmp_path}'"
    assert common(images, pixels) == 0


@pytest.mark.parametrize(("limit", "drawn"), [(None, ""), (15, ", drawn at random")])
def test_what_cannot_be_read_was_not_drawn(subject, tmp_path, limit, drawn):
    for path in class_folders(tmp_path, 20).glob("*/*.png"):
        if int(path.stem) < 8:
            path.write_bytes(f"no image {path.stem}".encode())
    images = open_labelled(tmp_path, subject, limit=limit)
    assert images.words == f"{len(images)} of 20 images of '{tmp_path}'{drawn}"
    assert len(images) == (12 if limit is None else 15 - len(images.notes))
    assert all("skipped: cannot read" in note for note in images.notes)


def test_a_fifth_is_set_aside(subject, tmp_path):
    class_folders(tmp_path, 50)
    images, pixels, where = open_reported(tmp_path, subject)
    assert len(images) == 40 and len(pixels) == 10
    assert "without those set aside" in images.words and "set aside at random" in where
    assert common(images, pixels) == 0
    again, same, _ = open_reported(tmp_path, subject)
    assert np.array_equal(pixels, same)
    assert again.hashes() == images.hashes()


def test_no_more_than_needed_is_set_aside(subject):
    images, pixels, _ = open_reported((colours(1000), np.arange(1000) % 10), subject)
    assert (len(images), len(pixels)) == (872, 128) and common(images, pixels) == 0


@pytest.mark.parametrize("source", ["digits", "npz"])
def test_sources_that_are_opened_part_by_part(subject, source, tmp_path):
    if source == "npz":
        source = tmp_path / "x.npz"
        x, y = colours(40), np.arange(40) % 10
        np.savez(source, x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    images, pixels, where = open_reported(source, subject, limit=8)
    assert len(images) == 8 and "drawn at random" in images.words
    assert where == f"of the training part of '{source}'"
    assert common(images, pixels) == 0


def test_calibration_of_its_own(subject, tmp_path):
    class_folders(tmp_path / "data", 20)
    other = colours(12, 5)
    images, pixels, where = open_reported(tmp_path / "data", subject, calibration=other)
    assert len(images) == 20  # nothing is set aside
    assert np.array_equal(pixels, other) and where == "of the data given"
    mixed = np.concatenate([other, colours(20)[:3]])
    _, pixels, where = open_reported(tmp_path / "data", subject, calibration=mixed)
    assert np.array_equal(pixels, other)
    assert where == "of the data given, without 3 that are reported"
    with pytest.raises(ValueError, match="`calibration` must hold images that are not"):
        open_reported(tmp_path / "data", subject, calibration=tmp_path / "data")


def test_none_is_set_aside_for_files_that_are_there(subject, tmp_path):
    class_folders(tmp_path, 20)
    assert open_labelled(tmp_path, subject).words == f"all 20 images of '{tmp_path}'"


def test_unreadable_files_are_named(subject, tmp_path):
    class_folders(tmp_path / "train", 10)
    class_folders(tmp_path / "test", 10, 1)
    (tmp_path / "test" / "0" / "0.png").write_bytes(b"no picture")
    images, *_ = open_reported(tmp_path, subject)
    assert len(images) == 9 and any("0.png" in note for note in images.notes)


def test_masks(tmp_path):
    subject = ExportInputs.open(UserInputs(dense()), limit=1)
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (10, *SIZE, 3)).astype("uint8")
    masks = rng.integers(0, 5, (10, *SIZE)).astype("uint8")
    names = subject.labels
    np.savez(tmp_path / "x.npz", images=photos, masks=masks, classes=names)
    images, pixels, _ = open_reported(tmp_path / "x.npz", subject)
    assert len(images) == 8 and pixels.shape == (2, *SIZE, 3)
    labels = {mask.tobytes() for mask in images.dataset.labels}
    assert len(labels) == 8 and labels < {mask.tobytes() for mask in masks}


def test_too_few(subject):
    with pytest.raises(ValueError, match="`data` must hold 5 images at least"):
        open_reported((colours(4), np.arange(4)), subject)


def test_a_model_without_a_head(tmp_path):
    import keras

    x = keras.Input((8, 8, 3))
    model = keras.Model(x, keras.layers.Conv2D(2, 3)(x))
    subject = ExportInputs.open(UserInputs(model), limit=1)
    with pytest.raises(ValueError, match="`model` must have a head"):
        open_reported("digits", subject)


def test_parts_by_name(subject, tmp_path):
    class_folders(tmp_path / "train", 20)
    class_folders(tmp_path / "test", 10, 1)
    images, _, where = open_reported(tmp_path, subject, part="train")
    assert "train part" in images.words and len(images) == 16
    assert "set aside" in where
    with pytest.raises(ValueError, match="`part` must be one of"):
        open_reported(tmp_path, subject, part="validation")
    assert isinstance(images.dataset, data.Dataset)

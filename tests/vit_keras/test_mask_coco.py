"""COCO's JSON: polygons and run lengths become masks of classes."""

import json
import sys

import numpy as np
import pytest

from tests.vit_keras.mask_files import save
from vit_keras import data
from vit_keras.preprocessing import ImageError

SIZE = (10, 12)
SQUARE = [[2, 2, 6, 2, 6, 6, 2, 6]]
# Column by column, zeros first: pixel (0, 0) off, then ten on.
RUNS = {"size": list(SIZE), "counts": [1, 10, 109]}
# What pycocotools writes of RUNS: the same numbers in its base 32 text.
TEXT = {"size": list(SIZE), "counts": "1:]3"}


def shape(segmentation, category=7, image=1, **more):
    return {"image_id": image, "category_id": category, **more} | (
        {} if segmentation is None else {"segmentation": segmentation}
    )


def content(annotations, images=2):
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]}
            for i in range(1, images + 1)
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}],
        "annotations": annotations,
    }


def write(root, annotations, name="annotations/instances_train.json", folder="images"):
    for i in (1, 2):
        pixels = np.random.default_rng([i, *map(ord, name)]).integers(
            0, 256, (*SIZE, 3)
        )
        save(root / folder / f"{i}.png", pixels.astype("uint8"))
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content(annotations)))
    return path


def test_it_needs_pycocotools(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ImportError, match=r'pip install "vit-keras-edge\[data\]"'):
        data.open_splits(write(tmp_path, []), task="segment")


needed = pytest.mark.usefixtures("coco")


@pytest.fixture
def coco():
    return pytest.importorskip("pycocotools.mask")


@needed
def test_shapes(tmp_path):
    polygon, runs, later = shape(SQUARE), shape(RUNS, 9), shape(SQUARE, 9, iscrowd=1)
    root = tmp_path
    write(root, [polygon, runs, shape(TEXT, 9, 2), shape(SQUARE, 7, 2)])
    splits = data.open_splits(root, task="segment")
    train = splits.train
    assert train.classes == ("background", "cat", "dog") and splits.problems == ()
    assert splits.notes[1].startswith("COCO: background is class 0")
    wanted = np.zeros(SIZE, "uint8")
    wanted[2:6, 2:6] = 1
    dog = np.zeros(SIZE[::-1], "uint8")
    dog.reshape(-1)[1:11] = 2
    np.testing.assert_array_equal(train.labels[0], np.where(dog.T, 2, wanted))
    np.testing.assert_array_equal(train.labels[1], np.where(wanted, 1, dog.T))
    write(root, [polygon, later])
    covered = data.open_source(root, task="segment").labels
    np.testing.assert_array_equal(covered[0], 2 * wanted)  # the later is on top
    assert (covered[1] == 0).all()


@needed
@pytest.mark.parametrize(
    ("train", "val", "folders"),
    [
        (
            "annotations/instances_train2017.json",
            "annotations/instances_val2017.json",
            ("train2017", "val2017"),
        ),
        (
            "train/_annotations.coco.json",
            "valid/_annotations.coco.json",
            ("train", "valid"),
        ),
        (
            "annotations/train.json",
            "annotations/val.json",
            ("images/train", "images/val"),
        ),
    ],
)
def test_parts(train, val, folders, tmp_path):
    for name, folder in zip((train, val), folders, strict=True):
        write(tmp_path, [shape(SQUARE)], name, folder)
    if "instances" in train:
        (tmp_path / "annotations/captions_train2017.json").write_text("{}")
    splits = data.open_splits(tmp_path, task="segment")
    assert splits.counts() == {"train": 2, "validation": 2}
    assert splits.problems == ()


@needed
@pytest.mark.parametrize("name", ["labels.json", "latest.json"])
def test_a_single_file(name, tmp_path):
    path = write(tmp_path, [shape(SQUARE)], name, "data")
    for given in (tmp_path, path, str(path)):
        splits = data.open_splits(given, task="segment")
        assert splits.counts() == {"train": 2}


@needed
def test_what_cannot_be_drawn_is_left_out(tmp_path):
    path = write(
        tmp_path,
        [
            shape(None, id=11),
            shape([], id=12),
            shape([[1, 2, 3, 4]], id=13),  # pycocotools would draw a box
            shape(SQUARE, 5, id=14),
            shape(SQUARE, 7, 3, id=15),
        ],
    )
    rows = content([])["images"]
    known = json.loads(path.read_text())
    known["images"].append({**rows[0], "id": 4, "file_name": "gone.png"})
    path.write_text(json.dumps(known))
    splits = data.open_splits(tmp_path, task="segment")
    assert [file.stem for file in splits.train.images] == ["2"]
    assert splits.problems == (
        "images of the COCO file that are not there, left out: 1 (gone.png)",
        "annotations of images that the COCO file lacks, left out: 1 (annotation 15)",
        "annotations of no category or without a shape, left out with their image: 4 "
        "(annotation 11, annotation 12, annotation 13, ...)",
    )


@needed
def test_shapes_of_another_size_are_errors_of_the_image(tmp_path):
    write(tmp_path, [shape({"size": [5, 5], "counts": [0, 25]})])
    train = data.open_source(tmp_path, task="segment")
    with pytest.raises(ImageError, match="cannot draw the mask of .*1.png"):
        train.labels[0]
    assert (train.labels[1] == 0).all()


@needed
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("images"), "must have COCO's lists images, annotations"),
        (lambda c: c["images"][1].pop("width"), "Entry 1 lacks width"),
        (lambda c: c["images"][1].update(width="24"), "Entry 1 lacks width"),
        (lambda c: c["images"][1].update(id=1), "different ids, .* twice: 1"),
        (lambda c: c["annotations"].append({}), "`annotations` must have image_id"),
        (lambda c: c["categories"][0].update(id="5"), "must have id .int., name"),
        (lambda c: c["categories"][0].update(name="background"), "none of which is"),
        (lambda c: c["categories"][0].update(name="cat"), "different names"),
        (lambda c: c["images"].clear(), "must have images that can be used"),
    ],
)
def test_files_that_are_not_cocos(change, words, tmp_path):
    path = write(tmp_path, [])
    changed = content([])
    change(changed)
    path.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=words):
        data.open_splits(tmp_path, task="segment")


@needed
def test_parts_must_be_told_apart_and_agree(tmp_path):
    write(tmp_path, [], "annotations/train.json")
    second = write(tmp_path, [], "annotations/train_more.json")
    with pytest.raises(ValueError, match="one COCO file for each part"):
        data.open_splits(tmp_path, task="segment")
    changed = content([])
    changed["categories"].pop()
    second.rename(tmp_path / "annotations/val.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match="same categories in all parts"):
        data.open_splits(tmp_path, task="segment")

"""Folders as people have them: parts, stray files, duplicates, other formats."""

import os

import numpy as np
import pytest
from PIL import Image

from tests.vit_keras.pictures import frames, picture, pictures
from tests.vit_keras.training.runs import SHORT, quiet
from vit_keras import Preprocessing, data
from vit_keras.preprocessing import ImageError, read_image
from vit_keras.training import evaluate, train

RULES = Preprocessing()
TRAIN = [f"train/{k}/{i}.png" for k in ("cat", "dog") for i in range(4)]


def names(dataset, root):
    return [path.relative_to(root).as_posix() for path in dataset.images]


def problems(root):
    return "\n".join(data.open_splits(root).problems)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_parts(tmp_path, validation):
    root = pictures(tmp_path, *TRAIN, f"{validation}/dog/a.png", "test/cat/b.png")
    splits = data.open_splits(str(root))
    assert names(splits.train, root) == TRAIN
    assert names(splits.validation, root) == [f"{validation}/dog/a.png"]
    assert names(splits.test, root) == ["test/cat/b.png"]
    for part in (splits.train, splits.validation, splits.test):
        assert part.classes == ("cat", "dog")
    assert splits.validation.labels.tolist() == [1]
    assert splits.problems == ()
    (note,) = splits.notes
    assert note.endswith("has parts: train 8, validation 1, test 1 images")
    assert names(data.open_source(root), root) == TRAIN
    assert names(data.open_source(root, held_out=True), root) == ["test/cat/b.png"]


def test_held_out_part(tmp_path):
    root = pictures(tmp_path, *TRAIN, "val/dog/a.png", "val/cat/a.png")
    assert names(data.open_source(root, True), root) == [
        "val/cat/a.png",
        "val/dog/a.png",
    ]
    plain = pictures(tmp_path / "plain", "a/x.png", "b/y.png")
    splits = data.open_splits(plain)
    assert splits.counts() == {"train": 2} and splits.part(True) is splits.train


def test_plain_folders_are_as_before(tmp_path):
    """A part alone, or another name beside `train`, makes no parts."""
    for others in (["train"], ["train", "car"], ["val", "test"]):
        root = tmp_path / "-".join(others)
        pictures(root, *(f"{name}/deep/{i}.png" for name in others for i in (1, 0)))
        if len(others) == 1:
            with pytest.raises(ValueError, match="at least two folders"):
                data.open_splits(root)
            continue
        dataset = data.open_source(root)
        assert dataset.classes == tuple(sorted(others))
        assert dataset.labels.tolist() == [0, 0, 1, 1]
        assert [path.name for path in dataset.images] == ["0.png", "1.png"] * 2


def test_bad_parts(tmp_path):
    root = pictures(tmp_path, *TRAIN, "val/cow/a.png", "val/dog/a.png")
    with pytest.raises(ValueError, match=r"train lacks: cow \(of validation\)"):
        data.open_splits(root)
    pictures(tmp_path, "train/cow/a.png", "valid/cow/a.png")
    with pytest.raises(ValueError, match="two for validation: val, valid"):
        data.open_splits(root)
    pictures(tmp_path / "loose", "train/a.png", "test/b.png")
    with pytest.raises(ValueError, match="at least two folders, one per class"):
        data.open_splits(tmp_path / "loose")


@pytest.mark.usefixtures("eager")
def test_training_and_evaluation_use_the_parts(tmp_path):
    root = pictures(tmp_path / "data", *TRAIN, "val/dog/a.png", "val/cat/a.png")
    recipe = SHORT.replace(epochs=1, batch_size=4, patience=1)
    console = quiet()
    train(root, recipe, out=tmp_path / "a", console=console)
    assert "has parts: train 8, validation 2 images" in console.file.getvalue()
    assert "10 images in 2 classes, 8 to train on" in console.file.getvalue()
    assert (tmp_path / "a" / "best.keras").is_file()
    console = quiet()
    assert evaluate(tmp_path / "a", root, console=console)["images"] == 2
    assert "evaluating on the part validation" in console.file.getvalue()
    pictures(root, *(f"test/cat/{i}.png" for i in range(3)))
    assert evaluate(tmp_path / "a", root, console=quiet())["images"] == 3


@pytest.mark.usefixtures("eager")
def test_without_validation_part_some_of_train_is_held_out(tmp_path):
    root = pictures(tmp_path / "data", *TRAIN, "test/dog/a.png")
    recipe = SHORT.replace(epochs=1, batch_size=4, validation_split=0.25)
    console = quiet()
    train(root, recipe, out=tmp_path / "a", console=console)
    assert "8 images in 2 classes, 6 to train on" in console.file.getvalue()


def test_what_is_left_out_is_named(tmp_path):
    root = pictures(tmp_path, "cat/a.png", "dog/b.png", "loose.png")
    (root / "empty").mkdir()
    (root / "README.md").write_text("hello")
    for i in range(5):
        (root / "dog" / f"{i}.heic").write_text("no image")
    os.symlink(root / "cat", root / "dog" / "more")
    found = data.open_splits(root)
    assert found.train.classes == ("cat", "dog") and len(found.train) == 2
    text = "\n".join(found.problems)
    assert "folders without images, which are no classes: 1 (empty)" in text
    assert "outside of the class folders, left out: 2 (README.md, loose.png)" in text
    assert "left out: 6 (dog/0.heic, dog/1.heic, dog/2.heic, ...)" in text
    assert len(found.problems) == 3
    with pytest.warns(UserWarning) as caught:
        data.open_source(root)
    assert [str(w.message) for w in caught] == list(found.problems)


def test_hidden_files_are_ignored(tmp_path):
    root = pictures(tmp_path, "cat/a.png", "dog/b.png", ".git/c.png")
    pictures(root, "cat/.d.png", "cat/.ipynb_checkpoints/e.png", "dog/__MACOSX/f.png")
    for name in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini"):
        (root / name).write_text("")
    splits = data.open_splits(root)
    assert names(splits.train, root) == ["cat/a.png", "dog/b.png"]
    assert splits.problems == ()


def test_parts_leave_out_what_is_beside_them(tmp_path):
    root = pictures(tmp_path, *TRAIN, "test/dog/a.png", "annotations/x.png")
    (root / "train" / "cow").mkdir()
    (root / "test" / "dog" / "notes.txt").write_text("")
    text = problems(root)
    assert "outside of the class folders, left out: 1 (annotations)" in text
    assert "no classes: 1 (train/cow)" in text
    assert "left out: 1 (test/dog/notes.txt)" in text


def test_duplicates(tmp_path):
    root = pictures(tmp_path, *TRAIN, "test/dog/a.png", "test/cat/a.png")
    assert problems(root) == ""
    whole = (root / "train/cat/0.png").read_bytes()
    (root / "train/cat/again.png").write_bytes(whole)
    assert problems(root) == (
        "the same image more than once: 1 (train/cat/0.png = train/cat/again.png)"
    )
    (root / "train/dog/again.png").write_bytes(whole)
    assert problems(root) == (
        "the same image with different labels: 1 "
        "(train/cat/0.png = train/dog/again.png)"
    )
    (root / "test/cat/again.png").write_bytes(whole)
    assert problems(root) == (
        "the same image in two parts: 1 (train/cat/0.png = test/cat/again.png)"
    )
    # They stay in: nothing says which of them is right.
    assert len(data.open_splits(root).train) == 10


def test_files_of_equal_size_and_end_differ(tmp_path):
    root = tmp_path
    for name, first in (("a/x.bmp", 0), ("b/y.bmp", 9)):
        (root / name).parent.mkdir()
        pixels = np.zeros((50, 50, 3), "uint8")
        pixels[-1] = first  # BMP begins with the last row
        Image.fromarray(pixels).save(root / name)
    sizes = {(root / name).stat().st_size for name in ("a/x.bmp", "b/y.bmp")}
    assert len(sizes) == 1 and problems(root) == ""


@pytest.mark.parametrize("suffix", ["tif", "tiff", "gif", "webp"])
def test_only_the_first_frame_is_used(tmp_path, suffix):
    root = pictures(tmp_path, "cat/a.png")
    frames(root / "dog" / f"b.{suffix}")
    frames(root / "dog" / f"c.{suffix}", 1)
    text = problems(root)
    assert text == f"only the first of several frames is used: 1 (dog/b.{suffix})"
    ready, bad = data.prepare(data.folder(root), (8, 8), RULES)
    assert bad == [] and len(ready) == 3
    # WebP is lossy: near red, neither green nor blue.
    error = np.abs(ready.images[1].astype(int) - (255, 0, 0)).max()
    assert error <= (8 if suffix == "webp" else 0)


def test_pixels_that_would_be_clipped_are_refused(tmp_path):
    file = tmp_path / "a.tif"
    for pixels in (np.full((4, 4), 0.5, "float32"), np.full((4, 4), 70000, "int32")):
        Image.fromarray(pixels).save(file)
        with pytest.raises(ImageError, match="its pixels"):
            read_image(file)
    Image.fromarray(np.full((4, 4), 257 * 7, "uint16")).save(file)
    assert (read_image(file) == 7).all()


@pytest.mark.usefixtures("eager")
def test_broken_files_are_named_and_skipped(tmp_path):
    root = pictures(tmp_path / "data", *TRAIN, "test/dog/a.png")
    os.symlink(root / "gone.png", root / "train" / "cat" / "link.png")
    (root / "train" / "dog" / "text.jpg").write_text("no image")
    (root / "train" / "dog" / "none.jpg").write_text("")
    recipe = SHORT.replace(epochs=1, batch_size=4)
    console = quiet()
    train(root, recipe, out=tmp_path / "a", console=console)
    text = console.file.getvalue()
    assert "link.png: no such file, a broken link" in text
    assert "text.jpg" in text and "none.jpg" in text
    assert "3 of 11 files skipped" in text and "8 images in 2 classes" in text
    with pytest.raises(ImageError, match="link.png"):
        train(root, recipe, out=tmp_path / "b", console=quiet(), strict=True)


@pytest.mark.usefixtures("eager")
def test_strict(tmp_path):
    root = pictures(tmp_path / "data", "cat/a.png", "dog/b.png", "dog/c.png")
    (root / "dog" / "d.heic").write_text("")
    (root / "cat" / "c.png").write_bytes((root / "dog" / "c.png").read_bytes())
    recipe = SHORT.replace(epochs=1, batch_size=2)
    console = quiet()
    train(root, recipe, out=tmp_path / "a", console=console)
    for words in ("dog/d.heic", "cat/c.png = dog/c.png"):
        assert words in console.file.getvalue()
    for run in (
        lambda: train(root, recipe, out=tmp_path / "b", console=quiet(), strict=True),
        lambda: evaluate(tmp_path / "a", root, console=quiet(), strict=True),
    ):
        with pytest.raises(ValueError, match=r"`strict`.*d\.heic.*different labels"):
            run()
    assert not (tmp_path / "b").exists()


def test_calibration_ignores_hidden_files(tmp_path):
    root = pictures(tmp_path, "a.png", ".b.png")
    picture(root / "deep" / "c.tiff")
    assert len(data.load_images(root, (8, 8), RULES)) == 2

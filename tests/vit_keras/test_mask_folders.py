"""Folders of images and masks, as people have them: layouts, pairs, parts."""

import numpy as np
import pytest
from PIL import Image

from tests.vit_keras.mask_files import NAMES, classes, pair, pairs, save
from vit_keras import data

# Layouts of parts: {part: (pattern of images, pattern of masks)}.
LAYOUTS = {
    "alone": {"train": ("images/{}.png", "masks/{}.png")},
    "deep": {"train": ("images/city/{}.jpg", "labels/city/{}.png")},
    "inside": {
        "train": ("images/train/{}.png", "masks/train/{}.png"),
        "validation": ("images/val/{}.png", "masks/val/{}.png"),
    },
    "outside": {
        "train": ("train/images/{}.png", "train/masks/{}.png"),
        "test": ("test/images/{}.png", "test/masks/{}.png"),
    },
    "camvid": {
        "train": ("train/{}.png", "trainannot/{}.png"),
        "validation": ("val/{}.png", "valannot/{}.png"),
        "test": ("test/{}.png", "testannot/{}.png"),
    },
    "camvid of kaggle": {
        "train": ("train/{}.png", "train_labels/{}_L.png"),
        "validation": ("val/{}.png", "val_labels/{}_L.png"),
    },
    "mmsegmentation": {
        "train": ("img_dir/train/{}.jpg", "ann_dir/train/{}.png"),
        "validation": ("img_dir/val/{}.jpg", "ann_dir/val/{}.png"),
    },
    "cityscapes": {
        "train": (
            "leftImg8bit/train/bonn/b_{}_leftImg8bit.png",
            "gtFine/train/bonn/b_{}_gtFine_labelTrainIds.png",
        ),
    },
    "ends": {"train": ("images/{}_sat.jpg", "masks/{}_mask.png")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    written = {
        name: pairs(tmp_path, *patterns, 4 if name == "train" else 2, seed=10 * i)
        for i, (name, patterns) in enumerate(LAYOUTS[layout].items())
    }
    classes(tmp_path, NAMES)
    splits = data.open_splits(str(tmp_path), task="segment")
    assert splits.problems == ()
    assert splits.counts() == {name: len(masks) for name, masks in written.items()}
    for name, masks in written.items():
        part = getattr(splits, name)
        assert part.classes == tuple(NAMES) and part.head == "segmentation"
        for i, (image, mask) in enumerate(zip(part.images, masks, strict=True)):
            assert str(i) in image.stem
            assert part.labels[i].dtype == "uint8"
            np.testing.assert_array_equal(part.labels[i], mask)
    assert len(data.open_source(tmp_path, task="segment")) == 4


def test_pascal_voc(tmp_path):
    """Listed parts; a border of 255; names by the form of the files' names."""
    root, stems = tmp_path, ["2007_000032", "2008_000002", "2009_000001"]
    palette = np.random.default_rng(0).integers(0, 256, (256, 3))
    wanted = {}
    for i, stem in enumerate(stems):
        wanted[stem] = pair(
            root / f"JPEGImages/{stem}.jpg", root / f"SegmentationClass/{stem}.png", i
        )
        wanted[stem][0] = 255
        save(root / f"SegmentationClass/{stem}.png", wanted[stem], palette)
    save(root / "JPEGImages/2010_000001.jpg", np.zeros((8, 8, 3), "uint8"))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text(f"{stems[2]}\n{stems[0]}\n2011_000001\n")
    (lists / "val.txt").write_text(f"{stems[1]}\n")
    (lists / "trainval.txt").write_text("\n".join(stems))
    splits = data.open_splits(root, task="segment")
    assert splits.counts() == {"train": 2, "validation": 1}
    assert [path.stem for path in splits.train.images] == [stems[2], stems[0]]
    for at, stem in enumerate((stems[2], stems[0])):
        np.testing.assert_array_equal(splits.train.labels[at], wanted[stem])
    assert len(splits.train.classes) == 21 and splits.train.classes[15] == "person"
    assert "is Pascal VOC by its file names" in splits.notes[0]
    lost = "listed names without an image and a mask, left out: 1 (2011_000001)"
    assert lost in splits.problems
    (lists / "train.txt").rename(lists / "some.txt")
    with pytest.raises(ValueError, match="must have train.txt, or one list alone"):
        data.open_splits(root, task="segment")


def test_lists_of_others_than_voc_have_no_names(tmp_path):
    pairs(tmp_path, "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/default.txt").write_text("0\n1\n2\n3\n")
    found = data.open_splits(tmp_path, task="segment").train.classes
    assert set(found) <= {"0", "1", "2", "3"} and len(found) >= 2


@pytest.mark.parametrize("named", [False, True])
def test_ade20k(tmp_path, named):
    """0 is "other", which is ignored; so class 0 is number 1."""
    for part, short, number in (("training", "train", 3), ("validation", "val", 1)):
        written = pairs(
            tmp_path,
            f"images/{part}/ADE_{short}_0000000{{}}.jpg",
            f"annotations/{part}/ADE_{short}_0000000{{}}.png",
            number=number,
        )
    if named:
        rows = [f"{i}\t0.1\t1\t2\t1\t{'wall' if i == 1 else i}" for i in range(1, 151)]
        table = "Idx\tRatio\tTrain\tVal\tStuff\tName\n" + "\n".join(rows)
        classes(tmp_path, table, "objectInfo150.txt")
    splits = data.open_splits(tmp_path, task="segment")
    assert splits.counts() == {"train": 3, "validation": 1}
    assert len(splits.train.classes) == 150
    assert splits.train.classes[0] == ("wall" if named else "1")
    told = "by objectInfo150.txt" if named else "is ADE20K by its file names: 1 to 150"
    assert told in splits.notes[0]
    wanted = np.where(written[0] == 0, 255, written[0].astype(int) - 1)
    np.testing.assert_array_equal(splits.validation.labels[0], wanted)


def test_others_than_ade20k_in_its_folders_keep_class_0(tmp_path):
    pairs(tmp_path, "images/training/{}.jpg", "annotations/training/{}.png")
    assert data.open_source(tmp_path, task="segment").classes[0] == "0"


def test_a_file_of_classes_decides_before_the_layout(tmp_path):
    written = pairs(tmp_path, "images/training/{}.jpg", "annotations/training/{}.png")
    classes(tmp_path, NAMES)
    train = data.open_source(tmp_path, task="segment")
    np.testing.assert_array_equal(train.labels[2], written[2])


def test_pairs_that_are_none_are_counted(tmp_path):
    pairs(tmp_path, number=3)
    classes(tmp_path, NAMES)
    for name in "abcd":
        save(tmp_path / f"images/{name}.png", np.ones((4, 4, 3), "uint8") * ord(name))
    save(tmp_path / "masks/z.png", np.zeros((4, 4), "uint8"))
    splits = data.open_splits(tmp_path, task="segment")
    assert splits.counts() == {"train": 3}
    assert splits.problems[:2] == (
        "images without a mask, left out: 4 (images/a.png, images/b.png, images/c.png,"
        " ...)",
        "masks without an image, left out: 1 (masks/z.png)",
    )


def test_parts_without_masks_are_named(tmp_path):
    for patterns in LAYOUTS["camvid"].values():
        pairs(tmp_path / "beside", *patterns)
        pairs(tmp_path / "inside", "images/train/{}.png", "masks/train/{}.png")
    for file in (tmp_path / "beside" / "testannot").iterdir():
        file.unlink()
    (tmp_path / "beside" / "testannot").rmdir()
    save(tmp_path / "inside/images/test/a.png", np.ones((4, 4, 3), "uint8"))
    for name, folder in (("beside", "test"), ("inside", "images/test")):
        splits = data.open_splits(tmp_path / name, task="segment")
        assert splits.test is None
        words = "folders that are no part, or lack images or masks, left out"
        assert f"{words}: 1 ({folder})" in splits.problems
        assert splits.part(held_out=False) is splits.train
        with pytest.raises(ValueError, match=r"labels in its part test.* in train \("):
            splits.part(held_out=True)
        assert splits.part(held_out=True, chosen="train") is splits.train
        with pytest.raises(ValueError, match="`part` must be one of train, .*='test'"):
            splits.part(held_out=True, chosen="test")


def test_another_part_without_masks_does_not_matter(tmp_path):
    for part in ("train", "test"):
        pairs(tmp_path, f"images/{part}/{{}}.png", f"masks/{part}/{{}}.png")
    save(tmp_path / "images/val/a.png", np.ones((4, 4, 3), "uint8"))
    splits = data.open_splits(tmp_path, task="segment")
    assert splits.unlabelled == ("validation",)
    assert splits.part(held_out=True) is splits.test


def test_no_part_disappears(tmp_path):
    """Else another part would be evaluated in place of that for tests."""
    pairs(tmp_path, "train/images/{}.png", "train/masks/{}.png")
    pairs(tmp_path, "testing/images/{}.png", "testing/masks/{}.png", seed=10)
    pairs(tmp_path, "more/images/{}.png", "more/masks/{}.png", seed=20)
    classes(tmp_path, NAMES)
    splits = data.open_splits(tmp_path, task="segment")
    assert splits.counts() == {"train": 4, "test": 4}
    assert splits.problems[0].endswith("left out: 1 (more)")
    for path in (tmp_path / "testing/masks").iterdir():
        save(path, np.full((16, 24), 9, "uint8"))
    with pytest.raises(ValueError, match="has none for test: .*numbers of no class"):
        data.open_splits(tmp_path, task="segment")


def test_one_image_in_two_parts_is_a_problem(tmp_path):
    for part in ("train", "val"):
        pairs(tmp_path, f"images/{part}/{{}}.png", f"masks/{part}/{{}}.png")
    (line,) = data.open_splits(tmp_path, task="segment").problems
    assert line.startswith("the same image in two parts: 4 (images/train/0.png = ")


def test_pictures_beside_the_masks_are_noted(tmp_path):
    images, masks = LAYOUTS["cityscapes"]["train"]
    pairs(tmp_path, images, masks.replace("labelTrainIds", "color"))
    pairs(tmp_path, images, masks)
    splits = data.open_splits(tmp_path, task="segment")
    assert splits.problems == () and splits.counts() == {"train": 4}
    assert splits.notes[0].startswith("pictures and instances beside the masks, left")
    pairs(tmp_path, images, masks.replace("labelTrainIds", "labelIds"))
    with pytest.raises(ValueError, match="one file of each name.*labelIds.*TrainIds"):
        data.open_splits(tmp_path, task="segment")


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        ([("photos/{}.png", "masks/{}.png")], "a folder of images and one of masks"),
        (
            [("images/{}.png", "masks/{}.png"), ("images/{}.png", "labels/{}.png")],
            "has labels, masks",
        ),
        (
            [("images/{}.png", "masks/{}.png"), ("images/{}.jpg", "masks/{}.png")],
            "0.jp",
        ),
        (
            [
                ("train/{}.png", "trainannot/{}.png"),
                ("train/{}.png", "train_masks/{}.png"),
            ],
            "two for train",
        ),
        ([("images/val/{}.png", "masks/val/{}.png")], "must hold all in train"),
        (
            [
                ("images/train/{}.png", "masks/train/{}.png"),
                ("images/{}.png", "masks/{}.png"),
            ],
            "4 images beside",
        ),
        ([("images/{}.png", "masks/{}_other.png")], "images without a mask"),
    ],
)
def test_folders_that_are_not_understood(tmp_path, patterns, words):
    for pattern in patterns:
        pairs(tmp_path, *pattern)
    with pytest.raises(ValueError, match=words):
        data.open_splits(tmp_path, task="segment")


def test_tasks(tmp_path):
    with pytest.raises(FileNotFoundError, match="`data` must be"):
        data.open_splits(tmp_path / "none", task="segment")
    with pytest.raises(ValueError, match="`task` must be classify or one of segment"):
        data.open_splits(tmp_path, task="segmentation")
    with pytest.raises(ValueError, match="`data` must be a folder of images and masks"):
        data.open_splits(__file__, task="segment")
    with pytest.raises(ValueError, match="Received: <class 'list'>"):
        data.open_splits([1], task="segment")


def test_pairs_are_no_folder_of_classes(tmp_path):
    """Their folders would be the classes "images" and "masks"."""
    pairs(tmp_path, "train/images/{}.png", "train/masks/{}.png")
    pairs(tmp_path, "val/images/{}.png", "val/masks/{}.png", 2, seed=10)
    with pytest.raises(ValueError, match=r"`task` must be segment .* Received: "):
        data.open_source(tmp_path)


def test_photographs_that_exif_turns_are_named(tmp_path):
    """A square one, or one mirrored, would hide a mask of the stored pixels."""
    pairs(tmp_path, number=3)
    classes(tmp_path, NAMES)
    for i, orientation in enumerate((1, 3)):
        path = tmp_path / f"images/{i}.png"
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0112] = orientation
            image.save(path, exif=exif)
    splits = data.open_splits(tmp_path, task="segment")
    assert splits.problems == ()
    words = "photographs turned by EXIF, whose masks must lie on them as they are seen"
    assert splits.notes[-1] == f"{words}: 1 (images/1.png)"

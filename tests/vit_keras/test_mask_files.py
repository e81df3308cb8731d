"""Mask and depth files: numbers stay numbers, what is no mask is refused."""

import numpy as np
import pytest
from PIL import Image

from tests.vit_keras.mask_files import (
    COLORS,
    NAMES,
    classes,
    grey_tiff,
    pairs,
    png,
    save,
)
from vit_keras import data
from vit_keras.data.mask_classes import MaskClasses
from vit_keras.data.mask_reading import PROBLEMS, MaskError, read_depth, read_mask

MASK = np.random.default_rng(0).integers(0, 4, (6, 10)).astype("uint8")
PLAIN = MaskClasses.of_dict(NAMES, "")
COLOURED = MaskClasses.of_dict({"classes": NAMES, "colors": COLORS}, "")
PALETTE = np.random.default_rng(1).integers(0, 256, (256, 3)).astype("uint8")


STORED = {
    "grey": ("m.png", "m.tif", "m.bmp", "m.npy"),
    "palette": ("m.png", "m.tif", "m.bmp"),
    "16 bits": ("m.png", "m.tif", "m.npy"),
}


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in STORED for n in STORED[k]])
def test_numbers_stay_numbers(name, kind, tmp_path):
    pixels = MASK.astype("uint16") if kind == "16 bits" else MASK
    path = save(tmp_path / name, pixels, PALETTE if kind == "palette" else None)
    found = read_mask(path, PLAIN)
    assert found.dtype == "uint8"
    np.testing.assert_array_equal(found, MASK)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("write", [png, grey_tiff])
def test_grey_of_few_bits_is_not_scaled(write, bits, tmp_path):
    mask = MASK % 2**bits
    path = tmp_path / ("m.png" if write is png else "m.tif")
    write(path, mask, bits)
    np.testing.assert_array_equal(read_mask(path, PLAIN), mask)


def test_colours_of_16_bits_are_refused(tmp_path):
    """Pillow would keep the upper bytes, which are 0 in a mask of small numbers."""
    png(tmp_path / "m.png", np.repeat(MASK[..., None], 3, -1).astype("uint16"), 16)
    with pytest.raises(MaskError, match="colours of 16 bits"):
        read_mask(tmp_path / "m.png", COLOURED)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".gif"])
def test_formats_that_change_values_are_refused(suffix, tmp_path):
    path = save(tmp_path / f"m{suffix}", MASK)
    with pytest.raises(MaskError, match="must be PNG"):
        read_mask(path, PLAIN)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_few_bits(bits, tmp_path):
    image = Image.fromarray(MASK % 2**bits)
    image.putpalette(PALETTE.tobytes())
    image.save(tmp_path / "m.png", bits=bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", PLAIN), MASK % 2**bits)


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(MASK)
    image.putpalette(PALETTE.tobytes())
    image.save(tmp_path / "m.png", transparency=0)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", PLAIN), MASK)


@pytest.mark.parametrize("alpha", [False, True])
def test_colours(alpha, tmp_path):
    pixels = np.array(COLORS, "uint8")[MASK]
    if alpha:
        pixels = np.dstack([pixels, np.full(MASK.shape, 255, "uint8")])
    path = save(tmp_path / "m.png", pixels)
    np.testing.assert_array_equal(read_mask(path, COLOURED), MASK)


# What `ignore` may be, and what then becomes of classes 0..3 and of 255.
IGNORES = [
    ({}, [0, 1, 2, 3, 255]),
    ({"ignore": 255}, [0, 1, 2, 3, 255]),
    ({"ignore": "square"}, [0, 1, 255, 2, None]),
    ({"ignore": ["background", 255]}, [255, 0, 1, 2, 255]),
    ({"ignore": 0}, [255, 0, 1, 2, None]),
    ({"ignore": None}, [0, 1, 2, 3, None]),
    ({"numbers": [3, 2, 1, 0]}, [3, 2, 1, 0, 255]),
    ({"numbers": [255, 2, 1, 0]}, [3, 2, 1, None, 0]),
    ({"numbers": [1, 2, 3, 700], "ignore": 0}, [255, 0, 1, 2, None]),
]


@pytest.mark.parametrize(("options", "wanted"), IGNORES)
def test_ignored_numbers(options, wanted):
    content = MaskClasses.of_dict({"classes": NAMES, **options}, "")
    for number, index in zip((0, 1, 2, 3, 255), wanted, strict=True):
        found, unknown = content.indices(np.array([[number]], "uint16"))
        assert unknown == ([number] if index is None else []), number
        assert index is None or found.tolist() == [[index]], number
    kept = [i for i in wanted[:4] if i not in (None, 255)]
    if options.get("numbers") is None:
        assert len(content.names) == len(kept)


@pytest.mark.parametrize("ignore", [[9, 9, 9], [[9, 9, 9], [8, 8, 8]], "void"])
def test_ignored_colours(ignore):
    names, colors = [*NAMES, "void"], [*COLORS, [9, 9, 9]]
    if ignore == [9, 9, 9]:  # not a class, too
        names, colors = NAMES, COLORS
    content = {"classes": names, "colors": colors, "ignore": ignore}
    found = MaskClasses.of_dict(content, "")
    assert found.names == tuple(NAMES)
    pixels = np.array([[[0, 255, 0], [9, 9, 9]]], "uint8")
    assert found.indices(pixels)[0].tolist() == [[2, 255]]
    assert found.indices(pixels + np.uint8(1))[1] == [[1, 0, 1], [10, 10, 10]]


FILES = {
    "classes.json": '["a", "b", "c", "d"]',
    "labels.json": '{"classes": ["a", "b", "c", "d"]}',
    "classes.txt": "a\nb\nc\r\nd\n\n",
    "labels.txt": "\ufeffa\nb\nc\nd",
    "class_dict.csv": "name, r, g, b\na,0,0,0\nb,255,0,0\nc,0,255,0\nd,0,0,255\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\na:0,0,0::\nb:255,0,0::\n"
    "c:0,255,0::\nd:0,0,255::\n",
}


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_files_of_classes(name, beside, tmp_path):
    masks = pairs(tmp_path)
    coloured = name in ("class_dict.csv", "labelmap.txt")
    if coloured:
        for i, mask in enumerate(masks):
            save(tmp_path / f"masks/{i}.png", np.array(COLORS, "uint8")[mask])
    classes(tmp_path / "masks" if beside else tmp_path, FILES[name], name)
    splits = data.open_splits(tmp_path, task="segment")
    assert splits.train.classes == tuple("abcd") and splits.problems == ()
    assert splits.notes == (f"'{tmp_path}' has 4 classes, by {name}",)
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal(splits.train.labels[i], mask)


BAD = [
    ("classes.json", "{", "is no file of classes"),
    ("classes.json", '"a"', 'must be {"classes"'),
    ("classes.json", '{"names": ["a", "b"]}', 'must be {"classes"'),
    ("classes.json", '{"classes": ["a", "b"], "colours": []}', "Received: colours"),
    ("classes.json", '{"classes": ["a", 1]}', "must be a list of names"),
    ("classes.json", '["a", "a"]', "different names"),
    ("classes.json", '["a", " "]', "different names"),
    ("classes.json", '["a"]', "must be 2 to 255"),
    ("classes.json", '{"classes": ["a", "b"], "ignore": "b"}', "must be 2 to 255"),
    ("classes.json", '{"classes": ["a", "b"], "ignore": "c"}', "Received: 'c'"),
    ("classes.json", '{"classes": ["a", "b"], "ignore": -1}', "Received: -1"),
    ("classes.json", '{"classes": ["a", "b"], "numbers": [0]}', "`numbers` must be"),
    ("classes.json", '{"classes": ["a", "b"], "numbers": [1, 1]}', "be different"),
    ("classes.json", '{"classes": ["a", "b"], "colors": [[0, 0], 1]}', r"\[r, g, b\]"),
    ("class_dict.csv", "a,b\n", "columns must be name, r, g, b"),
    ("class_dict.csv", "", "is no file of classes"),
    ("labelmap.txt", "a\nb\n", "is no file of classes"),
    ("classes.txt", "\n".join(map(str, range(256))), "Received: 256"),
]


@pytest.mark.parametrize(("name", "text", "words"), BAD)
def test_bad_files_of_classes(name, text, words, tmp_path):
    pairs(tmp_path, number=2)
    classes(tmp_path, text, name)
    with pytest.raises(ValueError, match=words):
        data.open_splits(tmp_path, task="segment")


def test_two_files_of_classes(tmp_path):
    pairs(tmp_path, number=2)
    classes(tmp_path, NAMES)
    classes(tmp_path, NAMES, "labels.json")
    with pytest.raises(ValueError, match=r"one file of classes. .*, labels.json"):
        data.open_splits(tmp_path, task="segment")


RGB = np.array(COLORS, "uint8")[MASK]
# Problem: (a mask that has it, the classes).
WRONG = {
    "unreadable": ("m.png", b"no image", PLAIN),
    "lossy": ("m.jpg", MASK, PLAIN),
    "kind": ("m.tif", MASK.astype("float32"), PLAIN),
    "colors": ("m.png", RGB, PLAIN),
    "palette": ("m.bmp", (MASK, PALETTE), COLOURED),
    "number": ("m.png", MASK + 5, PLAIN),
    "color": ("m.png", RGB + np.uint8(1), COLOURED),
    "kind of alpha": ("m.png", np.dstack([RGB, RGB[..., :1]]), COLOURED),
    "kind of npy": ("m.npy", MASK / 3.0, PLAIN),
    "kind of sign": ("m.npy", MASK.astype("int16") - 1, PLAIN),
    "number of 16 bits": ("m.npy", MASK.astype("int64") + 256, PLAIN),
    "kind of grey and alpha": ("m.png", np.dstack([MASK, MASK]), PLAIN),
}


@pytest.mark.parametrize("case", WRONG)
def test_masks_that_cannot_be_used(case, tmp_path):
    name, content, known = WRONG[case]
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save(path, *content) if isinstance(content, tuple) else save(path, content)
    with pytest.raises(MaskError, match=name) as caught:
        read_mask(path, known)
    assert caught.value.problem == case.partition(" of ")[0]
    assert PROBLEMS[caught.value.problem] in str(caught.value)


def test_what_is_wrong_is_counted_and_left_out(tmp_path):
    pairs(tmp_path, number=9)
    classes(tmp_path, NAMES)
    masks = tmp_path / "masks"
    for i in range(4):
        save(masks / f"{i}.png", np.full((16, 24), 7 + i, "uint8"))
    (masks / "4.png").write_bytes(b"\x89PNG")
    (masks / "5.png").unlink()
    save(masks / "5.jpg", np.zeros((16, 24), "uint8"))
    save(masks / "6.png", np.full((16, 24), 255, "uint8"))
    splits = data.open_splits(tmp_path, task="segment")
    assert [path.stem for path in splits.train.images] == ["7", "8"]
    text = "\n".join(splits.problems)
    for line in (
        "masks with numbers of no class, left out: 4 (masks/0.png: 7, masks/1.png: 8, "
        "masks/2.png: 9, ...)",
        "files that cannot be read as masks, left out: 1 (masks/4.png: ",
        "which change values: they must be PNG, left out: 1 (masks/5.jpg: .jpg)",
        "masks without a known pixel, left out: 1 (masks/6.png)",
    ):
        assert line in text


def test_nothing_that_can_be_used(tmp_path):
    pairs(tmp_path, number=2)
    for i in range(2):
        save(tmp_path / f"masks/{i}.png", np.zeros((16, 24, 3), "uint8"))
    with pytest.raises(ValueError, match=r"can be used.*RGB masks without .*: 2 \("):
        data.open_splits(tmp_path, task="segment")


def test_numbers_are_the_classes_of_masks_without_names(tmp_path):
    """Those of all parts; 255 is ignored, 300 is fine in 16 bits."""
    for part, numbers in (("train", [7, 0, 255]), ("val", [300, 7, 0])):
        for i, number in enumerate(numbers):
            mask = np.full((4, 4), number, "uint16")
            mask[0] = numbers[0]
            save(tmp_path / f"masks/{part}/{i}.png", mask)
            pixels = np.full((4, 4, 3), number % 250 + len(part), "uint8")
            save(tmp_path / f"images/{part}/{i}.png", pixels)
    splits = data.open_splits(tmp_path, task="segment")
    assert splits.train.classes == splits.validation.classes == ("0", "7", "300")
    assert splits.validation.labels[0].tolist() == [[2] * 4] * 4
    assert splits.train.labels[2][:2].tolist() == [[1] * 4, [255] * 4]
    assert splits.notes[0].endswith("names no classes: they are the masks' 0, 7, 300")


def test_black_and_white_masks(tmp_path):
    """255 would be ignored: the file of classes has to say that it is an object."""
    for i, mask in enumerate(pairs(tmp_path)):
        save(tmp_path / f"masks/{i}.png", np.where(mask, 255, 0).astype("uint8"))
    with pytest.raises(ValueError, match="for masks of black and white put a classes"):
        data.open_splits(tmp_path, task="segment")
    classes(tmp_path, ["background", "object"])
    (line,) = data.open_splits(tmp_path, task="segment").problems
    assert line == "classes without a pixel in the images for training: 1 (object)"
    classes(tmp_path, {"classes": ["background", "object"], "numbers": [0, 255]})
    splits = data.open_splits(tmp_path, task="segment")
    np.testing.assert_array_equal(splits.train.labels[3], mask > 0)
    assert splits.problems == ()


def test_too_many_numbers(tmp_path):
    pairs(tmp_path, number=1)
    save(tmp_path / "masks/0.png", np.arange(400).reshape(16, 25).astype("uint16"))
    with pytest.raises(ValueError, match="2 to 255 classes.* has 399 numbers"):
        data.open_splits(tmp_path, task="segment")


DEPTH = np.array([[0.5, 1.25, 0], [40, np.nan, -1]], "float32")
KNOWN = np.array([[0.5, 1.25, np.nan], [40, np.nan, np.nan]], "float32")


@pytest.mark.parametrize("name", ["d.png", "d.npy", "d.tif", "d.npz"])
def test_depths(name, tmp_path):
    path = tmp_path / name
    if name == "d.png":
        save(path, np.nan_to_num(DEPTH.clip(0) * 1000).astype("uint16"))
    elif name == "d.npz":
        np.savez(path, DEPTH.astype("float64"))
    else:
        save(path, DEPTH)
    found = read_depth(path)
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, KNOWN)  # millimetres are exact here


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("d.png", MASK, "depth"),
        ("d.npy", MASK.astype("uint16"), "depth"),
        ("d.npy", DEPTH[None], "depth"),
        ("d.jpg", MASK, "lossy"),
        ("d.png", b"", "unreadable"),
    ],
)
def test_depths_that_cannot_be_used(name, content, problem, tmp_path):
    path = tmp_path / name
    path.write_bytes(content) if isinstance(content, bytes) else save(path, content)
    with pytest.raises(MaskError, match=name) as caught:
        read_depth(path)
    assert caught.value.problem == problem


@pytest.mark.parametrize("masks", ["depth/{}.npy", "depths/{}_depth.npy"])
def test_folders_of_depths(masks, tmp_path):
    pairs(tmp_path, number=3)
    for i in range(3):
        depth = np.full((16, 24), i + 0.5, "float32")
        depth[0, 0] = np.nan
        save(tmp_path / masks.format(i), depth)
    save(tmp_path / masks.format(2), np.zeros((16, 24), "float32"))
    splits = data.open_splits(tmp_path, task="depth")
    assert splits.train.head == "depth" and splits.train.classes == ("depth",)
    assert len(splits.train) == 2
    assert np.isnan(splits.train.labels[1][0, 0])
    assert splits.train.labels[1][1, 1] == 1.5
    assert "masks without a known pixel, left out: 1" in splits.problems[0]

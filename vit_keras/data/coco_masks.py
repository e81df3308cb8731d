"""Masks of COCO's JSON: polygons and run lengths, drawn when they are read.

Format: https://cocodataset.org/#format-data. Crowds count as their class.
"""

import collections
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..heads import DENSE
from ..preprocessing import ImageError
from ..text_files import MOST_OF_DATA, read_json
from .dataset import Dataset, LazyImages
from .file_checks import file_problems, turned_files
from .mask_classes import CLASS_FILES, MASK_CLASSES
from .splits import NAMES, PARTS, Splits, summaries

BACKGROUND = "background"
# What rows must have, of which types.
_ID = (int, str)
FIELDS = {
    "images": {"id": _ID, "file_name": (str,), "height": (int,), "width": (int,)},
    "annotations": {"image_id": _ID, "category_id": (*_ID, type(None))},
    "categories": {"id": (int,), "name": (str,)},
}
KEYS = tuple(FIELDS)
ID_BITS = 128  # of ids, which may be UUIDs
MOST_PIXELS = 178_956_970  # of an image, as Pillow's


def coco_files(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Find COCO's files.

    `path` is the `.json` itself, or a folder with `annotations/*.json` (of several the
    `instances_*.json`), with `<part>/*.json` as Roboflow writes it, or with one
    `.json` that has `images`, `annotations` and `categories`.

    Returns:
        {"train", "validation" or "test": file}, by the word in the name of the file or
        folder; "train" for a single file without one. Empty if there are none.

    Raises:
        ValueError: two files of one part.
    """
    if path.is_file():
        return {"train": path} if path.suffix.lower() == ".json" else {}
    inside = sorted(path.glob("annotations/*.json"))
    inside = [p for p in inside if p.name not in CLASS_FILES or _is_coco(p)]
    inside = [p for p in inside if p.name.startswith("instances_")] or inside
    if not inside:
        parts = [child for child in path.glob("*/") if child.name.lower() in PARTS]
        inside = [p for part in sorted(parts) for p in sorted(part.glob("*coco*.json"))]
    if not inside:
        inside = [p for p in sorted(path.glob("*.json")) if _is_coco(p)]
    found: dict[str, pathlib.Path] = {}
    for file in inside:
        name = _part_of(file, path) or ("train" if len(inside) == 1 else None)
        if name is None or name in found:
            raise ValueError(
                "`data` must have one COCO file for each part, with train, val or test "
                f"in its name. Received: '{file}'"
                + (f" beside '{found[name]}'" if name else "")
            )
        found[name] = file
    return found


def _part_of(file, root):
    words = re.findall("[a-z]+", file.relative_to(root).as_posix().lower())
    names = {PARTS[word] for word in words if word in PARTS}
    return names.pop() if len(names) == 1 else None


def _is_coco(path):
    try:
        content = read_json(path, MOST_OF_DATA, ID_BITS)
    except ValueError:
        return False
    return isinstance(content, dict) and all(key in content for key in KEYS)


def open_coco(files: Mapping[str, pathlib.Path]) -> Splits:
    """Open the parts of a COCO data set as masks of classes.

    Class 0 is "background", the others are the categories in the order of their ids.
    Where annotations overlap, the later one in the file is on top. An image without
    annotations is all background.

    Arguments:
        files: {part: `.json`}; images are beside it, in `images`, `data` or a folder of
            the part's name, or in those of the folder above.

    Raises:
        ValueError: a file is not COCO's, or parts have other categories.
        ImportError: pycocotools is missing.
    """
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'COCO needs pycocotools: pip install "vit-keras-edge[data]"'
        ) from error
    parts, lost, classes = {}, {}, None
    for name in NAMES:
        if name not in files:
            continue
        content = _content(files[name])
        ids, own = _categories(content, files[name])
        if classes not in (None, own):
            raise ValueError(
                f"`data` must have the same categories in all parts. '{files[name]}' "
                "has others"
            )
        classes = own
        parts[name] = _part(content, ids, own, files[name], lost)
    notes = [f"'{path}': {len(parts[name])} images" for name, path in files.items()]
    notes.append("COCO: background is class 0, of overlaps the later one is on top")
    paths = [path for part in parts.values() for path in part.images]
    root = pathlib.Path(os.path.commonpath([path.parent for path in paths]))
    notes += turned_files(parts, root)
    problems = summaries(lost) + file_problems(parts, root)
    return Splits(**parts, notes=tuple(notes), problems=problems)


def _content(path):
    content = read_json(path, MOST_OF_DATA, ID_BITS)
    lists = content if isinstance(content, dict) else {}
    if not all(isinstance(lists.get(key), list) for key in KEYS):
        raise ValueError(f"'{path}' must have COCO's lists {', '.join(KEYS)}")
    for key, needed in FIELDS.items():
        for at, row in enumerate(content[key]):
            row = row if isinstance(row, dict) else {}
            wrong = [n for n, kind in needed.items() if type(row.get(n)) not in kind]
            if wrong:
                raise ValueError(
                    f"'{path}': `{key}` must have {_words(needed)}. Entry {at} lacks "
                    f"{', '.join(wrong)}"
                )
    for row in content["images"]:
        height, width = row["height"], row["width"]
        if min(height, width) < 1 or height * width > MOST_PIXELS:
            raise ValueError(
                f"'{path}': `images` must have a `height` and `width` of 1 to "
                f"{MOST_PIXELS:,} pixels. Image {row['id']} has {height} x {width}"
            )
    for key in ("images", "categories"):
        times = collections.Counter(row["id"] for row in content[key])
        twice = [str(number) for number, count in times.items() if count > 1]
        if twice:
            raise ValueError(
                f"'{path}': `{key}` must have different ids, to which annotations "
                f"belong. Received twice: {', '.join(twice[:5])}"
            )
    return content


def _words(needed):
    return ", ".join(f"{n} ({kinds[0].__name__})" for n, kinds in needed.items())


def _categories(content, path):
    rows = sorted(content["categories"], key=lambda row: row["id"])
    names = (BACKGROUND, *(str(row["name"]) for row in rows))
    if len(set(names)) < len(names) or not 2 <= len(names) <= MASK_CLASSES:
        raise ValueError(
            f"'{path}': `categories` must be 1 to {MASK_CLASSES - 1} different names, "
            f"none of which is {BACKGROUND}. Received: {', '.join(names[1:][:10])}"
        )
    return {row["id"]: at for at, row in enumerate(rows, 1)}, names


def _part(content, ids, classes, path, lost):
    """Return the data set of one file; add what is wrong to `lost`."""
    drawn: dict[Any, list] = {row["id"]: [] for row in content["images"]}
    unusable, strange, shapeless = set(), [], []
    for at, row in enumerate(content["annotations"]):
        name = f"annotation {row.get('id', at)}"
        if row["image_id"] not in drawn:
            strange.append(name)
        elif row.get("category_id") not in ids or not _is_shape(row):
            shapeless.append(name)
            unusable.add(row["image_id"])
        else:
            shape = (ids[row["category_id"]], row["segmentation"])
            drawn[row["image_id"]].append(shape)
    folders = _image_folders(path)
    images, masks, missing = [], [], []
    for row in content["images"]:
        places = (folder / row["file_name"] for folder in folders)
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            missing.append(row["file_name"])
        elif row["id"] not in unusable:
            images.append(file)
            masks.append((row["height"], row["width"], drawn[row["id"]]))
    for words, names in {
        "images of the COCO file that are not there, left out": missing,
        "annotations of images that the COCO file lacks, left out": strange,
        "annotations of no category or without a shape, left out with their image": (
            shapeless
        ),
    }.items():
        lost.setdefault(words, []).extend(names)
    if not images:
        raise ValueError(
            f"'{path}' must have images that can be used: "
            f"{'; '.join(summaries(lost)) or 'it has none'}"
        )

    def read(at):
        height, width, shapes = masks[at]
        return draw(height, width, shapes, str(images[at]))

    labels = LazyImages(read, np.arange(len(images)))
    return Dataset(images, labels, classes, DENSE["segment"])


def _is_shape(row):
    """Return whether an annotation has run lengths, or polygons of three points."""
    shape = row.get("segmentation")
    if isinstance(shape, list):  # pycocotools takes four numbers for a box
        return bool(shape) and all(
            isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in shape
        )
    return isinstance(shape, dict) and {"counts", "size"} <= set(shape)


def _image_folders(path):
    """Return where images may be, by the place and name of their `.json`."""
    part = path.stem.removeprefix("instances_")
    names = ("", "images", "data", part, f"images/{part}")
    return [
        folder / name for folder in (path.parent, path.parent.parent) for name in names
    ]


def draw(height: int, width: int, shapes: list, name: str) -> np.ndarray:
    """Draw the annotations of an image.

    Arguments:
        shapes: (class index, COCO's `segmentation`: lists of x, y of polygons, or run
            lengths, compressed or not), the last one on top.
        name: of the image, for errors.

    Returns:
        uint8 (height, width).

    Raises:
        ImageError: a shape is none of COCO's, or of another size.
    """
    from pycocotools import mask as coco

    whole = np.zeros((height, width), "uint8")
    for number, shape in shapes:
        try:
            _check_shape(shape, height, width)
            if isinstance(shape, list):
                runs = coco.merge(coco.frPyObjects(shape, height, width))
            elif isinstance(shape["counts"], list):
                runs = coco.frPyObjects(shape, height, width)
            else:
                runs = shape
            inside = coco.decode(runs).astype(bool)
            whole[inside] = number
        except Exception as error:  # pycocotools raises many kinds
            raise ImageError(
                f"cannot draw the mask of {name}: {type(error).__name__}: {error}"
            ) from error
    return whole


def _check_shape(shape, height, width):
    """Refuse what pycocotools would take as it is, in C.

    Raises:
        ValueError: points far from the image, or run lengths of another size.
    """
    if isinstance(shape, list):
        most = 2 * max(height, width)  # it draws outside, too, and in memory
        points = np.concatenate([np.asarray(line, "float64") for line in shape])
        if not (np.abs(points) <= most).all():
            raise ValueError("a polygon has points far outside of the image")
    elif list(shape["size"]) != [height, width]:
        raise ValueError(f"its size is {shape['size']}, not {[height, width]}")
    elif isinstance(shape["counts"], list):
        counts = shape["counts"]
        whole = all(type(n) is int and n >= 0 for n in counts)
        if not whole or sum(counts) != height * width:
            raise ValueError("its run lengths are not those of all its pixels")
    elif len(shape["counts"]) > 8 * height * width:
        raise ValueError("it has more run lengths than pixels")

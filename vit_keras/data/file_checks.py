"""Checks of image files before they are decoded: duplicates, frames, orientation."""

import collections
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import ExifTags, Image

from ..heads import get_head
from .dataset import Dataset
from .reading import in_threads
from .splits import summaries

# Formats that may hold several images, of which the first is read.
FRAMED = (".gif", ".tif", ".tiff", ".webp")
ORIENTATION = ExifTags.Base.Orientation
# Bytes at the end of files that are compared before whole contents are.
TAIL = 4096


def file_problems(parts: Mapping[str, Dataset], root: pathlib.Path) -> tuple[str, ...]:
    """Find files of the same content and files of several images.

    A duplicate stays in the data. Files that cannot be read are none of these: reading
    reports them.

    Arguments:
        parts: {name: data set of paths}, by what they are for.
        root: that paths are shown relative to.

    Returns:
        A line for each kind of problem that occurs, with count and examples.
    """
    files, labels = [], []
    for name, part in parts.items():
        paths: Any = part.images
        files += paths
        # Masks are not compared: a copy of an image has its own.
        dense = get_head(part.head).task != "classify"
        own = [b""] * len(part) if dense else [k.tobytes() for k in part.labels]
        labels += [(name, label) for label in own]
    found = {
        "the same image in two parts": [],
        "the same image with different labels": [],
        "the same image more than once": [],
        "only the first of several frames is used": [],
    }
    across, contrary, repeated, framed = found.values()
    for group in duplicates(files):
        first = group[0]
        # The pair that says most: of different parts, else of different labels.
        other = next((i for i in group if labels[i][0] != labels[first][0]), None)
        kind = across
        if other is None:
            other = next((i for i in group if labels[i] != labels[first]), None)
            kind = contrary
        if other is None:
            other, kind = group[1], repeated
        kind.append(
            f"{shown_path(files[first], root)} = {shown_path(files[other], root)}"
        )
    may = [file for file in files if file.suffix.lower() in FRAMED]
    several = in_threads(lambda at: _has_frames(may[at]), len(may))
    framed += [shown_path(f, root) for f, yes in zip(may, several, strict=True) if yes]
    return summaries(found)


def duplicates(files: Sequence[pathlib.Path]) -> list[list[int]]:
    """Return groups of indices of files that have the same content.

    Whole contents are read only where the sizes are equal, and the last bytes.
    """
    keys = {index: () for index in range(len(files))}
    for measure in (_size, _tail, _digest):
        values = _measured(measure, files, list(keys))
        keys = {i: (*keys[i], value) for i, value in values.items()}
        times = collections.Counter(keys.values())
        keys = {i: key for i, key in keys.items() if times[key] > 1}
    groups = collections.defaultdict(list)
    for index, key in keys.items():
        groups[key].append(index)
    return list(groups.values())


def _measured(measure: Callable, files, indices):
    """{index: measure of the file} of the files that can be read."""

    def at(position):
        try:
            return measure(files[indices[position]])
        except OSError:
            return None

    found = zip(indices, in_threads(at, len(indices)), strict=True)
    return {index: value for index, value in found if value is not None}


def _size(path):
    return path.stat().st_size or None  # nothing is no image


def _tail(path):
    with path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
        return file.read()


def _digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _has_frames(path):
    try:
        with Image.open(path) as image:
            return getattr(image, "is_animated", False)
    except Exception:  # Pillow raises many kinds; reading reports the file
        return False


def turned_files(parts: Mapping[str, Dataset], root: pathlib.Path) -> tuple[str, ...]:
    """Find photographs that are turned or mirrored by their EXIF orientation.

    Masks drawn on the stored pixels, as some tools read them, do not lie on these; only
    another height and width show it.

    Arguments:
        parts, root: as for `file_problems`.

    Returns:
        A line, if there are any.
    """
    files: list[Any] = [path for part in parts.values() for path in part.images]
    yes = in_threads(lambda at: _is_turned(files[at]), len(files))
    turned = [
        shown_path(file, root) for file, is_ in zip(files, yes, strict=True) if is_
    ]
    words = "photographs turned by EXIF, whose masks must lie on them as they are seen"
    return summaries({words: turned})


def _is_turned(path):
    try:
        with Image.open(path) as image:
            return image.getexif().get(ORIENTATION, 1) in range(2, 9)
    except Exception:  # as above
        return False


def shown_path(path: str | pathlib.Path, root: pathlib.Path) -> pathlib.Path:
    """Return a path for a message, relative to a folder that it is in."""
    path = pathlib.Path(path)
    return path.relative_to(root) if path.is_relative_to(root) else path

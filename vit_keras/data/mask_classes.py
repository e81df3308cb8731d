"""What the numbers and colours in mask files mean: names, colours, what is ignored."""

import csv
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..preprocessing import IGNORED
from ..text_files import read_json, read_text

MASK_CLASSES = IGNORED  # indices are uint8, of which the last one is "ignored"
NUMBERS = 2**16  # masks have 8 or 16 bits
UNKNOWN = -1
KEYS = ("classes", "colors", "numbers", "ignore")


@dataclasses.dataclass(frozen=True)
class MaskClasses:
    """The classes of mask files.

    Attributes:
        names: of the classes, in the order of their indices.
        numbers: of the classes in masks of grey or of a palette.
        colors: of the classes in RGB masks, (r, g, b) each; None if unknown.
        ignored: numbers of pixels without a class.
        ignored_colors: colours of such pixels.
        given: whether `names` were given, not made of the numbers.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    colors: tuple[tuple[int, ...], ...] | None = None
    ignored: tuple[int, ...] = (IGNORED,)
    ignored_colors: tuple[tuple[int, ...], ...] = ()
    given: bool = True

    @classmethod
    def of_numbers(cls, found: Iterable[int]) -> "MaskClasses":
        """Make classes of the numbers that masks hold, but for 255, "ignored"."""
        numbers = tuple(sorted(set(found) - {IGNORED}))
        return cls(tuple(map(str, numbers)), numbers, given=False)

    @classmethod
    def of_dict(cls, content: Any, where: str) -> "MaskClasses":
        """Read the format for JSON.

            {"classes": ["sky", "road", "void"],
             "colors": [[0, 0, 255], [128, 64, 128], [0, 0, 0]],
             "numbers": [0, 1, 2],
             "ignore": "void"}

        `colors`, in RGB masks, and `numbers`, in masks of grey or of a palette, are in
        the order of `classes` and may be missing; numbers are then 0, 1, 2 and so on.
        `ignore` names pixels that count in neither loss nor metric: a class, which then
        is none any more, a number, a colour [r, g, b], null, or a list of classes,
        numbers and colours (of three numbers alone it is a colour). It is 255 if it is
        missing, unless 255 is a class. A list of names alone is such a file, too.

        Raises:
            ValueError: another format, or values that contradict each other.
        """
        content = {"classes": content} if isinstance(content, list) else content
        if not isinstance(content, dict) or "classes" not in content:
            raise ValueError(f'{where} must be {{"classes": [names], ...}}')
        unknown = [key for key in content if key not in KEYS]
        if unknown:
            raise ValueError(
                f"{where} must have the keys {', '.join(KEYS)} alone. "
                f"Received: {', '.join(map(str, unknown))}"
            )
        names, colors = content["classes"], content.get("colors")
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ValueError(f"{where} `classes` must be a list of names")
        if len(set(names)) < len(names) or not all(name.strip() for name in names):
            raise ValueError(f"{where} `classes` must be different names, none empty")
        numbers = content.get("numbers")
        numbers = list(range(len(names))) if numbers is None else numbers
        _check(numbers, len(names), _is_number, "numbers", "0..65535", where)
        if colors is not None:
            _check(colors, len(names), _is_color, "colors", "[r, g, b]", where)
            colors = [tuple(color) for color in colors]
        ignore = content.get("ignore", [] if IGNORED in numbers else [IGNORED])
        rows = list(zip(names, numbers, colors or [None] * len(names), strict=True))
        return cls._without(rows, ignore, where)

    @classmethod
    def _without(cls, rows, ignore, where):
        """Make the classes of rows (name, number, color), less the ignored ones."""
        ignore = [] if ignore is None else ignore
        if not isinstance(ignore, list) or _is_color(ignore):
            ignore = [ignore]
        numbers, colors = [], []
        names = [row[0] for row in rows]
        for given in ignore:
            if isinstance(given, str) and given in names:
                _, number, color = rows[names.index(given)]
                numbers.append(number)
                colors += [color] if color else []
            elif _is_number(given):
                numbers.append(given)
            elif _is_color(given):
                colors.append(tuple(given))
            else:
                raise ValueError(
                    f"{where} `ignore` must be a class, a number of 0..65535, a colour "
                    f"[r, g, b] or a list of these. Received: {given!r}"
                )
        kept = [r for r in rows if r[1] not in numbers and r[2] not in colors]
        if not 2 <= len(kept) <= MASK_CLASSES:
            raise ValueError(
                f"{where} `classes` must be 2 to {MASK_CLASSES} without those that are "
                f"ignored, because masks are uint8. Received: {len(kept)}"
            )
        names, own, shades = zip(*kept, strict=True)
        shades = None if shades[0] is None else shades
        return cls(names, own, shades, tuple(numbers), tuple(colors))

    def indices(self, pixels: np.ndarray) -> tuple[np.ndarray, list]:
        """Translate the pixels of a mask to indices of classes.

        Arguments:
            pixels: integers (h, w) of 0..65535, or colours uint8 (h, w, 3), for which
                `colors` must be known.

        Returns:
            (uint8 (h, w), what is unknown: numbers or colours, at most five).
        """
        ours = range(len(self.names))
        if pixels.ndim == 2:
            table = np.full(NUMBERS, UNKNOWN, "int16")
            table[list(self.ignored)] = IGNORED
            table[list(self.numbers)] = ours
            found = table[pixels]
            unknown = np.unique(pixels[found == UNKNOWN])
            return found.astype("uint8"), unknown[:5].tolist()
        codes = {_code(c): IGNORED for c in self.ignored_colors}
        codes |= {_code(c): i for c, i in zip(self.colors or (), ours, strict=True)}
        known = np.array(sorted(codes))
        values = pixels.astype("int64") @ (1 << 16, 1 << 8, 1)
        at = np.searchsorted(known, values).clip(max=len(known) - 1)
        unknown = np.unique(values[known[at] != values])[:5].tolist()
        found = np.array([codes[code] for code in known], "uint8")[at]
        return found, [[v >> 16, v >> 8 & 255, v & 255] for v in unknown]


def _code(color):
    return color[0] << 16 | color[1] << 8 | color[2]


def _is_number(value):
    return type(value) is int and 0 <= value < NUMBERS


def _is_color(value):
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(v) is int and 0 <= v <= 255 for v in value)
    )


def _check(values, number, valid, key, words, where):
    good = isinstance(values, list) and len(values) == number
    if not good or not all(map(valid, values)):
        raise ValueError(
            f"{where} `{key}` must be a list of {words}, one for each of the {number} "
            "classes"
        )
    if len({str(value) for value in values}) < number:
        raise ValueError(f"{where} `{key}` must be different for each class")


def _lines(path):
    return read_text(path).split("\n")


def _names(path):
    return [line.strip() for line in _lines(path) if line.strip()]


def _class_dict(path):
    """Read the table `name,r,g,b` of CamVid as it is on Kaggle."""
    lines = read_text(path).splitlines()
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    if [cell.lower() for cell in rows[0]] != ["name", "r", "g", "b"]:
        raise ValueError("its columns must be name, r, g, b")
    return {"classes": [r[0] for r in rows[1:]], "colors": _integers(rows[1:])}


def _labelmap(path):
    """Read the lines `name:r,g,b:parts:actions` of CVAT's exports."""
    rows = [line.split(":") for line in _names(path) if not line.startswith("#")]
    colors = _integers([["", *row[1].split(",")] for row in rows])
    return {"classes": [row[0] for row in rows], "colors": colors}


def _integers(rows):
    return [[int(cell) for cell in row[1:]] for row in rows]


def _objects(path):
    """Read ADE20K's table of its 150 classes, to which 0, "other", belongs not."""
    names = [line.split("\t")[-1].strip() for line in _names(path)[1:]]
    return ade20k(names)


# Files that tell the classes, and how they are read.
CLASS_FILES: Mapping[str, Callable[[pathlib.Path], Any]] = {
    "classes.json": read_json,
    "labels.json": read_json,
    "classes.txt": _names,
    "labels.txt": _names,
    "class_dict.csv": _class_dict,
    "labelmap.txt": _labelmap,
    "objectInfo150.txt": _objects,
}


def ade20k(names: Sequence[str]) -> dict[str, Any]:
    """Return classes that masks number from 1 on, where 0 is "other" and ignored."""
    return {
        "classes": list(names),
        "numbers": list(range(1, len(names) + 1)),
        "ignore": 0,
    }


def read_classes(
    folders: Sequence[pathlib.Path],
) -> tuple[MaskClasses, pathlib.Path] | None:
    """Read the file of `CLASS_FILES` in the first of some folders that has one.

    Returns:
        (the classes, their file), or None without one.

    Raises:
        ValueError: a folder has several, or the file is none of its format.
    """
    for folder in folders:
        paths = [folder / name for name in CLASS_FILES if (folder / name).is_file()]
        if len(paths) > 1:
            raise ValueError(
                f"'{folder}' must have one file of classes. Received: "
                f"{', '.join(path.name for path in paths)}"
            )
        if paths:
            path = paths[0]
            try:
                content = CLASS_FILES[path.name](path)
            except (ValueError, IndexError, csv.Error) as error:
                raise ValueError(f"'{path}' is no file of classes: {error}") from error
            return MaskClasses.of_dict(content, f"'{path}':"), path
    return None

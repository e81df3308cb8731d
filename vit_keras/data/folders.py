"""Folders of class folders, alone or as train, val and test."""

import os
import pathlib

import numpy as np

from .. import preprocessing as pp
from .dataset import Dataset
from .file_checks import file_problems
from .splits import NAMES, PARTS, Splits, same_classes, summaries

# What systems leave in folders, beside names with a leading dot.
HIDDEN = ("thumbs.db", "desktop.ini", "__macosx")

LEFT_OUT = {
    "empty": "folders without images, which are no classes",
    "outside": "outside of the class folders, left out",
    "others": f"no images ({', '.join(pp.IMAGE_SUFFIXES)}), left out",
}


def open_folder(path: str | os.PathLike[str]) -> Splits:
    """Open `path/<class>/**/image.jpg`, or `path/train/<class>/**/image.jpg`.

    `path` has parts if it has the folder `train`, and beside it `val` (or `valid` or
    `validation`) or `test`. Then the classes of all parts are those of `train`.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: fewer than two class folders with images, or a class that `train`
            lacks.
    """
    root = pathlib.Path(path)
    folders, outside = _children(root)
    named = [(PARTS.get(child.name.lower()), child) for child in folders]
    found = {name for name, _ in named}
    if "train" not in found or not found & {"validation", "test"}:
        dataset, left_out = _scan(root)
        problems = _problems(left_out, root)
        return Splits(dataset, problems=problems + file_problems({"": dataset}, root))
    parts, left_out = {}, {"outside": outside}
    order = sorted(named, key=lambda pair: pair[0] != "train")  # its errors first
    for name, child in order:
        if name in parts:
            raise ValueError(
                f"`data` must have one folder for each part. '{root}' has two for "
                f"{name}: {', '.join(c.name for n, c in named if n == name)}"
            )
        if name is None:
            left_out["outside"].append(child)
            continue
        parts[name], more = _scan(child, 2 if name == "train" else 1)
        for kind, paths in more.items():
            left_out[kind] = left_out.get(kind, []) + paths
    parts = same_classes({name: parts[name] for name in NAMES if name in parts})
    counts = ", ".join(f"{name} {len(part)}" for name, part in parts.items())
    note = f"'{root}' has parts: {counts} images"
    problems = _problems(left_out, root) + file_problems(parts, root)
    return Splits(**parts, unlabelled=(), notes=(note,), problems=problems)


def folder(path) -> Dataset:
    """Open a folder of class folders: `path/<class>/**/image.jpg`.

    JPEG, PNG, WebP, BMP, TIFF and GIF; the classes are the folders' names in sorted
    order.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: fewer than two class folders with images.
    """
    return _scan(pathlib.Path(path))[0]


def find_files(folder) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Find all files in a folder and its subfolders.

    Hidden files and folders are ignored: a leading dot, and the names in `HIDDEN`.

    Returns:
        (image files, all other files and links to folders, which are not followed),
        both sorted.

    Raises:
        OSError: a subfolder cannot be read.
    """
    images, others = [], []
    for at, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        for name in names:
            is_image = os.path.splitext(name)[1].lower() in pp.IMAGE_SUFFIXES
            if not _is_hidden(name):
                (images if is_image else others).append(pathlib.Path(at, name))
        paths = (pathlib.Path(at, name) for name in folders)
        others += [path for path in paths if path.is_symlink()]
    return sorted(images), sorted(others)


def _fail(error):
    raise error


def _is_hidden(name):
    return name.startswith(".") or name.lower() in HIDDEN


def _children(root):
    """Return (folders, files) in a folder, sorted."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"`data` must be 'digits' or a folder. Received: '{root}'"
        )
    entries = sorted(p for p in root.iterdir() if not _is_hidden(p.name))
    folders = [path for path in entries if path.is_dir()]
    return folders, [path for path in entries if path not in set(folders)]


def _scan(root, least=2):
    """Return a folder of class folders as a `Dataset`, and what was left out."""
    folders, outside = _children(root)
    files, labels, classes, empty, others = [], [], [], [], []
    for child in folders:
        found, more = find_files(child)
        others += more
        if not found:
            empty.append(child)
            continue
        labels += [len(classes)] * len(found)
        classes.append(child.name)
        files += found
    if len(classes) < least:
        number = {1: "at least one folder", 2: "at least two folders"}[least]
        raise ValueError(
            f"`data` must hold {number}, one per class, with images "
            f"({', '.join(pp.IMAGE_SUFFIXES)}). '{root}' holds {len(classes)}"
        )
    left_out = {"empty": empty, "outside": outside, "others": others}
    return Dataset(files, np.array(labels), tuple(classes)), left_out


def _problems(left_out, root):
    return summaries(
        {
            LEFT_OUT[kind]: [path.relative_to(root) for path in paths]
            for kind, paths in left_out.items()
        }
    )

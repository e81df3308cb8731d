"""Opening of folders of pairs: classes, a look at every mask, and what is wrong."""

import pathlib
import re
from collections.abc import Mapping

import numpy as np

from .. import preprocessing as pp
from ..heads import DENSE
from .dataset import Dataset, LazyImages
from .file_checks import file_problems, shown_path, turned_files
from .mask_classes import MASK_CLASSES, MaskClasses, ade20k, read_classes
from .mask_folders import (
    ASIDE,
    PART_FOLDERS,
    PairFolders,
    find_parts,
    match_files,
)
from .mask_reading import (
    DEPTH_SUFFIXES,
    MASK_SUFFIXES,
    PROBLEMS,
    MaskError,
    read_depth,
    read_mask,
    read_numbers,
)
from .reading import in_threads
from .splits import NAMES, Splits, summaries, summary

# The classes of Pascal VOC, whose files are named by year and number.
VOC = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable "
    "dog horse motorbike person pottedplant sheep sofa train tvmonitor"
).split()
PARTS_WITHOUT = "folders that are no part, or lack images or masks, left out"
NUMPY = {".npy", ".npz"}
VOC_FILE = re.compile(r"\d{4}_\d{6}")
ADE_FILE = re.compile(r"ADE_(train|val)_\d{8}")


def open_pairs(root: pathlib.Path, task: str) -> Splits:
    """Open a folder of pairs of files, in a layout of `mask_folders`.

    The classes are, in this order of preference: those of a file of `CLASS_FILES` in
    the folder, or beside the masks; for names like ADE_train_00000001 in
    `annotations/training` ADE20K's, 1 to 150, of which 0 is ignored; for lists of names
    like 2007_000032 Pascal VOC's; the numbers that are in the masks, but for 255. Notes
    say which.

    Arguments:
        task: "segment" or "depth".

    Raises:
        Those of `open_dense`.
    """
    folders, without = find_parts(root, task)
    suffixes = MASK_SUFFIXES if task == "segment" else DEPTH_SUFFIXES
    notes, pairs = [], {}
    lost: dict[str, list] = {
        PARTS_WITHOUT: [shown_path(folder, root) for folder in without]
    }
    for name, part in folders.items():
        pairs[name], wrong = match_files(part, task, suffixes)
        aside = [f.name for f in wrong.pop(ASIDE, [])]
        notes += [summary(ASIDE, aside)] if aside else []
        for words, files in wrong.items():
            lost.setdefault(words, []).extend(shown_path(f, root) for f in files)
    classes = None
    if task == "segment":
        classes, note = _known_classes(root, folders, pairs)
        notes += [note] if note else []
    elif {d.suffix.lower() for files in pairs.values() for _, d in files} - NUMPY:
        notes.append("depths of 16-bit images are millimetres, and read as metres")
    usable, numbers = {}, {}
    for name, files in pairs.items():
        usable[name], numbers[name] = _look(files, task, classes, lost, root)
    useless = [name for name, files in usable.items() if not files]
    if useless:  # without its part for tests, another one would be evaluated
        raise ValueError(
            f"`data` must hold pairs of images and masks that can be used. '{root}' "
            f"has none for {', '.join(useless)}: "
            f"{'; '.join(summaries(lost)) or 'no pair'}"
        )
    if task == "segment" and classes is None:
        classes = _numbered(root, set().union(*numbers.values()))
        numbered = ", ".join(classes.names)
        notes.append(f"'{root}' names no classes: they are the masks' {numbered}")
    names = ("depth",) if classes is None else classes.names
    parts = {
        name: _dataset(files, task, classes, names) for name, files in usable.items()
    }
    if len(folders) > 1:
        counts = ", ".join(f"{name} {len(part)}" for name, part in parts.items())
        notes.append(f"'{root}' has parts: {counts} images")
    if classes is not None and classes.given and "train" in parts:
        seen = numbers["train"]
        lost["classes without a pixel in the images for training"] = [
            name for i, name in enumerate(classes.names) if i not in seen
        ]
    problems = summaries(lost) + file_problems(parts, root)
    notes += turned_files(parts, root)
    named = {PART_FOLDERS.get(folder.name.lower()) for folder in without}
    unlabelled = tuple(name for name in NAMES if name in named - parts.keys())
    return Splits(**parts, unlabelled=unlabelled, notes=tuple(notes), problems=problems)


def _known_classes(root, folders: Mapping[str, PairFolders], pairs):
    """Return the classes that are known before masks are read, and a note, or None."""
    masks = {part.masks for part in folders.values()}
    places = [root, *sorted({*masks, *(folder.parent for folder in masks)} - {root})]
    known = read_classes(places)
    first = next(iter(folders.values()))
    names = [image.stem for files in pairs.values() for image, _ in files]
    if known is not None:
        classes, path = known
        return classes, f"'{root}' has {len(classes.names)} classes, by {path.name}"
    if (first.masks.parent.name, first.masks.name) == ("annotations", "training") and (
        all(map(ADE_FILE.fullmatch, names))
    ):
        content = ade20k([str(number) for number in range(1, 151)])
        note = "is ADE20K by its file names: 1 to 150 are classes, 0 is ignored"
    elif first.listed is not None and all(map(VOC_FILE.fullmatch, names)):
        content = VOC
        note = "is Pascal VOC by its file names: its 21 classes, 255 ignored"
    else:
        return None, None
    return MaskClasses.of_dict(content, f"'{root}':"), f"'{root}' {note}"


def _look(files, task, classes, lost, root):
    """Read every mask once; return the usable pairs and the numbers in the masks."""

    def read(at):
        path = files[at][1]
        try:
            if task == "depth":
                return set() if np.isfinite(read_depth(path)).any() else None
            if classes is None:
                pixels = read_numbers(path)[0]
                if pixels.ndim == 3:
                    raise MaskError(path, "colors", "three channels")
            else:
                pixels = read_mask(path, classes)
            found = set(np.flatnonzero(np.bincount(pixels.ravel())).tolist())
            return found if found - {pp.IGNORED} else None
        except MaskError as error:
            return error

    usable, numbers = [], set()
    for pair, found in zip(files, in_threads(read, len(files)), strict=True):
        if isinstance(found, MaskError):
            shown = f"{shown_path(pair[1], root)}: {found.detail}"
            words = f"{PROBLEMS[found.problem]}, left out"
            lost.setdefault(words, []).append(shown)
        elif found is None:
            words = "masks without a known pixel, left out"
            lost.setdefault(words, []).append(shown_path(pair[1], root))
        else:
            usable.append(pair)
            numbers |= found
    return usable, numbers


def _numbered(root, numbers):
    """Return the classes of masks without names."""
    own = numbers - {pp.IGNORED}
    if len(own) < 2 or len(own) > MASK_CLASSES:
        hint = ""
        if numbers == {0, pp.IGNORED}:
            hint = (
                ". 255 is ignored; for masks of black and white put a classes.json "
                'beside: {"classes": ["background", "object"], "numbers": [0, 255]}'
            )
        raise ValueError(
            f"`data` must have masks with 2 to {MASK_CLASSES} classes. '{root}' has "
            f"{len(own)} numbers that are not ignored: {sorted(own)[:5]}{hint}"
        )
    return MaskClasses.of_numbers(own)


def _dataset(files, task, classes, names):
    masks = [mask for _, mask in files]

    def read(at):
        if task == "depth":
            return read_depth(masks[at])
        return read_mask(masks[at], classes)

    labels = LazyImages(read, np.arange(len(files)))
    return Dataset([image for image, _ in files], labels, names, DENSE[task])

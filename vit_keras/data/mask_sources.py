"""Openers of images with a class, or a depth, at each pixel."""

import os
import pathlib
from typing import Any

import numpy as np

from ..heads import DENSE
from ..preprocessing import IGNORED
from ..weights.entries import DATA_RATIO
from ..weights.formats.npz_file import read_npz
from .coco_masks import coco_files, open_coco
from .dataset import Dataset
from .items import checked_images
from .mask_classes import MASK_CLASSES
from .mask_pairs import open_pairs
from .mask_reading import known_depth
from .splits import Splits

# What is beside the images: masks of classes, or depths.
ARRAYS = {"segment": "masks", "depth": "depth"}
ACCEPTED = (
    "a folder of images and masks, a COCO .json (segment), an .npz file of `images` "
    "and `masks` or `depth`, a `Dataset`, or a pair of arrays (images, masks or depth)"
)


def open_dense(data: Any, held_out: bool, task: str) -> Splits:
    """Open images with masks or depths.

    Every mask file is looked at once: pairs that cannot be used are left out, and
    counted in `problems`.

    Arguments:
        data: one of
            a folder, see `mask_folders`, with a file of classes beside, see
            `mask_classes`; without one the classes are the numbers in the masks;
            a COCO `.json`, or a folder of `annotations/*.json`, see `coco_masks`;
            an `.npz` file of `images` (N, H, W, C) and `masks` or `depth` (N, H, W),
            and optionally `classes`;
            a pair of such arrays: masks are integers, 255 is ignored; depths are
            floats, unknown where they are not finite or not above 0;
            a `Dataset` of the task, which is returned unchanged.
        held_out: whether a source without parts is for tests.
        task: "segment" or "depth".

    Returns:
        Data sets whose labels give uint8 (h, w), 255 where ignored, or float32 (h, w),
        NaN where unknown.

    Raises:
        ValueError: unsupported data or contents, or no usable pair.
        FileNotFoundError: the folder or file does not exist.
        ImportError: COCO without pycocotools, of the extra `data`.
    """
    if task not in DENSE:
        raise ValueError(
            f"`task` must be classify or one of {', '.join(DENSE)}. "
            f"Received: task={task!r}"
        )
    if isinstance(data, (str, os.PathLike)):
        path = pathlib.Path(data)
        coco = coco_files(path) if task == "segment" else {}
        if coco:
            return open_coco(coco)
        if path.is_dir():
            return open_pairs(path, task)
        if not path.is_file() or path.suffix.lower() != ".npz":
            error = ValueError if path.exists() else FileNotFoundError
            raise error(f"`data` must be {ACCEPTED}. Received: '{data}'")
        dataset = _npz(path, task)
    elif isinstance(data, Dataset):
        dataset = data
        if dataset.head != DENSE[task]:
            raise ValueError(
                f"`data` must have head={DENSE[task]!r} for task={task!r}. "
                f"Received: head={dataset.head!r}"
            )
    elif isinstance(data, tuple) and len(data) == 2:
        dataset = dense_arrays(*data, task=task)
    else:
        raise ValueError(f"`data` must be {ACCEPTED}. Received: {type(data)}")
    return Splits(test=dataset) if held_out else Splits(train=dataset)


def dense_arrays(
    images: Any, labels: Any, classes: Any = None, *, task: str
) -> Dataset:
    """Return the data set of two arrays, as `open_dense` describes them."""
    name = ARRAYS[task]
    images, labels = checked_images(np.asarray(images), 4), np.asarray(labels)
    if labels.shape != images.shape[:3]:
        raise ValueError(
            f"`{name}` must be {images.shape[:3]}, as the images. "
            f"Received: shape={labels.shape}"
        )
    if task == "depth":
        if labels.dtype.kind != "f":
            raise ValueError(f"`depth` must be floats. Received: dtype={labels.dtype}")
        return Dataset(images, known_depth(labels), ("depth",), DENSE[task])
    if not labels.size:
        raise ValueError(f"`{name}` must hold at least one. Received: none")
    if labels.dtype.kind not in "bui" or labels.min() < 0 or labels.max() > IGNORED:
        raise ValueError(
            f"`masks` must be whole numbers of 0..{MASK_CLASSES - 1}, or "
            f"{IGNORED}, which is ignored. Received: dtype={labels.dtype}, "
            f"{labels.min()}..{labels.max()}"
        )
    masks = labels.astype("uint8")
    there = masks[masks != IGNORED]
    number = max(int(there.max(initial=0)) + 1, 2)
    names = tuple(map(str, range(number) if classes is None else classes))
    if len(set(names)) < len(names) or not number <= len(names) <= MASK_CLASSES:
        raise ValueError(
            "`classes` must be different names, one for each number in the masks. "
            f"Received: {len(names)} classes, numbers up to {number - 1}"
        )
    return Dataset(images, masks, names, DENSE[task])


def _npz(path, task):
    wanted = ("images", ARRAYS[task])
    try:
        stored = read_npz(path, DATA_RATIO)
        lacking = [name for name in wanted if name not in stored]
        held, classes = ", ".join(stored), None
        arrays = [] if lacking else [stored[name].read() for name in wanted]
        if "classes" in stored:
            classes = stored["classes"].read().tolist()
            if not isinstance(classes, list):
                raise ValueError("`classes` must be a list of names")
    except ValueError as error:
        raise ValueError(f"'{path}' is no whole .npz file: {error}") from error
    if lacking:
        raise ValueError(
            f"`data` must hold {' and '.join(wanted)}. '{path}' holds {held}"
        )
    images, labels = arrays
    return dense_arrays(images, labels, classes, task=task)

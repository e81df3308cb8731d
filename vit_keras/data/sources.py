"""Openers of data sources: arrays, files, TFDS, Grain, PyTorch, tf.data.

Objects of other libraries are recognised by their methods, so none of these libraries
is imported here; only "tfds:NAME" needs packages, those of the extra `data`.
"""

import os
import pathlib
import pkgutil
import sys
import warnings
from collections.abc import Iterable, Mapping

import numpy as np

from .. import preprocessing as pp
from ..weights.entries import DATA_RATIO
from ..weights.formats.npz_file import read_npz
from .dataset import Dataset, LazyImages, digits
from .folders import open_folder
from .items import (
    checked_dataset,
    checked_images,
    checked_pair,
    parts_of,
    stacked_labels,
)
from .label_tables import TABLES, open_table
from .mask_folders import images_of_pairs
from .mask_sources import open_dense
from .reading import in_threads
from .splits import Splits
from .tfds_sources import TFDS, tfds_source, undecoded

ACCEPTED = (
    "'digits' or a folder of class folders, alone or in train, val and test, a .csv or "
    ".jsonl table of files and labels, an .npz file, 'tfds:NAME[:SPLIT]', "
    "'grain:MODULE:ATTRIBUTE', a `Dataset`, a pair (images, labels) of arrays, a "
    "random-access source or an iterable of (image, label), such as a tf.data.Dataset"
)
# An iterable has no random access, so its images are kept in memory.
STREAM_BYTES = 2**31


def open_source(data, held_out: bool = False, task: str = "classify") -> Dataset:
    """Open training or test data.

    Images are uint8 of 0..255, because the model's preprocessing normalises them.
    Labels are integers from 0 on or one-hot (classification), 0 and 1 of shape (N, K)
    (multi-label), or other floats of shape (N,) or (N, K) (regression). Classes without
    names are numbered.

    Arguments:
        data: one of
            a `Dataset`, which is returned unchanged;
            "digits", or a folder, see `open_folder`;
            a `.csv` or `.jsonl` table of files and labels, see `open_table`;
            a pair of arrays: images (N, H, W, C) or grey (N, H, W), and labels;
            an `.npz` file of `images`, `labels` and optionally `classes`, or of
            `x_train`, `y_train`, `x_test`, `y_test`;
            "tfds:NAME" or "tfds:NAME:SPLIT", of TensorFlow Datasets;
            "grain:MODULE:ATTRIBUTE", data in a module that Python can import, or a
            function without arguments that returns it;
            a source with `__len__` and `__getitem__` whose items are (image, label) or
            {"image", "label"}: of Grain, TFDS, PyTorch. Its `classes` are used. Opening
            reads every item once for its label (TFDS: without decoding); images are
            read later, repeatedly and from several threads: `__getitem__` must be
            thread-safe and deterministic;
            a finite `tf.data.Dataset` or another iterable of such items, or of batches
            of them, read into memory.
        held_out: whether to use the test part, else the validation part, if the data
            has one and does not name its part.
        task: of the model; "segment" and "depth" have labels at each pixel, and other
            data: see `open_dense`.

    Problems of files are warnings; `open_splits` returns them.

    Raises:
        ValueError: unsupported data or contents.
        FileNotFoundError: the folder or file does not exist.
        ImportError: the packages of the extra `data` are missing.
    """
    splits = open_splits(data, held_out, task)
    for line in splits.problems:
        warnings.warn(line, stacklevel=2)
    return splits.part(held_out)


def open_splits(data, held_out: bool = False, task: str = "classify") -> Splits:
    """Open the parts of a data source, with notes and problems.

    Arguments:
        data, held_out, task: as for `open_source`. Folders and tables give all their
            parts; any other source is opened for the part that is asked for alone, as
            `test` if `held_out`, else as `train`.

    Raises:
        Those of `open_source`.
    """
    if task != "classify":
        return open_dense(data, held_out, task)
    if isinstance(data, (str, os.PathLike)) and data != "digits":
        path = pathlib.Path(data)
        if path.is_dir():
            if images_of_pairs(path):
                raise ValueError(
                    "`task` must be segment or depth (--task) for a folder of images "
                    f"and masks, which are no classes of images. Received: '{path}'"
                )
            return open_folder(path)
        if path.is_file() and path.suffix.lower() in TABLES:
            return open_table(path)
    dataset, notes = _opened(data, held_out), ()
    if dataset.head != "softmax":
        shape = dataset.labels.shape
        notes = (f"labels of shape {shape} are for {dataset.head.replace('_', '-')}",)
    if held_out:
        return Splits(test=dataset, notes=notes)
    return Splits(train=dataset, notes=notes)


def _opened(data, held_out):
    if isinstance(data, Dataset):
        return data
    if isinstance(data, (str, os.PathLike)):
        return _named(data, held_out)
    if isinstance(data, tuple) and len(data) == 2:
        return _arrays(*data)
    if not isinstance(data, (Mapping, np.ndarray, bytes)):
        if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
            return _random_access(data)
        if isinstance(data, Iterable):
            return _stream(data)
    raise ValueError(f"`data` must be {ACCEPTED}. Received: {type(data)}")


def _named(data, held_out):
    if data == "digits":
        return digits()[held_out]
    name, path = str(data), pathlib.Path(data)
    if match := TFDS.fullmatch(name):
        part = "test" if held_out else "train"
        return _random_access(tfds_source(match[1], match[2] or part))
    if name.startswith("grain:"):
        return open_source(_attribute(name.removeprefix("grain:")), held_out)
    if path.is_file() and path.suffix.lower() == ".npz":
        return _npz(path, held_out)
    error = ValueError if path.exists() else FileNotFoundError
    raise error(f"`data` must be {ACCEPTED}. Received: '{name}'")


def _attribute(name):
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            "`data` must be grain:MODULE:ATTRIBUTE with a module that Python can "
            f"import (PYTHONPATH). Received: {name!r} ({error})"
        ) from error
    made = isinstance(found, type) or not hasattr(found, "__getitem__")
    return found() if made and callable(found) else found


def _npz(path, held_out):
    part = "test" if held_out else "train"
    try:
        stored = read_npz(path, DATA_RATIO)
        for names in (("images", "labels"), (f"x_{part}", f"y_{part}")):
            if all(name in stored for name in names):
                classes = stored["classes"].read() if "classes" in stored else None
                images, labels = (stored[name].read() for name in names)
                break
        else:
            raise KeyError(", ".join(stored))
    except KeyError as error:
        raise ValueError(
            f"`data` must hold images and labels, or x_{part} and y_{part}. '{path}' "
            f"holds {error}"
        ) from error
    except ValueError as error:
        raise ValueError(f"'{path}' is no whole .npz file: {error}") from error
    return _arrays(images, labels, classes)


def _arrays(images, labels, classes=None):
    images, labels = np.asarray(images), np.asarray(labels)
    images = checked_images(images, 4)
    if not labels.ndim or len(images) != len(labels):
        raise ValueError(
            "`images` and `labels` must be equally many. Received: "
            f"{len(images)} images, {len(labels) if labels.ndim else 'no'} labels"
        )
    return checked_dataset(images, labels, classes)


def _random_access(source):
    number = len(source)
    if not 0 < number < sys.maxsize:  # sys.maxsize: Grain's endless repeat
        raise ValueError(
            f"`data` must have a finite length above 0. Received: {number}"
        )
    encoded, classes = None, getattr(source, "classes", None)
    if hasattr(source, "dataset_info"):
        encoded, classes = undecoded(source)
    broken = {}

    def label(at):
        try:
            if encoded is not None:
                return _item(encoded, at)[1]
            image, found = _item(source, at)
        except pp.ImageError as error:
            return error
        checked_images(image, 3)  # errors of the format end the opening
        return found

    def read(at):
        if at in broken:
            raise pp.ImageError(broken[at])
        return checked_images(_item(source, at)[0], 3)

    labels = list(in_threads(label, number))
    broken = {i: str(e) for i, e in enumerate(labels) if isinstance(e, pp.ImageError)}
    if len(broken) == number:
        raise ValueError(f"`data` must hold readable images: {broken[0]}")
    # An unreadable item gets any label: it raises again later, and is skipped then.
    known = next(label for i, label in enumerate(labels) if i not in broken)
    labels = [known if i in broken else label for i, label in enumerate(labels)]
    return checked_dataset(
        LazyImages(read, np.arange(number)), stacked_labels(labels), classes
    )


def _item(source, at):
    """Return image and label of an item as arrays, or raise `ImageError`."""
    try:
        item = source[at]
        parts = parts_of(item)
    except Exception as error:  # libraries raise various errors
        raise pp.ImageError(
            f"cannot read item {at} of {type(source).__name__}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return checked_pair(parts, item)


def _stream(data):
    """Read a `tf.data.Dataset` or another iterable into memory."""
    otherwise = "give a folder or a random-access source"
    if hasattr(data, "cardinality") and int(data.cardinality()) == -1:
        raise ValueError(f"`data` must be finite, without repeat(); or {otherwise}")
    images, labels, size = [], [], 0
    for item in getattr(data, "as_numpy_iterator", data.__iter__)():
        image, label = checked_pair(parts_of(item), item)
        if image.ndim < 3 or (image.ndim == 3 and image.shape[-1] <= 4):  # no batch
            image, label = image[None], label[None]
        images += list(checked_images(image, 4))
        labels += list(label)
        size += image.nbytes
        if size > STREAM_BYTES:
            raise ValueError(
                f"`data` must be at most {STREAM_BYTES} bytes of pixels, because all "
                f"of an iterable is kept in memory; or {otherwise}"
            )
    if not images or len(images) != len(labels):
        raise ValueError(
            "`data` must hold a label for each image. Received: "
            f"{len(images)} images, {len(labels)} labels"
        )
    return checked_dataset(images, stacked_labels(labels))

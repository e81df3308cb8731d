"""Images without labels at a model's input size, for calibration and parity."""

import math
import os
import pathlib
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import preprocessing as pp
from ..weights.formats.npz_file import read_npy
from .dataset import Dataset
from .folders import find_files
from .label_tables import TABLES
from .mask_folders import images_of_pairs
from .reading import read_fitted
from .sources import open_source

ACCEPTED = (
    "an array (N, H, W, C), a .npy file of one, a folder of images, an iterable of "
    "batches, or what training takes: 'digits', a .csv or .jsonl table, an .npz file, "
    "'tfds:NAME[:SPLIT]', 'grain:MODULE:ATTRIBUTE', a `Dataset`, a pair (images, "
    "labels), a random-access source"
)


def load_images(
    source: Any,
    image_size: Sequence[int],
    preprocessing: pp.Preprocessing | None,
    limit: int | None = None,
    seed: int = 0,
    held_out: bool = False,
) -> np.ndarray:
    """Load raw pixels from any supported source.

    Arrays and batches must have the model's input size; photographs and data sets are
    resized as in evaluation.

    Arguments:
        source: an array (N, H, W, C) with pixels 0..255, a `.npy` file of one, an
            iterable of batches (N, H, W, C), alone or first in a tuple, as with
            labels; a folder that is searched for image files, subfolders included, but
            for the masks in a folder of images and masks (see `mask_folders`); or
            any source of `open_source`, whose labels are ignored.
        image_size: (height, width) of the model's input.
        preprocessing: how images are resized; None for a model whose input is not
            pixels, which needs arrays.
        limit: maximal number of images, drawn at random, but the first ones of an
            iterable; None means all.
        seed: of this draw.
        held_out: whether to use the test part of a data set that has one.

    Returns:
        Array (N, height, width, C): uint8, or float32 if the source is float.

    Raises:
        ValueError: wrong shape, values that are not pixels, or no readable image.
        FileNotFoundError: the path does not exist.
    """
    images = _open(source, limit, held_out)
    if not isinstance(images, np.ndarray):
        return _fitted(images, source, image_size, preprocessing, limit, seed)
    channels = len(preprocessing.mean) if preprocessing is not None else None
    expected = (*image_size, channels or images.shape[-1])
    if images.ndim != 4 or images.shape[1:] != expected or not len(images):
        raise ValueError(
            f"Images must have the shape (N, {', '.join(map(str, expected))}) with "
            f"N >= 1. Received: shape={images.shape}"
        )
    if limit is not None and len(images) > limit:
        draws = np.random.default_rng(seed)
        images = images[np.sort(draws.choice(len(images), limit, replace=False))]
    return images if preprocessing is None else _check_pixels(images)


def _open(source, limit, held_out):
    """Return an array of model inputs, or a sequence of images to be resized."""
    if isinstance(source, str | os.PathLike):
        path = pathlib.Path(source)
        if path.suffix == ".npy":
            return _npy(path)
        if path.is_dir():
            return images_of_pairs(path) or find_files(path)[0]
        named = str(source) == "digits" or str(source).startswith(("tfds:", "grain:"))
        if not named and not path.is_file():
            raise FileNotFoundError(f"there is no file or folder '{path}'")
        if not named and path.suffix.lower() not in (".npz", *TABLES):
            raise ValueError(f"Images must be {ACCEPTED}. Received: '{path}'")
        return _Items(open_source(source, held_out).images)
    if isinstance(source, Dataset):
        return _Items(source.images)
    if isinstance(source, tuple) and len(source) == 2 and np.ndim(source[0]) == 4:
        return np.asarray(source[0])  # images and their labels
    if hasattr(source, "__array__") or isinstance(source, list | tuple):
        return np.asarray(source)
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        return _Items(open_source(source, held_out).images)
    if isinstance(source, Iterable):
        return _joined(source, limit)
    raise ValueError(f"Images must be {ACCEPTED}. Received: {type(source).__name__}")


class _Items:
    """The images of a `Dataset` as a sequence, even if they are one array."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def _npy(path):
    if not path.is_file():
        raise FileNotFoundError(f"there is no file or folder '{path}'")
    try:
        return read_npy(path)
    except ValueError as error:
        raise ValueError(f"'{path}' is no whole .npy file: {error}") from error


def _joined(source, limit):
    """Return the first images of an iterable of batches."""
    batches, count = [], 0
    for item in source:
        batch = np.asarray(item[0] if isinstance(item, list | tuple) else item)
        if batch.ndim != 4 or batch.shape[1:] != (batches or [batch])[0].shape[1:]:
            raise ValueError(
                "An iterable of images must give batches (N, H, W, C) of one size, or "
                f"(batch, labels). Received: shape={batch.shape}"
            )
        batches.append(batch)
        count += len(batch)
        if limit is not None and count >= limit:
            break
    if not batches:
        raise ValueError("An iterable of images must hold one at least. It is empty")
    return np.concatenate(batches)[:limit]


def _fitted(items, source, image_size, preprocessing, limit, seed):
    """Resize images of any size; unreadable ones are skipped with a warning."""
    name = f"'{source}'" if isinstance(source, str | os.PathLike) else "the data"
    if preprocessing is None:
        raise ValueError(
            "Images must be an array for a model that carries no preprocessing, or "
            f"`preprocessing` be given. Received: {name}"
        )
    order = range(len(items))
    if limit is not None:
        order = np.random.default_rng(seed).permutation(len(items))
    images, unreadable = [], []
    for index in order:
        try:
            images.append(read_fitted(items[int(index)], image_size, preprocessing))
        except pp.ImageError as error:
            unreadable.append(str(error))
        if limit is not None and len(images) == limit:
            break
    for line in unreadable:
        warnings.warn(f"skipped: {line}", stacklevel=4)
    if not images:
        raise ValueError(
            f"{name} holds no readable image ({', '.join(pp.IMAGE_SUFFIXES)}); "
            f"{len(unreadable)} files were unreadable"
        )
    return np.stack(images)


def _check_pixels(images):
    """Check that values are raw pixels; normalised images are a common mistake."""
    if images.dtype == np.uint8:
        return images
    low, high = float(np.min(images)), float(np.max(images))
    if not (math.isfinite(low) and math.isfinite(high)) or low < 0 or high > 255:
        hint = " They look normalised already." if -20 < low and high < 20 else ""
        raise ValueError(
            "Images must be pixels in 0..255; the preprocessing is inside the "
            f"artefact.{hint} Received: values from {low:g} to {high:g}"
        )
    if high <= 1.0 and np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            "Images must be pixels in 0..255; these are in 0..1. Multiply them by 255."
        )
    return images.astype("float32")

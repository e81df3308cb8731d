"""Conversion of other libraries' items to checked arrays of images and labels."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from .dataset import Dataset

# More is a mistake, such as ids as labels; each class needs memory for its name.
MOST_CLASSES = 2**20


def parts_of(item):
    """Return image and label of an item as arrays, as far as present."""
    if isinstance(item, Mapping):
        item = [item[key] for key in ("image", "label") if key in item]
    if not isinstance(item, (tuple, list)):
        return []
    parts = list(item)
    if parts and isinstance(parts[0], Image.Image):  # torchvision; palettes are colour
        grey = parts[0].mode in ("1", "L")
        parts[0] = parts[0].convert("L" if grey else "RGB")
    return [np.asarray(part) for part in parts]


def checked_pair(parts, item):
    """Return both parts of an item, or raise a ValueError that describes the item."""
    if len(parts) != 2:
        what = list(item) if isinstance(item, Mapping) else type(item).__name__
        raise ValueError(
            'the items of `data` must be (image, label) or {"image", "label"}. '
            f"Received: {what}"
        )
    return parts


def checked_images(images, rank):
    """Return pixels as (..., H, W, C); grey images may come without C."""
    if images.dtype != np.uint8:
        raise ValueError(
            "`images` must be uint8, raw pixels of 0..255, because normalisation is "
            f"the model's preprocessing. Received: dtype={images.dtype}"
        )
    shape = images.shape
    if images.ndim == rank - 1:
        images = images[..., None]
    if images.ndim != rank or not images.size or images.shape[-1] > 4:
        wanted = "(N, H, W, C) or (N, H, W)" if rank == 4 else "(H, W, C) or (H, W)"
        raise ValueError(
            f"`images` must be {wanted}, C at most 4. Received: shape={shape}"
        )
    return images


def stacked_labels(labels):
    """Stack labels of one shape to an array."""
    if len({label.shape for label in labels}) > 1:
        raise ValueError("`labels` must have the same shape each")
    return np.stack(labels)


def checked_dataset(images, labels, classes=None):
    """Return the `Dataset`, after checking the labels."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        number, one_hot = labels.shape[1], labels
        labels = one_hot.argmax(axis=1)
        ones = one_hot[np.arange(len(labels)), labels] == 1
        if not ones.all() or np.count_nonzero(one_hot) != len(labels):
            raise ValueError("`labels` must be integers or exactly one-hot")
    else:
        labels = labels[:, 0] if labels.ndim == 2 else labels  # CIFAR-10 in Keras
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                "`labels` must be integers (N,) or one-hot (N, classes). Received: "
                f"dtype={labels.dtype}, shape={labels.shape}"
            )
        if labels.min() < 0 or labels.max() >= MOST_CLASSES:
            raise ValueError(
                "`labels` must be numbers of classes, from 0 on. Received: "
                f"{labels.min()}..{labels.max()}"
            )
        number = int(labels.max()) + 1
    names = tuple(map(str, range(number) if classes is None else classes))
    if len(names) < max(number, 2) or len(set(names)) < len(names):
        raise ValueError(
            "`classes` must be two or more different names, one for each label. "
            f"Received: {len(names)} classes, labels up to {number - 1}"
        )
    return Dataset(images, labels.astype("int64"), names)

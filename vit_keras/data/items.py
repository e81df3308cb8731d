"""Conversion of other libraries' items to checked arrays of images and labels."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from .column_labels import target_names
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
    """Return the `Dataset`, after checking the labels.

    Its head is "softmax" for integers (N,) or (N, 1) and for exactly one 1 per row of
    (N, K), "multi_label" for other rows of 0 and 1, and "regression" for any other
    floats (N,) or (N, K).
    """
    if not labels.ndim or (classes is not None and np.ndim(classes) != 1):
        raise ValueError("`labels` and `classes` must be lists, not single values")
    if labels.ndim == 2 and labels.shape[1] > 1 and np.isin(labels, (0, 1)).all():
        if (np.count_nonzero(labels, axis=1) == 1).all():
            number, labels, head = labels.shape[1], labels.argmax(axis=1), "softmax"
        else:
            number, head = labels.shape[1], "multi_label"
    elif labels.dtype.kind == "f" and labels.ndim in (1, 2) and labels.size:
        if not (np.abs(labels) <= np.finfo("float32").max).all():
            raise ValueError("`labels` of a regression must be finite numbers")
        labels = labels.reshape(len(labels), -1)
        soft = labels.min() >= 0 and np.allclose(labels.sum(axis=1), 1, atol=1e-3)
        if soft and labels.shape[1] > 1:
            raise ValueError(
                "`labels` must be exactly one-hot, or targets of a regression; these "
                "sum to 1 in each row, like soft labels. If they are targets, give a "
                '`Dataset` with head="regression"'
            )
        number, head = labels.shape[1], "regression"
        classes = target_names(number) if classes is None else classes
    else:
        number, labels, head = *_checked_integers(labels), "softmax"
    names = tuple(map(str, range(number) if classes is None else classes))
    least = 1 if head == "regression" else 2
    fits = len(names) >= number if head == "softmax" else len(names) == number
    if not fits or len(names) < least or len(set(names)) < len(names):
        few = "two or more " if least == 2 else ""
        raise ValueError(
            f"`classes` must be {few}different names, one for each label. "
            f"Received: {len(names)} classes, labels up to {number - 1}"
        )
    labels = labels.astype("int64" if head == "softmax" else "float32")
    return Dataset(images, labels, names, head)


def _checked_integers(labels):
    """Return (number of classes, labels int (N,))."""
    labels = labels[:, 0] if labels.shape[1:] == (1,) else labels  # CIFAR-10 in Keras
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            "`labels` must be integers (N,), exactly one-hot or 0 and 1 (N, classes), "
            "or floats (N,) or (N, targets). Received: "
            f"dtype={labels.dtype}, shape={labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise ValueError(
            "`labels` must be numbers of classes, from 0 on. Received: "
            f"{labels.min()}..{labels.max()}"
        )
    return int(labels.max()) + 1, labels

"""Ordered batches of a data set, for evaluation, and the targets of its labels."""

import dataclasses

import keras
import numpy as np

from .. import preprocessing as pp
from ..heads import HEADS, ONE_CLASS, check_names, get_head
from .dataset import Dataset
from .reading import read_fitted


class Batches(keras.utils.PyDataset):
    """Ordered batches of (images, labels), for evaluation.

    Arguments:
        dataset: from `prepare`.
        image_size: (height, width) of the model.
        preprocessing: normalisation to apply.
        batch_size: images per batch; the last one may be smaller.

    Item i is `(images float32 (B, H, W, C), targets float32 (B, K))`, or with maps as
    labels `(images, maps (B, H, W))`.
    """

    def __init__(
        self,
        dataset: Dataset,
        image_size,
        preprocessing,
        batch_size=64,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dataset = dataset
        self.image_size = image_size
        self.preprocessing = preprocessing
        self.batch_size = batch_size

    def __len__(self):
        return -(-len(self.dataset) // self.batch_size)

    def __getitem__(self, index):
        return self.inputs(index), self.labels(index)

    def rows(self, index) -> np.ndarray:
        """Return the indices of a batch's images in the data set."""
        start = index * self.batch_size
        return np.arange(start, min(start + self.batch_size, len(self.dataset)))

    def inputs(self, index) -> np.ndarray:
        """Return the images of a batch, normalised."""
        images = self.dataset.take(self.rows(index)).images
        ready = (*self.image_size, len(self.preprocessing.mean))
        if not isinstance(images, np.ndarray) or images.shape[1:] != ready:
            found = [images[i] for i in range(len(images))]
            images = np.stack(
                [read_fitted(f, self.image_size, self.preprocessing) for f in found]
            )
        return pp.normalize(images, self.preprocessing)

    def labels(self, index) -> np.ndarray:
        """Return the targets, or maps, of a batch."""
        rows = self.rows(index)
        if HEADS[self.dataset.head].dense:
            return map_batch(self.dataset, rows, self.image_size, self.preprocessing)
        return targets(self.dataset, rows)


def map_batch(dataset: Dataset, rows, image_size, preprocessing, each=map):
    """Return the maps of some images at the model's size, (B, H, W).

    `each`, such as `map`, reads the files.
    """

    def read(row):
        return pp.fit_mask(dataset.labels[row], image_size, preprocessing)

    return np.stack(list(each(read, rows)))


def one_hot(labels, classes: int) -> np.ndarray:
    """Encode class indices (N,) as float32 (N, classes)."""
    rows = np.zeros((len(labels), classes), "float32")
    rows[np.arange(len(labels)), labels] = 1.0
    return rows


def targets(dataset: Dataset, indices: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return what a model's outputs are compared with, by the data set's head.

    Arguments:
        indices: of the images, as NumPy takes them; default all.

    Returns:
        float32 (N, K): one-hot for "softmax", 0 or 1 in a single column for "sigmoid",
        the labels themselves for "multi_label" and "regression".
    """
    labels = dataset.labels[indices]
    if dataset.head == "softmax":
        return one_hot(labels, len(dataset.classes))
    return labels.reshape(len(labels), -1).astype("float32")


# What other labels can be read as: (of the data, of the model).
READ_AS = {
    ("softmax", "sigmoid"): lambda data: data.labels,
    ("softmax", "multi_label"): lambda data: one_hot(data.labels, len(data.classes)),
}


def with_head(dataset: Dataset, head: str | None) -> Dataset:
    """Return a data set for a head, after checking its labels.

    Arguments:
        head: a name in `HEADS`, or None for that of the data. Labels of classes are
            also such of the heads "sigmoid", of two classes, and "multi_label".

    Raises:
        ValueError: the labels do not fit the head.
    """
    own, head = dataset.head, dataset.head if head is None else head
    for name in (own, head):
        get_head(name)
    if head != own:
        if (own, head) not in READ_AS:
            raise ValueError(
                f"`head` must be that of the data, {own!r}. Received: head={head!r}"
            )
        labels = READ_AS[own, head](dataset)
        dataset = dataclasses.replace(dataset, labels=labels, head=head)
    check_names(head, dataset.classes)
    if get_head(head).task != "classify":
        return _with_maps(dataset)
    labels, number = np.asarray(dataset.labels), len(dataset.classes)
    if head in ONE_CLASS:
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            wanted = "integers (N,)"
        elif labels.min() < 0 or labels.max() >= number:
            wanted = f"from 0 to {number - 1}"
        else:
            return dataset
    elif labels.ndim != 2 or labels.shape[1] != number:
        wanted = f"(N, {number})"
    elif head == "multi_label" and not np.isin(labels, (0, 1)).all():
        wanted = "0 or 1"
    elif not np.isfinite(labels).all():
        wanted = "finite"
    else:
        return dataset
    raise ValueError(
        f"`labels` must be {wanted} for head={head!r}. Received: {labels.dtype} "
        f"{labels.shape}, {np.min(labels)} to {np.max(labels)}"
    )


def _with_maps(dataset):
    """Check labels at each pixel, as far as they are in memory."""
    labels, number = dataset.labels, len(dataset.classes)
    if not isinstance(labels, np.ndarray):
        return dataset
    wanted = None
    if labels.ndim != 3 or len(labels) != len(dataset.images):
        wanted = "(N, H, W)"
    elif dataset.head == "depth":
        wanted = None if labels.dtype.kind == "f" else "floats"
    elif labels.dtype != "uint8":
        wanted = "uint8"
    elif (labels[labels != pp.IGNORED] >= number).any():
        wanted = f"from 0 to {number - 1}, or {pp.IGNORED}"
    if wanted is None:
        return dataset
    raise ValueError(
        f"`labels` must be {wanted} for head={dataset.head!r}. Received: "
        f"{labels.dtype} {labels.shape}"
    )

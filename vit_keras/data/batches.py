"""Ordered batches of a data set, for evaluation."""

import keras
import numpy as np

from .. import preprocessing as pp
from .dataset import Dataset
from .reading import read_fitted


class Batches(keras.utils.PyDataset):
    """Ordered batches of (images, labels), for evaluation.

    Arguments:
        dataset: from `prepare`.
        image_size: (height, width) of the model.
        preprocessing: normalisation to apply.
        batch_size: images per batch; the last one may be smaller.

    Item i is `(images float32 (B, H, W, C), labels float32 (B, K), see `targets`)`.
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
        start = index * self.batch_size
        stop = min(start + self.batch_size, len(self.dataset))
        batch = self.dataset.take(np.arange(start, stop))
        images = batch.images
        ready = (*self.image_size, len(self.preprocessing.mean))
        if not isinstance(images, np.ndarray) or images.shape[1:] != ready:
            found = [images[i] for i in range(len(images))]
            images = np.stack(
                [read_fitted(f, self.image_size, self.preprocessing) for f in found]
            )
        return pp.normalize(images, self.preprocessing), targets(batch)


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

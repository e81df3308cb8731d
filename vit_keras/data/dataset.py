"""Labelled images before decoding, and the embedded digits."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..heads import ONE_CLASS
from ..preprocessing import IGNORED


@dataclasses.dataclass(frozen=True)
class LazyImages:
    """Images, or their masks, of a random-access source, read on access.

    Attributes:
        read: function from an index in the source to a uint8 array (H, W, C), or to a
            mask or depths (H, W); raises `ImageError`; called by several threads at a
            time.
        positions: int array, indices of these images in the source.
    """

    read: Callable[[int], np.ndarray]
    positions: np.ndarray

    def __len__(self):
        return len(self.positions)

    def __getitem__(self, index) -> np.ndarray:
        return self.read(int(self.positions[index]))

    def take(self, indices) -> "LazyImages":
        """Return the images at these indices, still unread."""
        return dataclasses.replace(self, positions=self.positions[indices])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images with labels, before decoding.

    Attributes:
        images: uint8 array (N, H, W, C), or a list of N file paths or of N uint8 arrays
            (H, W, C), or `LazyImages`.
        labels: by `head`; int (N,), indices into `classes`, or float32 (N, K); with
            labels at each pixel an array (N, H, W), or a list or `LazyImages` of
            (H, W), each of its image's size.
        classes: names of the classes or targets.
        head: what the labels are for, a name in `HEADS`:
            "softmax": one of the classes, labels int (N,);
            "sigmoid": one of two classes for a single logit, labels int (N,); chosen by
            the user, never by the data;
            "multi_label": any of K classes, labels float32 (N, K) of 0 and 1;
            "regression": K numbers, labels float32 (N, K);
            "segmentation": a class at each pixel, uint8, of which 255 is ignored;
            "depth": a distance at each pixel, float32, NaN where unknown.
    """

    images: np.ndarray | list[pathlib.Path] | list[np.ndarray] | LazyImages
    labels: Any  # an array but for labels at each pixel
    classes: tuple[str, ...]
    head: str = "softmax"

    def __len__(self):
        return len(self.labels)

    def take(self, indices) -> "Dataset":
        """Return the images at these indices."""
        images, labels = (_taken(part, indices) for part in (self.images, self.labels))
        return dataclasses.replace(self, images=images, labels=labels)

    @functools.cached_property
    def pixel_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of each class of a segmentation, from all masks, which are read once.

        Two int64 arrays (K,): the class' pixels, and all that count in the images where
        it is.
        """
        from .reading import in_threads  # which imports this module

        classes = len(self.classes)

        def count(at):
            return np.bincount(self.labels[at].ravel(), minlength=256)[:classes]

        pixels = np.zeros((2, classes), "int64")
        for counts in in_threads(count, len(self)):
            pixels[0] += counts
            pixels[1] += np.where(counts, counts.sum(), 0)
        return pixels[0], pixels[1]


def _taken(items, indices):
    if isinstance(items, np.ndarray):
        return items[indices]
    if isinstance(items, LazyImages):
        return items.take(indices)
    return [items[i] for i in indices]


def digits() -> tuple[Dataset, Dataset]:
    """Load scikit-learn's handwritten digits: 1,797 real images of 8 x 8.

    From "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI
    Machine Learning Repository, CC BY 4.0). Grey values 0..16 become 0..255 in RGB.

    Returns:
        (1,438 images for training, 359 held out), always the same split.
    """
    with np.load(pathlib.Path(__file__).with_name("digits.npz")) as stored:
        grey = stored["images"].astype("float32") * (255 / 16)
        labels = stored["labels"].astype("int64")
    images = np.repeat(grey.round().astype("uint8")[..., None], 3, axis=-1)
    dataset = Dataset(images, labels, tuple(str(d) for d in range(10)))
    return split(dataset, 0.2, seed=0)


def split(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Split off a fraction of each class, or of all if images have no class each.

    Arguments:
        fraction: in (0, 1); at least one image of every class that has two or more is
            split off.
        seed: of the random choice.

    Returns:
        (remaining images, split-off images).

    Raises:
        ValueError: `fraction` out of range.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"`fraction` must be in (0, 1). Received: fraction={fraction}")
    generator, aside = np.random.default_rng(seed), []
    groups = [np.arange(len(dataset))]
    if dataset.head in ONE_CLASS:
        groups = [
            np.flatnonzero(dataset.labels == k) for k in range(len(dataset.classes))
        ]
    for members in groups:
        number = min(max(round(len(members) * fraction), 1), len(members) - 1)
        if number > 0:
            aside.append(generator.permutation(members)[:number])
    chosen = np.sort(np.concatenate(aside)) if aside else np.array([], int)
    rest = np.setdiff1d(np.arange(len(dataset)), chosen)
    return dataset.take(rest), dataset.take(chosen)


def match_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Renumber the classes of a data set like a model's; it may lack some.

    Columns of labels (N, K) are reordered; a class that the data lacks is 0. Masks are
    renumbered when they are read.

    Arguments:
        names: of the model's classes, in the order of its outputs. Data of labels or
            values, (N, K), must have all of them.

    Raises:
        ValueError: the data has a class that is not among `names`, or lacks a target
            of a regression.
    """
    unknown = sorted(set(dataset.classes) - set(names))
    if unknown:
        raise ValueError(
            f"`data` must hold classes of the model ({', '.join(names[:5])} ...); "
            f"unknown: {', '.join(unknown)}"
        )
    lacking = [name for name in names if name not in dataset.classes]
    if lacking and dataset.head == "regression":
        raise ValueError(
            f"`data` must hold all targets of the model; lacking: {', '.join(lacking)}"
        )
    numbers = np.array([list(names).index(name) for name in dataset.classes])
    if dataset.head == "segmentation":
        table = np.full(256, IGNORED, "uint8")
        table[: len(numbers)] = numbers
        labels = _translated(dataset.labels, table)
    elif dataset.head == "depth":
        labels = dataset.labels
    elif dataset.head in ONE_CLASS:
        labels = numbers[dataset.labels]
    else:
        labels = np.zeros((len(dataset), len(names)), dataset.labels.dtype)
        labels[:, numbers] = dataset.labels
    return dataclasses.replace(dataset, labels=labels, classes=tuple(names))


def _translated(masks, table):
    """Translate class indices by a table, now or when they are read."""
    if isinstance(masks, np.ndarray):
        return table[masks]
    if isinstance(masks, LazyImages):
        return dataclasses.replace(masks, read=lambda at: table[masks.read(at)])
    return [table[mask] for mask in masks]

"""Classes of unequal size: their counts, and weights in the loss."""

import numpy as np

from ..data import Dataset
from ..heads import ONE_CLASS
from .recipe import Recipe

# Ratio of the largest to the smallest class above which counts are shown.
UNEQUAL = 1.5
# With more classes only so many of the largest and of the smallest are shown.
SHOWN = 10


def class_weights(dataset: Dataset, recipe: Recipe) -> np.ndarray | None:
    """Return the weight of each class in the loss, or None for equal weights.

    "balanced" is N / (K n_c) for N images, K classes and n_c images of class c, so that
    the mean weight of an image is 1 (G. King, L. Zeng, "Logistic Regression in Rare
    Events Data", 2001). Of pixels it is median frequency balancing (arXiv 1411.4734,
    section 6.3.2): the median of the classes' frequencies by that of class c, which is
    its share of the pixels of the images that have it.

    Returns:
        float32 array (K,); a class without images has 0.

    Raises:
        ValueError: the images, or pixels, do not have one class each.
    """
    if recipe.class_weights is None:
        return None
    check_class_weights(recipe, dataset.head)
    if dataset.head == "segmentation":
        pixels, within = dataset.pixel_counts
        shares = pixels / np.maximum(within, 1)
        there = pixels > 0
        median = np.median(shares[there]) if there.any() else 0.0
        weights = np.where(there, median / np.where(there, shares, 1), 0)
        return weights.astype("float32")
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    weights = len(dataset) / (len(counts) * np.maximum(counts, 1))
    return np.where(counts, weights, 0).astype("float32")


def check_class_weights(recipe: Recipe, head: str) -> None:
    """Check that a recipe's weights of classes can be those of a head.

    Raises:
        ValueError: the images, or pixels, do not have one class each.
    """
    valid = (*ONE_CLASS, "segmentation")
    if recipe.class_weights is not None and head not in valid:
        raise ValueError(
            f"`class_weights` must be None unless the head is {' or '.join(valid)}, "
            f"with one class per image or pixel. Received: head={head!r}"
        )


def sample_weights(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weight of each image, the mean weight of its classes.

    Arguments:
        labels: float32 (N, K), one-hot or mixed; or (N, 1), the share of the second of
            two classes.
        weights: from `class_weights`.

    Returns:
        float32 (N,).
    """
    if labels.shape[1] == 1:
        labels = np.concatenate([1 - labels, labels], axis=1)
    # Not `@`, which rounds a row by the number of rows: parts of a batch would differ.
    return (labels * weights).sum(axis=1)


def imbalance(dataset: Dataset) -> str | None:
    """Return a line of classes and counts, or shares of the pixels, if they differ by
    more than `UNEQUAL`."""
    if dataset.head == "segmentation":
        counts = dataset.pixel_counts[0]
        shown = [f"{part:.2%}" for part in counts / max(counts.sum(), 1)]
    elif dataset.head in ONE_CLASS:
        counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
        shown = [str(number) for number in counts]
    else:
        return None
    order = np.argsort(-counts, kind="stable")
    most, least = counts[order[0]], counts[order[-1]]
    if most <= UNEQUAL * least:
        return None
    names = [f"{dataset.classes[i]} {shown[i]}" for i in order]
    if len(names) > SHOWN:
        names[SHOWN // 2 : -SHOWN // 2] = ["..."]
    ratio = f"the largest is {most / least:.1f} times the smallest" if least else ""
    things = "pixels" if dataset.head == "segmentation" else "classes"
    return f"unequal {things}: {', '.join(names)}; {ratio or 'the smallest has none'}"

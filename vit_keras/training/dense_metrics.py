"""Metrics of outputs at each pixel, summed image by image.

Shape letters: H x W pixels, C classes.
"""

import numpy as np

from ..heads import log_probabilities
from ..preprocessing import IGNORED
from .dense_losses import LEAST, SHARED_SCALE

# Errors of a distance within this factor count as right (arXiv 1406.2283, section 4).
RATIO = 1.25
CHUNK = 2**18  # pixels whose logarithms are in memory at a time


class SegmentationScore:
    """The confusion matrix of classes at pixels, and what follows from it.

    Arguments:
        classes: their number, C.
        activation: what the model's last layer has applied.

    Attributes:
        matrix: int64 (C, C), pixels by true and by predicted class.
    """

    def __init__(self, classes: int, activation: str = "linear"):
        self.matrix = np.zeros((classes, classes), "int64")
        self.activation, self.losses = activation, 0.0

    def add(self, outputs: np.ndarray, truth: np.ndarray) -> float:
        """Add maps; return the mean IoU of these alone, NaN if no pixel counts.

        Arguments:
            outputs: (..., H, W, C), NaN where the model did not see the photograph.
            truth: (..., H, W), classes; 255 does not count.
        """
        counts = (truth != IGNORED) & ~np.isnan(outputs[..., 0])
        outputs, labels = outputs[counts], truth[counts].astype("int64")
        size = len(self.matrix)
        chosen = outputs.argmax(-1)
        found = np.bincount(labels * size + chosen, minlength=size**2)
        found = found.reshape(size, size)
        self.matrix += found
        for start in range(0, len(labels), CHUNK):
            part = labels[start : start + CHUNK, None]
            logs = log_probabilities(outputs[start : start + CHUNK], self.activation)
            self.losses -= float(np.take_along_axis(logs, part, -1).sum())
        return mean_of(iou_of(found))

    def iou(self) -> np.ndarray:
        """Return the intersection over union of each class, float64 (C,).

        NaN for a class that is neither there nor predicted.
        """
        return iou_of(self.matrix)

    def metrics(self) -> dict[str, float]:
        """Return "mean_iou" over the classes, "accuracy" of pixels, and "loss"."""
        pixels = self.matrix.sum()
        right = self.matrix.trace()
        return {
            "mean_iou": mean_of(self.iou()),
            "accuracy": float(right / pixels) if pixels else float("nan"),
            "loss": self.losses / int(pixels) if pixels else float("nan"),
        }


def iou_of(matrix: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each class of a confusion matrix."""
    right = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - right
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def mean_of(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


class DepthScore:
    """Sums of the errors of distances, over all pixels that are known.

    Arguments:
        depth_type: what the outputs are, see `ViTConfig`. Inverse ones become distances
            by `as_distances` first.
    """

    def __init__(self, depth_type: str = "metric"):
        self.inverse = depth_type == "inverse"
        self.sums, self.pixels = np.zeros(3), 0
        self.losses, self.images = 0.0, 0

    def add(self, outputs: np.ndarray, truth: np.ndarray) -> float:
        """Add maps; return minus the absolute relative error of these alone.

        Arguments:
            outputs: (..., H, W, 1), NaN where the model did not see the photograph.
            truth: (..., H, W); distances above 0 count, others and NaN do not.
        """
        before, pixels = self.sums[0], self.pixels
        size = truth.shape[-2:]
        for found, true in zip(
            np.reshape(outputs, (-1, *size)), truth.reshape(-1, *size), strict=True
        ):
            known = (true > 0) & ~np.isnan(found)
            if known.any():
                near, far = (
                    found[known].astype("float64"),
                    true[known].astype("float64"),
                )
                self._add(as_distances(near, far) if self.inverse else near, far)
        pixels = self.pixels - pixels
        return (before - self.sums[0]) / pixels if pixels else float("nan")

    def _add(self, found, true):
        near = np.maximum(found, LEAST)
        ratio = np.maximum(near / true, true / near)
        error = np.abs(found - true)
        rows = (error / true, ratio < RATIO, error**2)
        self.sums += [row.sum() for row in rows]
        self.pixels += len(true)
        logs = np.log(near) - np.log(true)
        self.losses += float((logs**2).mean() - SHARED_SCALE * logs.mean() ** 2)
        self.images += 1

    def metrics(self) -> dict[str, float]:
        """Return means over the pixels: "absolute_relative_error", "delta_1" (the share
        within a factor of 1.25), "root_mean_squared_error"; and "loss"."""
        relative, near, squared = self.sums / max(self.pixels, 1)
        if not self.pixels:
            relative = near = squared = float("nan")
        return {
            "absolute_relative_error": float(relative),
            "delta_1": float(near),
            "root_mean_squared_error": float(np.sqrt(squared)),
            "loss": self.losses / self.images if self.images else float("nan"),
        }


def as_distances(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the distances that inverse depths of an image are at best.

    Their scale and shift are those of the least squares to the inverse of the true
    distances (MiDaS, arXiv 1907.01341, section 5). What is then farther than any true
    distance of the image counts as the farthest: the paper takes that of the data set.

    Arguments:
        found: float64 (P,), inverse depths up to a scale and a shift.
        true: float64 (P,), distances above 0.
    """
    rows = np.stack([found, np.ones_like(found)], axis=-1)
    (scale, shift), *_ = np.linalg.lstsq(rows, 1 / true, rcond=None)
    return 1 / np.maximum(scale * found + shift, 1 / true.max())


def new_score(
    head: str, outputs: int, activation: str = "linear", depth_type: str = "metric"
):
    """Return an empty score of a head with a number of outputs."""
    if head == "segmentation":
        return SegmentationScore(outputs, activation)
    return DepthScore(depth_type)

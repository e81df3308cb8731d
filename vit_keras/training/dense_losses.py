"""Losses of outputs at each pixel, where some pixels do not count.

Shape letters: N images, H x W pixels, C classes. Plain functions of `keras.ops`, equal
on all backends: Keras' own `ignore_class` knows no weights of classes.
"""

import keras
import numpy as np
from keras import ops

from ..preprocessing import IGNORED

# Weight of the squared mean, lambda (arXiv 1406.2283, section 3.2).
SHARED_SCALE = 0.5
LEAST = 1e-3  # of a distance, whose logarithm is taken


class SegmentationLoss(keras.losses.Loss):
    """Cross-entropy, Dice loss, or their sum, over the pixels that count.

    Dice (arXiv 1606.04797, with the shares themselves in the denominator, as is usual)
    is the mean over the classes that a batch has.

    Arguments:
        kind: "softmax", "dice" or "softmax_dice".
        weights: of the C classes in the cross-entropy, which is divided by the sum of
            the pixels' weights; None for equal ones.

    Call arguments:
        y_true: (N, H, W), indices of classes; 255 does not count.
        y_pred: (N, H, W, C), logits.
    """

    def __init__(self, kind="softmax", weights=None, name="segmentation_loss"):
        super().__init__(name=name)
        self.kind, self.weights = kind, weights

    def call(self, y_true, y_pred):
        labels = ops.cast(y_true, "int32")
        counts = ops.not_equal(labels, IGNORED)
        labels = ops.where(counts, labels, 0)
        counts = ops.cast(counts, y_pred.dtype)
        loss = 0.0
        if self.kind != "dice":
            loss = loss + self._cross_entropy(labels, counts, y_pred)
        if self.kind != "softmax":
            loss = loss + _dice(labels, counts, y_pred)
        return loss

    def _cross_entropy(self, labels, counts, logits):
        losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        if self.weights is not None:
            table = ops.convert_to_tensor(self.weights, logits.dtype)
            counts = counts * ops.take(table, labels)
        # A batch without any pixel that counts has the loss 0.
        return ops.sum(losses * counts) / ops.maximum(ops.sum(counts), 1e-6)

    def get_config(self):
        weights = None if self.weights is None else np.asarray(self.weights).tolist()
        return {"kind": self.kind, "weights": weights, "name": self.name}


def _dice(labels, counts, logits):
    counts = counts[..., None]
    shares = ops.softmax(logits) * counts
    truth = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype) * counts
    axes = (0, 1, 2)
    both, sums = ops.sum(shares * truth, axes), ops.sum(shares + truth, axes)
    there = ops.cast(ops.sum(truth, axes) > 0, logits.dtype)
    found = 1 - 2 * both / ops.maximum(sums, 1e-6)
    return ops.sum(found * there) / ops.maximum(ops.sum(there), 1.0)


class DepthLoss(keras.losses.Loss):
    """Scale-invariant error of logarithms: mean(d^2) - mean(d)^2 / 2 of an image.

    d is the logarithm of output / truth (arXiv 1406.2283, equation 4).

    Call arguments:
        y_true: (N, H, W), distances above 0; others, and NaN, do not count.
        y_pred: (N, H, W, 1), distances.
    """

    def __init__(self, name="scale_invariant_logarithmic_error"):
        super().__init__(name=name)

    def call(self, y_true, y_pred):
        known = y_true > 0  # not of NaN
        truth = ops.where(known, y_true, 1.0)
        counts = ops.cast(known, y_pred.dtype)
        found = ops.maximum(y_pred[..., 0], LEAST)
        error = counts * (ops.log(found) - ops.log(truth))
        number = ops.maximum(ops.sum(counts, (1, 2)), 1.0)
        mean = ops.sum(error, (1, 2)) / number
        return ops.sum(error**2, (1, 2)) / number - SHARED_SCALE * mean**2

    def get_config(self):
        return {"name": self.name}

"""The inference graph with a range for every activation with a scale."""

from typing import Any

import numpy as np
import tensorflow as tf

from ...graph.inference_layer import InferenceViT
from ...graph.vit_weights import Weights
from . import litert_rounding
from .graph_structure import Structure, traced
from .tfmot_quantizers import range_quantizer

DECAY = 0.95  # of the moving ranges, which average about 20 batches
LEAST = 1e-6
PIXELS = (0.0, 255.0)  # scale 1: uint8 unchanged
BATCH = 16  # images at a time, since every tensor of a batch is kept


class RangedViT(InferenceViT):
    """The inference graph with activations quantised as in the integer file.

    In training, activations pass through fake quantisation (arXiv 1712.05877);
    otherwise they are rounded as in LiteRT's kernels.

    Arguments:
        weights, options, **kwargs: of `InferenceViT`.
        linear_only: quantise only inputs and outputs of linear layers.
        scale, offset: (C,), the normalisation from pixels to the model's inputs, or
            None if the model has no preprocessing.

    The ranges are `low` and `high`, (number of activations,).
    """

    source_weights: Weights  # always kept
    _variables: Any  # `Weights` of variables
    structure: Structure
    low: Any
    high: Any

    def __init__(self, weights, options, linear_only, scale, offset, **kwargs):
        super().__init__(weights, options, **kwargs)
        self.linear_only = linear_only
        self.scale: Any = scale
        self.offset: Any = offset
        self.exact = False  # True: no quantisation at all
        self.precise = False  # True: round as LiteRT, in float64
        self.record = None  # a list: every activation is appended to it
        self.weight_refs = None  # {tensor reference: path of the weight}, or None
        self._running, self._index, self._training = [], 0, False
        self._grids = {}  # of constant activations

    def add_ranges(self):
        """Number the activations and create their ranges, once the weights exist."""
        config = self.source_weights.config
        shape = (1, *config.image_size, config.channels)
        self.exact, self.record, self.weight_refs = True, [], {}
        self.structure = traced(
            lambda x: InferenceViT.call(self, x), shape, self.record, self.weight_refs
        )
        self.exact, self.record, self.weight_refs = False, None, None
        if self.scale is not None:
            self.structure.fixed[0] = PIXELS
        number = len(self.structure.fixed)
        self.low, self.high = self.vector("low", number), self.vector("high", number)

    def vector(self, name, size):
        """Create a variable that is not trained."""
        return self.add_weight(
            name=name, shape=(size,), initializer="zeros", trainable=False
        )

    def call(self, images, training=None):
        if self.scale is not None:
            images = (images - np.float32(self.offset)) / np.float32(self.scale)
        self._index, self._training, self._running = 0, bool(training), []
        self._grids = {}
        self.precise = not (training or self.exact)
        outputs = super().call(tf.cast(images, "float64") if self.precise else images)
        self.precise = False
        if training and not self.exact:
            low, high = (
                tf.stack(values) for values in zip(*self._running, strict=True)
            )
            for variable, value in ((self.low, low), (self.high, high)):
                variable.assign(DECAY * variable + (1 - DECAY) * value)
        return tf.cast(outputs, "float32")

    def compute_output_spec(self, *args, **kwargs):
        # Keras traces the call for the output's shape, which no rounding changes: most
        # of the operators are left out.
        exact, self.exact = self.exact, True
        try:
            return super().compute_output_spec(*args, **kwargs)
        finally:
            self.exact = exact

    def activation(self, x, fixed=None):
        return x if self.linear_only else self._quantized(x, fixed)

    def rsqrt(self, x):
        # On a grid x may be zero: int8 kernels then give their greatest value, as
        # `activation` does here, and infinity would have no gradient.
        return super().rsqrt(tf.maximum(x, tf.constant(LEAST, x.dtype)))

    def operand(self, x):
        return self._quantized(x) if self.linear_only else x

    def result(self, x):
        return self._quantized(x)

    def _quantized(self, x, fixed=None):
        if self.record is not None:
            self.record.append((x, fixed))
        if self.exact:
            return x
        index, self._index = self._index, self._index + 1
        if self.precise:
            return self._rounded(x, index)
        if self._training:
            still = tf.stop_gradient(x)
            self._running.append((tf.reduce_min(still), tf.reduce_max(still)))
        return range_quantizer()(x, *self.limits(index))

    def _rounded(self, x, index):
        if index in self.structure.constants:  # the file's range is that of the values
            scale = tf.cast(tf.reduce_max(tf.abs(x)) / 127, "float32")
            self._grids[index] = tf.cast(scale, "float64"), tf.zeros((), "float64")
        scale, zero = self.grid(index)
        if index in self.structure.factors:
            factors = [self.grid(i) for i in self.structure.factors[index]]
            x = litert_rounding.rounded_twice(x, scale, *factors)
        return litert_rounding.rounded(x, scale, zero)

    def limits(self, index):
        """Return the (min, max) with which an activation is stored."""
        if index in self.structure.shifts:
            addend, constant = self.structure.shifts[index]
            return with_zero(*(limit + constant for limit in self.limits(addend)))
        if (fixed := self.structure.fixed[index]) is not None:
            return [tf.constant(limit, "float32") for limit in fixed]
        group = sorted(self.structure.groups[index])
        low, high = (tf.gather(v, group) for v in (self.low, self.high))
        return with_zero(tf.reduce_min(low), tf.reduce_max(high))

    def grid(self, index):
        """Return scale and zero point of an activation in the file."""
        return self._grids.get(index) or litert_rounding.grid(*self.limits(index))

    def activations(self, pixels):
        """Compute every activation that has a range, without quantisation.

        Arguments:
            pixels: (N, H, W, C), inputs of the file.

        Returns:
            [(tensor, fixed range or None)] in the order of `low` and `high`.
        """
        self.exact, self.record = True, []
        InferenceViT.call(self, tf.cast(pixels, "float32"))
        record, self.exact, self.record = self.record, False, None
        return record

    def calibrate(self, pixels):
        """Set the ranges to the minimum and maximum on images.

        Arguments:
            pixels: (N, H, W, C), inputs of the file.
        """
        low = high = None
        for start in range(0, len(pixels), BATCH):
            record = self.activations(pixels[start : start + BATCH])
            limits = [(tf.reduce_min(x), tf.reduce_max(x)) for x, _ in record]
            least, most = np.array(limits, "float32").T
            low = least if low is None else np.minimum(low, least)
            high = most if high is None else np.maximum(high, most)
        self.low.assign(low)
        self.high.assign(high)


def with_zero(low, high):
    """Extend a range to include zero, as integer kernels require."""
    return tf.minimum(low, 0.0), tf.maximum(high, 0.0)

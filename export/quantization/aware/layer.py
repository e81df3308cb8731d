"""The inference graph as a Keras layer that trains as integers will compute.

Every tensor that has a scale of its own in the integer file goes through a fake
quantisation (arXiv 1712.05877) with a moving range, every kernel through one per output
channel: TensorFlow Model Optimization's quantizers, given ranges as plain tensors.
"""

import dataclasses
import json
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from ...forms import Form
from ...graph.emit import InferenceViT
from ...graph.outline import filled, map_arrays, outline
from ...graph.weights import Weights
from .places import frozen, is_writer
from .quantizers import kernel_quantizer, range_quantizer

LEAST = 1e-6
DECAY = 0.95  # of the moving ranges: 20 batches
# Constants that are added or multiplied: 8 bits from their least to greatest value.
OPERANDS = ("positions", "gamma", "beta", "scale", "scale1", "scale2", "offset")
PIXELS = (0.0, 255.0)  # uint8 as it is
CLIPS = np.linspace(0.3, 1.0, 29)  # shares of the largest weight that are tried


@keras.saving.register_keras_serializable(package="vit_keras_export")
class QuantizedViT(InferenceViT):
    """What the integer file computes, trainable.

    Arguments:
        weights: a `Weights` after its rewrites, or its `outline` as JSON.
        form: as the file will be written; a `Form` or its fields.
        bits: {place of a kernel, such as "blocks.0.dense1.kernel": bits}.
        products_only: quantise only what goes into and comes out of linear layers.
        scale, offset: (C,), which made the model's inputs of pixels, or None if it
            takes none.
        keep_zeros: weights that are zero stay zero.
        values: {place of a kernel: how many different values it has and keeps}. Such a
            kernel has one scale for all channels, so that they stay as few in int8.

    Call arguments:
        images: float32 (N, H, W, C), what the float model takes.
        training: whether to move the ranges.

    `low` and `high` (number of activations,) are the ranges.
    """

    def __init__(
        self,
        weights,
        form,
        bits,
        products_only=False,
        scale=None,
        offset=None,
        keep_zeros=False,
        values=None,
        **kwargs,
    ):
        if not isinstance(weights, Weights):
            weights = filled(json.loads(weights))
        form = form if isinstance(form, Form) else Form(**form)
        values = dict(values or {})
        kwargs = {"trainable": True, "frozen": frozen(weights, values), **kwargs}
        super().__init__(weights, form, **kwargs)
        self.bits, self.products_only, self.keep_zeros = bits, products_only, keep_zeros
        self.scale: Any = scale
        self.offset: Any = offset
        self.folds_input = scale is not None and weights.scale is None
        self.direction = self._vector("direction", weights.config.hidden_size)
        self.clips, self.values, self.shared = {}, values, {}
        map_arrays(self._held, self._prepare)
        self.exact = False  # no ranges
        self._snap = False  # kernels on their grids nevertheless
        self.record = None  # a list, to which every activation is added
        self._running = []
        number = self._count()
        self.low = self._vector("low", number)
        self.high = self._vector("high", number)
        self._index, self._training = 0, False

    def _vector(self, name, size):
        return self.add_weight(
            name=name, shape=(size,), initializer="zeros", trainable=False
        )

    def _prepare(self, place, variable):
        if place in self.values:
            self.shared[place] = (
                self.add_weight(shape=(self.values[place],), name="values"),
                self.add_weight(
                    shape=variable.shape,
                    initializer="zeros",
                    dtype="int32",
                    trainable=False,
                    name="indices",
                ),
            )
        if self.bits.get(place, 8) < 8:
            clip = self._vector("clip", variable.shape[-1])
            clip.assign(np.ones(clip.shape))
            self.clips[place] = clip

    def _count(self):
        """How many activations have a range."""
        config = self.weights_held.config
        shape = (1, *config.image_size, config.channels)
        self.exact, self.record = True, []
        tf.function(lambda x: InferenceViT.call(self, x)).get_concrete_function(
            tf.TensorSpec(shape)
        )
        number, self.exact, self.record = len(self.record), False, None
        return number

    def call(self, images, training=None):
        if self.scale is not None:
            images = (images - np.float32(self.offset)) / np.float32(self.scale)
        self._index, self._training, self._running = 0, bool(training), []
        outputs = super().call(images)
        if training and not self.exact:
            low, high = (tf.stack(ends) for ends in zip(*self._running, strict=True))
            for variable, value in ((self.low, low), (self.high, high)):
                variable.assign(DECAY * variable + (1 - DECAY) * value)
        return outputs

    def activation(self, x, fixed=None):
        return x if self.products_only else self._quantized(x, fixed)

    def rsqrt(self, x):
        # On a grid x may be zero. Int8 kernels give their greatest value then, as this
        # does after `activation`, and infinity would have no gradient.
        return super().rsqrt(tf.maximum(x, LEAST))

    def operand(self, x):
        return self._quantized(x) if self.products_only else x

    def result(self, x):
        return self._quantized(x)

    def _quantized(self, x, fixed=None):
        if self.record is not None:
            self.record.append((x, fixed))
        if self.exact:
            return x
        index, self._index = self._index, self._index + 1
        if index == 0 and self.scale is not None:
            fixed = PIXELS
        if self._training:
            still = tf.stop_gradient(x)
            self._running.append((tf.reduce_min(still), tf.reduce_max(still)))
        ends = fixed or with_zero(self.low[index], self.high[index])
        return range_quantizer()(x, *(tf.convert_to_tensor(end) for end in ends))

    def held(self) -> Weights:
        return cast(Weights, map_arrays(self._held, self._snapped))

    def _snapped(self, place, variable):
        value = self._plain(place, variable)
        if self.exact and not self._snap:
            return value
        if place not in self.bits:
            whole = self.products_only or not place.endswith(OPERANDS)
            return value if whole else range_quantizer()(value, *_ends(value))
        peak = tf.reduce_max(tf.abs(tf.stop_gradient(value)), 0)
        if place in self.shared:
            peak = tf.fill(peak.shape, tf.reduce_max(peak))
        if place in self.clips:
            peak = peak * self.clips[place]
        return kernel_quantizer(self.bits[place])(value, -peak, peak)

    def _plain(self, place, variable):
        """A weight without quantisation, but as the graph needs it."""
        value = tf.convert_to_tensor(variable)
        if place in self.shared:
            value = tf.gather(*(tf.convert_to_tensor(v) for v in self.shared[place]))
        if self.keep_zeros and place.endswith("kernel"):
            return value * tf.cast(tf.stop_gradient(value) != 0, value.dtype)
        if self.folds_input and place.startswith("embedding."):
            value = self._folded(place)
        if is_writer(place):  # without a mean, which the norms no longer take away
            along = tf.convert_to_tensor(self.direction)
            value -= tf.tensordot(value, along, 1)[..., None] * along
        return value

    def _folded(self, place):
        """The patch projection as it reads pixels. What trains is the one that reads
        normalised images: gradients of the other would be a hundred times greater."""
        kernel, bias = (
            tf.convert_to_tensor(variable)
            for variable in (self._held.embedding.kernel, self._held.embedding.bias)
        )
        scale, offset = self._tiled()
        if place.endswith("kernel"):
            return kernel * tf.cast(scale[:, None], "float32")
        return bias + tf.linalg.matvec(kernel, tf.cast(offset, "float32"), True)

    def _tiled(self):
        repeat = self.weights_held.embedding.kernel.shape[0] // len(self.scale)
        return np.tile(self.scale, repeat), np.tile(self.offset, repeat)

    def arrays(self, snapped=True) -> Weights:
        """The weights as float64 arrays, on their grids if `snapped`."""
        change = self._snapped if snapped else self._plain
        arrays = map_arrays(
            self._held, lambda place, v: np.asarray(change(place, v), "float64")
        )
        return cast(Weights, arrays)

    def activations(self, pixels, snapped=False):
        """What has a range, computed without one.

        Arguments:
            pixels: (N, H, W, C), what the file will take.
            snapped: with the kernels on their grids.

        Returns:
            [(tensor, fixed range or None)] in the order of `low` and `high`.
        """
        self.exact, self.record = True, []
        self._snap = snapped
        InferenceViT.call(self, tf.cast(pixels, "float32"))
        record, self.exact, self.record = self.record, False, None
        return record

    def update(self):
        super().update()
        if self.folds_input:  # undone here, and done again for each use
            scale, offset = self._tiled()
            held = self.weights_held.embedding
            kernel = held.kernel / scale[:, None]
            self._held.embedding.kernel.assign(kernel)
            self._held.embedding.bias.assign(held.bias - offset @ kernel)

        def share(place, array):
            if place in self.shared:
                values, indices = np.unique(
                    array.astype("float32"), return_inverse=True
                )
                for held, new in zip(
                    self.shared[place], (values, indices), strict=True
                ):
                    held.assign(new.reshape(held.shape))

        map_arrays(self.weights_held, share)

    def calibrate(self, pixels):
        """Set the ranges to the least and greatest values on images.

        Arguments:
            pixels: (N, H, W, C), what the file will take.
        """
        low = high = None
        for start in range(0, len(pixels), 16):
            record = self.activations(pixels[start : start + 16])
            ends = [(tf.reduce_min(x), tf.reduce_max(x)) for x, _ in record]
            least, most = np.array(ends, "float32").T
            low = least if low is None else np.minimum(low, least)
            high = most if high is None else np.maximum(high, most)
        self.low.assign(low)
        self.high.assign(high)

    def fit_clips(self):
        """Choose where coarse kernels are clipped, per channel: least squared error."""
        places = {}
        map_arrays(self._held, lambda place, variable: places.update({place: variable}))
        for place, clip in self.clips.items():
            value, clips = self._plain(place, places[place]), []
            peak = tf.reduce_max(tf.abs(value), 0)
            for share in CLIPS:
                ends = (-peak * share, peak * share)
                error = kernel_quantizer(self.bits[place])(value, *ends) - value
                clips.append(tf.reduce_sum(error**2, 0))
            clip.assign(CLIPS[np.argmin(clips, 0)])

    def get_config(self):
        own = ("products_only", "scale", "offset", "keep_zeros")
        config = super().get_config()
        del config["dtype"]  # always float32
        return {
            **config,
            # As text: Keras prints configurations, and this one is long.
            "weights": json.dumps(outline(self.weights_held)),
            "form": dataclasses.asdict(self.form),
            "bits": dict(self.bits),
            "values": dict(self.values),
            **{name: getattr(self, name) for name in own},
        }


def _ends(x):
    still = tf.stop_gradient(x)
    return with_zero(tf.reduce_min(still), tf.reduce_max(still))


def with_zero(low, high):
    """A range that holds zero, as integer kernels need it."""
    return tf.minimum(low, 0.0), tf.maximum(high, 0.0)

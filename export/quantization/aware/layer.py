"""The inference graph as a Keras layer that trains as integers will compute.

Every tensor that has a scale of its own in the integer file goes through a fake
quantisation (arXiv 1712.05877) with a moving range, every kernel through one per output
channel: TensorFlow Model Optimization's quantizers, given ranges as plain tensors. When
it does not train, the layer rounds as LiteRT's kernels do.
"""

import dataclasses
import json
from typing import cast

import keras
import numpy as np
import tensorflow as tf

from ...forms import Form
from ...graph.vit_weights import Weights
from ...graph.weight_tree import filled, map_arrays, outline
from . import litert_rounding
from .fake_quant import RangedViT, with_zero
from .tfmot_quantizers import kernel_quantizer, range_quantizer
from .weight_paths import frozen, is_writer

# Constants that are added or multiplied: 8 bits from their least to greatest value.
OPERANDS = ("positions", "gamma", "beta", "scale", "scale1", "scale2", "offset")
INT8, INT4 = 127, 7  # steps in the file from zero to the greatest weight of a kernel
CLIPS = np.linspace(0.3, 1.0, 29)  # shares of the largest weight that are tried


@keras.saving.register_keras_serializable(package="vit_keras_export")
class QuantizedViT(RangedViT):
    """What the integer file computes, trainable.

    Arguments:
        weights: a `Weights` after its rewrites, or its `outline` as JSON.
        form: as the file will be written; a `Form` or its fields.
        bits: {place of a kernel, such as "blocks.0.dense1.kernel": bits}.
        products_only, scale, offset: see `RangedViT`.
        keep_zeros: weights that are zero stay zero.
        values: {place of a kernel: how many different values it has and keeps}. Such a
            kernel has one scale for all channels, so that they stay as few in int8.

    Call arguments:
        images: float32 (N, H, W, C), what the float model takes.
        training: whether to move the ranges.
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
        super().__init__(weights, form, products_only, scale, offset, **kwargs)
        self.bits, self.keep_zeros, self.values = bits, keep_zeros, values
        projects = weights.patch_norms is None  # else the norm takes scale and offset
        self.folds_input = scale is not None and weights.scale is None and projects
        self.direction = self.vector("direction", weights.config.hidden_size)
        self.clips, self.shared, self._variables = {}, {}, {}
        self._snap = False  # kernels on their grids where nothing else is
        map_arrays(self._held, self._prepare)
        self.add_ranges()

    def _prepare(self, place, variable):
        self._variables[place] = variable
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
            clip = self.vector("clip", variable.shape[-1])
            clip.assign(np.ones(clip.shape))
            self.clips[place] = clip

    def held(self) -> Weights:
        return cast(Weights, map_arrays(self._held, self._computed_with))

    def _computed_with(self, place, variable):
        if self.exact:
            value = (self._snapped if self._snap else self._plain)(place, variable)
            if self.places is not None:
                self.places[value.ref()] = place
            return value
        value = self._snapped(place, variable)
        if self.precise:
            return self._stored(place, tf.cast(value, "float64"))
        return range_quantizer()(value, *_ends(value)) if self._adds(place) else value

    def _adds(self, place):
        return place.endswith(OPERANDS) and not self.products_only

    def _stored(self, place, value):
        """A weight as the file will hold it."""
        if place in self.bits:
            return litert_rounding.stored(value, self._scales(place, value))
        if place in self.structure.biases:
            index, kernel = self.structure.biases[place]
            scales = self._scales(
                kernel, self._snapped(kernel, self._variables[kernel])
            )
            return litert_rounding.stored(value, self.grid(index)[0] * scales)
        if self._adds(place):
            return litert_rounding.rounded(value, *litert_rounding.grid(*_ends(value)))
        return value

    def _scales(self, place, kernel):
        """Of a kernel in the file."""
        steps = INT4 if self.is_int4(place) else INT8
        peak = tf.reduce_max(tf.abs(tf.cast(kernel, "float32")), 0)
        peak = tf.reduce_max(peak) if place in self.shared else peak
        return tf.cast(peak / steps, "float64")

    def is_int4(self, place) -> bool:
        """Whether the file holds a kernel as int4: one whose grid that is, in an
        operator that has it. Three bits are on no grid of a seventh of the peak."""
        patches = place.startswith("embedding.") and not self.weights_held.patch_norms
        linear = not (self.form.convolutions or patches)
        return linear and self.bits[place] in (4, 2)

    def _snapped(self, place, variable):
        """A weight, on its grid if it is a kernel."""
        value = self._plain(place, variable)
        if place not in self.bits:
            return value
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

    def unfolded(self, linear):
        """Kernel and bias of the patch projection as it reads normalised images.

        Arguments:
            linear: as it reads what the graph takes.
        """
        if not self.folds_input:
            return linear.kernel, linear.bias
        scale, offset = self._tiled()
        kernel = linear.kernel / scale[:, None]
        return kernel, linear.bias - offset @ kernel

    def _tiled(self):
        repeat = self.weights_held.embedding.kernel.shape[0] // len(self.scale)
        return np.tile(self.scale, repeat), np.tile(self.offset, repeat)

    def arrays(self, snapped=True) -> Weights:
        """The weights as float64 arrays, kernels on their grids if `snapped`."""
        change = self._snapped if snapped else self._plain
        arrays = map_arrays(
            self._held, lambda place, v: np.asarray(change(place, v), "float64")
        )
        return cast(Weights, arrays)

    def activations(self, pixels, snapped=False):
        """See `RangedViT`; with the kernels on their grids if `snapped`."""
        self._snap = snapped
        record = super().activations(pixels)
        self._snap = False
        return record

    def update(self):
        super().update()
        # Undone here, and done again for each use.
        kernel, bias = self.unfolded(self.weights_held.embedding)
        self._held.embedding.kernel.assign(kernel)
        self._held.embedding.bias.assign(bias)

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

    def fit_clips(self):
        """Choose where coarse kernels are clipped, per channel: least squared error."""
        for place, clip in self.clips.items():
            value, clips = self._plain(place, self._variables[place]), []
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
    still = tf.cast(tf.stop_gradient(x), "float32")
    return with_zero(tf.reduce_min(still), tf.reduce_max(still))

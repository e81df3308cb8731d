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

from ...graph.vit_weights import Weights
from ...graph.weight_tree import filled, map_arrays, outline
from ...targets import GraphOptions
from . import litert_rounding
from .fake_quant import RangedViT, with_zero
from .tfmot_quantizers import kernel_quantizer, range_quantizer
from .weight_paths import frozen_paths, is_writer

# Constants that are added or multiplied: 8 bits from their least to greatest value.
OPERANDS = ("positions", "gamma", "beta", "scale", "scale1", "scale2", "offset")
INT8, INT4 = 127, 7  # steps in the file from zero to the greatest weight of a kernel
CLIPS = np.linspace(0.3, 1.0, 29)  # shares of the largest weight that are tried


@keras.saving.register_keras_serializable(package="vit_keras_export")
class QuantizedViT(RangedViT):
    """What the integer file computes, trainable.

    Arguments:
        weights: a `Weights` after its rewrites, or its `outline` as JSON.
        options: as the file will be written; `GraphOptions` or their fields.
        bits: {path of a kernel, such as "blocks.0.dense1.kernel": bits}.
        linear_only, scale, offset: see `RangedViT`.
        keep_zeros: weights that are zero stay zero.
        values: {path of a kernel: how many different values it has and keeps}. Such a
            kernel has one scale for all channels, so that they stay as few in int8.

    Call arguments:
        images: float32 (N, H, W, C), what the float model takes.
        training: whether to move the ranges.
    """

    def __init__(
        self,
        weights,
        options,
        bits,
        linear_only=False,
        scale=None,
        offset=None,
        keep_zeros=False,
        values=None,
        **kwargs,
    ):
        if not isinstance(weights, Weights):
            weights = filled(json.loads(weights))
        if not isinstance(options, GraphOptions):
            options = GraphOptions(**options)
        values = dict(values or {})
        kwargs = {"trainable": True, "frozen": frozen_paths(weights, values), **kwargs}
        super().__init__(weights, options, linear_only, scale, offset, **kwargs)
        self.bits, self.keep_zeros, self.values = bits, keep_zeros, values
        projects = weights.patch_norms is None  # else the norm takes scale and offset
        self.folds_input = scale is not None and weights.scale is None and projects
        self.direction = self.vector("direction", weights.config.hidden_size)
        self.clips, self.shared, self._by_path = {}, {}, {}
        self._snap = False  # kernels on their grids where nothing else is
        map_arrays(self._variables, self._prepare)
        self.add_ranges()

    def _prepare(self, path, variable):
        self._by_path[path] = variable
        if path in self.values:
            self.shared[path] = (
                self.add_weight(shape=(self.values[path],), name="values"),
                self.add_weight(
                    shape=variable.shape,
                    initializer="zeros",
                    dtype="int32",
                    trainable=False,
                    name="indices",
                ),
            )
        if self.bits.get(path, 8) < 8:
            clip = self.vector("clip", variable.shape[-1])
            clip.assign(np.ones(clip.shape))
            self.clips[path] = clip

    def graph_weights(self) -> Weights:
        return cast(Weights, map_arrays(self._variables, self._computed_with))

    def _computed_with(self, path, variable):
        if self.exact:
            value = (self._snapped if self._snap else self._plain)(path, variable)
            if self.weight_refs is not None:
                self.weight_refs[value.ref()] = path
            return value
        value = self._snapped(path, variable)
        if self.precise:
            return self._stored(path, tf.cast(value, "float64"))
        return range_quantizer()(value, *_limits(value)) if self._adds(path) else value

    def _adds(self, path):
        return path.endswith(OPERANDS) and not self.linear_only

    def _stored(self, path, value):
        """A weight as the file will hold it."""
        if path in self.bits:
            return litert_rounding.stored(value, self._scales(path, value))
        if path in self.structure.biases:
            index, kernel = self.structure.biases[path]
            scales = self._scales(kernel, self._snapped(kernel, self._by_path[kernel]))
            return litert_rounding.stored(value, self.grid(index)[0] * scales)
        if self._adds(path):
            return litert_rounding.rounded(
                value, *litert_rounding.grid(*_limits(value))
            )
        return value

    def _scales(self, path, kernel):
        """Of a kernel in the file."""
        steps = INT4 if self.is_int4(path) else INT8
        peak = tf.reduce_max(tf.abs(tf.cast(kernel, "float32")), 0)
        peak = tf.reduce_max(peak) if path in self.shared else peak
        return tf.cast(peak / steps, "float64")

    def is_int4(self, path) -> bool:
        """Whether the file holds a kernel as int4: one whose grid that is, in an
        operator that has it. Three bits are on no grid of a seventh of the peak."""
        patches = path.startswith("embedding.") and not self.source_weights.patch_norms
        linear = not (self.options.convolutions or patches)
        return linear and self.bits[path] in (4, 2)

    def _snapped(self, path, variable):
        """A weight, on its grid if it is a kernel."""
        value = self._plain(path, variable)
        if path not in self.bits:
            return value
        peak = tf.reduce_max(tf.abs(tf.stop_gradient(value)), 0)
        if path in self.shared:
            peak = tf.fill(peak.shape, tf.reduce_max(peak))
        if path in self.clips:
            peak = peak * self.clips[path]
        return kernel_quantizer(self.bits[path])(value, -peak, peak)

    def _plain(self, path, variable):
        """A weight without quantisation, but as the graph needs it."""
        value = tf.convert_to_tensor(variable)
        if path in self.shared:
            value = tf.gather(*(tf.convert_to_tensor(v) for v in self.shared[path]))
        if self.keep_zeros and path.endswith("kernel"):
            return value * tf.cast(tf.stop_gradient(value) != 0, value.dtype)
        if self.folds_input and path.startswith("embedding."):
            value = self._folded(path)
        if is_writer(path):  # without a mean, which the norms no longer take away
            along = tf.convert_to_tensor(self.direction)
            value -= tf.tensordot(value, along, 1)[..., None] * along
        return value

    def _folded(self, path):
        """The patch projection as it reads pixels. What trains is the one that reads
        normalised images: gradients of the other would be a hundred times greater."""
        kernel, bias = (
            tf.convert_to_tensor(variable)
            for variable in (
                self._variables.embedding.kernel,
                self._variables.embedding.bias,
            )
        )
        scale, offset = self._tiled()
        if path.endswith("kernel"):
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
        repeat = self.source_weights.embedding.kernel.shape[0] // len(self.scale)
        return np.tile(self.scale, repeat), np.tile(self.offset, repeat)

    def arrays(self, snapped=True) -> Weights:
        """The weights as float64 arrays, kernels on their grids if `snapped`."""
        change = self._snapped if snapped else self._plain
        arrays = map_arrays(
            self._variables, lambda path, v: np.asarray(change(path, v), "float64")
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
        kernel, bias = self.unfolded(self.source_weights.embedding)
        self._variables.embedding.kernel.assign(kernel)
        self._variables.embedding.bias.assign(bias)

        def share(path, array):
            if path in self.shared:
                values, indices = np.unique(
                    array.astype("float32"), return_inverse=True
                )
                for variable, new in zip(
                    self.shared[path], (values, indices), strict=True
                ):
                    variable.assign(new.reshape(variable.shape))

        map_arrays(self.source_weights, share)

    def fit_clips(self):
        """Choose where coarse kernels are clipped, per channel: least squared error."""
        for path, clip in self.clips.items():
            value, clips = self._plain(path, self._by_path[path]), []
            peak = tf.reduce_max(tf.abs(value), 0)
            for share in CLIPS:
                limits = (-peak * share, peak * share)
                error = kernel_quantizer(self.bits[path])(value, *limits) - value
                clips.append(tf.reduce_sum(error**2, 0))
            clip.assign(CLIPS[np.argmin(clips, 0)])

    def get_config(self):
        own = ("linear_only", "scale", "offset", "keep_zeros")
        config = super().get_config()
        del config["dtype"]  # always float32
        return {
            **config,
            # As text: Keras prints configurations, and this one is long.
            "weights": json.dumps(outline(self.source_weights)),
            "options": dataclasses.asdict(self.options),
            "bits": dict(self.bits),
            "values": dict(self.values),
            **{name: getattr(self, name) for name in own},
        }

    @classmethod
    def from_config(cls, config):
        """The layer of a configuration, also of release 0.1."""
        return cls(**_renamed(config))


RENAMED = {  # names of release 0.1, in the configuration and in what it holds
    "form": "options",
    "rows": "flat_tokens",
    "products_only": "linear_only",
}


def _renamed(config):
    found = {RENAMED.get(name, name): value for name, value in config.items()}
    options = {RENAMED.get(k, k): value for k, value in found["options"].items()}
    weights = found["weights"].replace('"unmix":', '"unrotate":')
    return {**found, "options": options, "weights": weights}


def _limits(x):
    still = tf.cast(tf.stop_gradient(x), "float32")
    return with_zero(tf.reduce_min(still), tf.reduce_max(still))

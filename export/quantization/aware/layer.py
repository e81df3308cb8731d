"""The inference graph as a trainable Keras layer with simulated integer arithmetic.

Every tensor with its own scale in the integer file passes through fake quantisation
(arXiv 1712.05877) with a moving range, every kernel with one per output channel. The
quantisers are TensorFlow Model Optimization's, with ranges as plain tensors. In
inference the layer rounds as LiteRT's kernels do.
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

# Constant operands of sums and products: 8 bits from their minimum to their maximum.
OPERANDS = ("positions", "gamma", "beta", "scale", "scale1", "scale2", "offset")
INT8, INT4 = 127, 7  # steps in the file from zero to the greatest weight of a kernel
CLIPS = np.linspace(0.3, 1.0, 29)  # fractions of the greatest weight to try


@keras.saving.register_keras_serializable(package="vit_keras_export")
class QuantizedViT(RangedViT):
    """A trainable layer that computes as the integer file will.

    Arguments:
        weights: a `Weights` after its rewrites, or its `outline` as JSON.
        options: as the file will be written; `GraphOptions` or their fields.
        bits: {path of a kernel, such as "blocks.0.dense1.kernel": bits}.
        linear_only, scale, offset: see `RangedViT`.
        keep_zeros: whether weights that are zero stay zero.
        values: {path of a clustered kernel: number of its distinct values}. Such a
            kernel has one scale for all channels, so that its values stay as few in
            int8.

    Call arguments:
        images: float32 (N, H, W, C), inputs of the float model.
        training: whether to update the ranges.
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
        projects = weights.patch_norms is None  # else the norm absorbs scale and offset
        self.folds_input = scale is not None and weights.scale is None and projects
        self.direction = self.vector("direction", weights.config.hidden_size)
        self.clips, self.shared, self._by_path = {}, {}, {}
        self._snap = False  # with `exact`: kernels on their grids nevertheless
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
        """Return a weight as the file stores it."""
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
        """Return the scales of a kernel in the file."""
        steps = INT4 if self.is_int4(path) else INT8
        peak = tf.reduce_max(tf.abs(tf.cast(kernel, "float32")), 0)
        peak = tf.reduce_max(peak) if path in self.shared else peak
        return tf.cast(peak / steps, "float64")

    def is_int4(self, path) -> bool:
        """Return whether the file stores a kernel as int4: 4 or 2 bits, and an operator
        with int4 weights. 3-bit grids (peak / 3) do not lie on int4's (peak / 7)."""
        convolved = self.options.convolutions
        if path.startswith("embedding.") and self.source_weights.patch_norms is None:
            convolved |= self.options.patch_projection != "fully_connected"
        convolved |= path.startswith("merges.")
        return not convolved and self.bits[path] in (4, 2)

    def _snapped(self, path, variable):
        """Return a weight, on its grid if it is a kernel."""
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
        """Return an unquantised weight, with the constraints of the graph applied."""
        value = tf.convert_to_tensor(variable)
        if path in self.shared:
            value = tf.gather(*(tf.convert_to_tensor(v) for v in self.shared[path]))
        if self.keep_zeros and path.endswith("kernel"):
            return value * tf.cast(tf.stop_gradient(value) != 0, value.dtype)
        if self.folds_input and path.startswith("embedding."):
            value = self._folded(path)
        if is_writer(path):  # remove the mean, which RMS norms do not subtract
            along = tf.convert_to_tensor(self.direction)
            value -= tf.tensordot(value, along, 1)[..., None] * along
        return value

    def _folded(self, path):
        """Return the patch projection of raw pixels. The trained variables project
        normalised images: the gradients of pixels are a hundred times greater."""
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
        """Return kernel and bias of the patch projection of normalised images.

        Arguments:
            linear: the projection of the graph's inputs.
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
        """Return the weights as float64 arrays, kernels on their grids if `snapped`."""
        change = self._snapped if snapped else self._plain
        arrays = map_arrays(
            self._variables, lambda path, v: np.asarray(change(path, v), "float64")
        )
        return cast(Weights, arrays)

    def activations(self, pixels, snapped=False):
        """As in `RangedViT`; with the kernels on their grids if `snapped`."""
        self._snap = snapped
        record = super().activations(pixels)
        self._snap = False
        return record

    def update(self):
        super().update()
        # Variables hold the unfolded projection; `_folded` folds it at each use.
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
        """Choose the clipping of coarse kernels per channel, by least squared error."""
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
        """Build the layer from a configuration, also of release 0.1."""
        return cls(**_renamed(config))


RENAMED = {  # names of release 0.1 in configurations
    "form": "options",
    "rows": "flat_tokens",
    "products_only": "linear_only",
}


def _renamed(config):
    found = {RENAMED.get(name, name): value for name, value in config.items()}
    options = {RENAMED.get(k, k): value for k, value in found["options"].items()}
    if options.pop("columns_as_channels", False):
        options["patch_projection"] = "columns_as_channels"
    weights = found["weights"].replace('"unmix":', '"unrotate":')
    return {**found, "options": options, "weights": weights}


def _limits(x):
    still = tf.cast(tf.stop_gradient(x), "float32")
    return with_zero(tf.reduce_min(still), tf.reduce_max(still))

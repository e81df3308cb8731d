"""The inference graph of `Weights`: few operators, rank 4 at most, in float32."""

import math
from typing import Any

import keras
from keras import ops

from vit_keras.layers.token_merging import repeat_tokens

from ..targets import GraphOptions
from .activations import SIGNED
from .inference_blocks import InferenceBlocks
from .rewrites import norms
from .vit_weights import Weights
from .weight_tree import map_arrays


@keras.saving.register_keras_serializable(package="vit_keras_export")
class InferenceViT(InferenceBlocks):
    """A layer that computes the model of a `Weights`, written for a target.

    Arguments:
        weights: after its rewrites.
        options: how the graph is written.
        trainable: whether the weights can be trained.
        frozen: paths of weights that cannot, such as "positions".
        keep: keep `weights` beside the variables, for `update`; else they are freed.

    Call arguments:
        images: float32 (N, H, W, C).

    Returns:
        The output of the model that the weights come from, or a list of the readers'.

    Subclasses override `graph_weights` (all weights), and hooks of `InferenceBlocks`.
    """

    def __init__(
        self,
        weights: Weights,
        options: GraphOptions | None = None,
        trainable=False,
        frozen=(),
        keep=True,
        **kwargs,
    ):
        super().__init__(options, trainable=trainable, **kwargs)
        self.frozen = frozen
        self.source_weights = weights if keep else None
        self._variables = map_arrays(weights, self._variable_of, consume=not keep)

    def _variable_of(self, path, array):
        # One variable per array, so that every format stores it once.
        return self.add_weight(
            shape=array.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(array, dtype),
            trainable=path not in self.frozen,
        )

    def update(self):
        """Copy changed `source_weights` into the variables, and epsilons."""
        arrays, variables = [], []
        map_arrays(self.source_weights, lambda _, array: arrays.append(array))
        map_arrays(self._variables, lambda _, variable: variables.append(variable))
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array.astype("float32"))
        source: Any = self.source_weights
        for norm, copy in zip(norms(source), norms(self._variables), strict=True):
            copy.epsilon = norm.epsilon

    def graph_weights(self) -> Weights:
        """Return the weights to compute with, as variables or tensors."""
        return self._variables

    def call(self, images, training=None, mask=None):
        # `training` and `mask` are passed by a model around a replaced ViT.
        w = self.graph_weights()
        with keras.name_scope("embedding"):
            x = self._embed(self.activation(images), w)
        if w.pre_norm is not None:
            x = self.norm(x, w.pre_norm)
        streams, self.rotation = [], w.rotation
        self.prefix, self.sizes = w.prefix.shape[0], None
        merges = {merge.before: merge for merge in w.merges}
        for index, block in enumerate(w.blocks):
            if index in merges:
                with keras.name_scope(f"token_merging_{index}"):
                    x = self._merged(x, merges[index], w)
            last = index == len(w.blocks) - 1
            if w.queries is not None and w.queries.before == index:
                x = self._prepended(w.queries.tokens, x)
            # Scopes become tensor names of the file, which error reports show.
            with keras.name_scope(f"encoderblock_{index}"):
                x = self._block(x, block, w.tokens_read if last else None)
            streams.append(x)
        with keras.name_scope("taps" if w.readers else "top"):
            return self._taps(streams, w) if w.readers else self._top(x, w)

    def _embed(self, images, w):
        config, a = w.config, self.activation
        if w.scale is not None:
            images = a(a(images * w.scale) + w.offset)
        count, inner = config.grid[0] * config.grid[1], config.hidden_size
        if w.patch_norms is not None:
            before, after = w.patch_norms
            patches = ops.image.extract_patches(
                images, config.patch_size, data_format="channels_last"
            )
            x = ops.reshape(patches, (-1, count, w.embedding.kernel.shape[0]))
            x = self.norm(self.linear(self.norm(x, before), w.embedding), after)
        elif self.options.patch_projection == "fully_connected":
            # Of rank 2, so that the bias is fused: the converter would add it to the
            # positions, and the product alone, of pixels around 127, is far from zero.
            x = self.linear(_patches_of_pixels(images, config), w.embedding)
            x = ops.reshape(x, (-1, count, inner))
        else:
            x = ops.reshape(self._convolved(images, w), (-1, count, inner))
        x = x if w.positions is None else a(x + w.positions)
        return self._prepended(w.prefix, x) if w.prefix.shape[0] else x

    def _convolved(self, images, w):
        """Return the projected patches (N, rows, columns, D) by one convolution."""
        config, channels = w.config, w.config.channels
        (rows, columns), (height, width) = config.grid, config.patch_size
        images = self.operand(images)
        if self.visit is not None:
            self.visit(w.embedding, images)
        if self.options.patch_projection == "columns_as_channels":
            width, channels = 1, width * channels
            images = ops.reshape(images, (-1, rows * height, columns, channels))
        kernel = ops.reshape(w.embedding.kernel, (height, width, channels, -1))
        x = ops.conv(images, kernel, (height, width), "valid", "channels_last")
        # Before any reshape, so that it is fused as the convolution's bias.
        return self.result(x + w.embedding.bias)

    def _merged(self, x, merge, w):
        """Return tokens with k x k neighbours merged, by a convolution of stride k."""
        a, (rows, columns), k = self.activation, merge.grid, merge.factor
        prefix, width = w.prefix.shape[0], w.config.hidden_size
        y = x[:, prefix:] if prefix else x
        y = ops.reshape(y, (-1, rows, columns, width))
        if rows % k:
            y = a(ops.concatenate([y, *[y[:, -1:]] * (-rows % k)], axis=1))
        if columns % k:
            y = a(ops.concatenate([y, *[y[:, :, -1:]] * (-columns % k)], axis=2))
        y = self.operand(y)
        if self.visit is not None:
            self.visit(merge.linear, y)
        kernel = ops.reshape(merge.linear.kernel, (k, k, width, width))
        y = ops.conv(y, kernel, k, "valid", "channels_last")
        y = self.result(y + merge.linear.bias)
        y = ops.reshape(y, (-1, -(-rows // k) * -(-columns // k), width))
        return a(ops.concatenate([x[:, :prefix], y], axis=1)) if prefix else y

    def _prepended(self, tokens, x):
        tokens = ops.broadcast_to(tokens[None], (ops.shape(x)[0], *tokens.shape))
        return self.activation(ops.concatenate([tokens, x], axis=1))

    def _taps(self, streams, w):
        """Return what the readers make of the tokens after each block."""
        tokens, outputs = {}, []
        for index, start, stop in w.tapped:
            x = streams[index][:, start:stop]
            x = x if w.norm is None else self.norm(x, w.norm)
            tokens[index, start, stop] = x
        for reader in w.readers:
            read = [tokens[i, reader.start, reader.stop] for i in reader.blocks]
            x = self.activation(ops.concatenate(read, -1)) if read[1:] else read[0]
            outputs.append(self.linear(x, reader.linear))
        return outputs

    def _top(self, x, w):
        config, a = w.config, self.activation
        pooled = w.task == "classify" and config.pooling is not None
        if w.norm is not None and not (config.fc_norm and pooled):
            x = self.norm(x, w.norm)
            self.note("features", x)
            if pooled and config.pooling == "max":
                x = x if w.unrotate is None else self.linear(x, w.unrotate)
        if not pooled:
            x = x if w.unrotate is None else self.linear(x, w.unrotate)
            factor = math.prod(merge.factor for merge in w.merges)
            sizes = config.grid, w.prefix.shape[0], factor
            return x if factor == 1 else a(repeat_tokens(x, *sizes))
        tokens, width, prefix = x, config.hidden_size, config.num_prefix_tokens
        patches = tokens[:, prefix:] if prefix and not config.pool_prefix else tokens
        if config.pooling == "token":
            x = take(tokens, 0)
        elif config.pooling == "gap" and self.sizes is not None:
            patches = patches * self.sizes[:, prefix:]
            x = ops.sum(patches, axis=1) / (config.grid[0] * config.grid[1])
        elif config.pooling == "gap":
            x = a(ops.mean(patches, axis=1))
        elif config.pooling == "max":
            x = a(ops.max(patches, axis=1))
        else:
            probe, attention, inner, dense1, dense2, activation = w.pool
            if attention.scores is None:
                probe = ops.broadcast_to(probe[None], (ops.shape(x)[0], 1, width))
                x = self._attention(probe, patches, attention)
            else:
                x = self._pooled(patches, attention)
            x = a(x + self._mlp(self.norm(x, inner), dense1, dense2, activation))
            x = ops.reshape(x, (-1, width))
        if config.fc_norm and w.norm is not None:
            x = self.norm(x, w.norm)
        if w.unrotate is not None and config.pooling != "max":
            x = self.linear(x, w.unrotate)
        if w.pre_logits is not None:
            x = self.linear(x, w.pre_logits)
            if config.representation_activation == "tanh":
                x = a(ops.tanh(x), SIGNED)
        x = x if w.unit is None else self.norm(x, w.unit)
        self.note("pooled", x)
        if not w.heads:
            return x
        x = self.linear(x, w.heads[0])
        if len(w.heads) > 1:
            x = a(a(x + self.linear(take(tokens, 1), w.heads[1])) * 0.5)
        return keras.activations.get(config.activation)(x)


def _patches_of_pixels(images, config):
    """Return the flattened patches (N * P, p*q*C), by operators of rank 4 at most."""
    (rows, columns), (height, width) = config.grid, config.patch_size
    row = width * config.channels
    # Two transposes of three axes: compilers have slow ones of four.
    x = ops.reshape(images, (-1, rows * height, columns, row))
    x = ops.transpose(x, (0, 2, 1, 3))
    x = ops.reshape(x, (-1, columns, rows, height * row))
    x = ops.transpose(x, (0, 2, 1, 3))
    return ops.reshape(x, (-1, height * row))


def take(x, index):
    """Return one token (N, D), sliced: GPU delegates refuse to drop an axis."""
    return ops.reshape(x[:, index : index + 1], (-1, x.shape[-1]))

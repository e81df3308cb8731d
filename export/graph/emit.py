"""The inference graph of `Weights`: few operators, of rank 4 at most, in float32."""

import dataclasses

import keras
import numpy as np
from keras import ops

from .weights import Weights


@keras.saving.register_keras_serializable(package="vit_keras_export")
class InferenceViT(keras.layers.Layer):
    """A layer that computes what a `Weights` says; it can not be trained or saved.

    Arguments:
        weights: after its rewrites.
        split_softmax: divide by the root of the sum before and after the product with
            the values, `((e / sqrt(s)) @ v) / sqrt(s)`, instead of by the sum before
            it: what int8 holds then has less range than a softmax.

    Call arguments:
        images: float32 (N, H, W, C).

    Returns:
        What the model returned that the weights are from.
    """

    def __init__(self, weights: Weights, split_softmax: bool = False, **kwargs):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.split_softmax = split_softmax
        self.seen = None  # a list, to which attention then adds (keys, values)
        self.weights_held = weights
        self._held = map_arrays(weights, self._hold)

    def _hold(self, array):
        # One variable each, so that every format stores it once.
        weight = self.add_weight(shape=array.shape, initializer="zeros")
        weight.assign(array.astype("float32"))
        return weight

    def update(self):
        """Take over a change of `weights_held`."""
        arrays = []
        map_arrays(self.weights_held, arrays.append)
        for variable, array in zip(self.weights, arrays, strict=True):
            variable.assign(array.astype("float32"))

    def call(self, images, training=None, mask=None):
        # The last two are what a model around it passes to the ViT it replaces.
        w = self._held
        x = self._embed(images, w)
        if w.pre_norm is not None:
            x = norm(x, w.pre_norm)
        wanted = rows_read(w)
        for block in w.blocks[:-1]:
            x = self._block(x, block)
        x = self._block(x, w.blocks[-1], wanted)
        return self._top(x, w)

    def _embed(self, images, w):
        config = w.config
        if w.scale is not None:
            images = images * w.scale + w.offset
        rows, columns = config.grid
        height, width = config.patch_size
        count, inner = rows * columns, config.hidden_size
        if w.patch_norms is not None:
            before, after = w.patch_norms
            patches = ops.image.extract_patches(
                images, config.patch_size, data_format="channels_last"
            )
            x = ops.reshape(patches, (-1, count, w.embedding.kernel.shape[0]))
            x = norm(linear(norm(x, before), w.embedding), after)
        else:
            kernel = ops.reshape(
                w.embedding.kernel, (height, width, config.channels, inner)
            )
            x = ops.conv(images, kernel, config.patch_size, "valid", "channels_last")
            # Before the reshape, so that it becomes the convolution's own bias.
            x = ops.reshape(x + w.embedding.bias, (-1, count, inner))
        x = x + w.positions
        if w.prefix.shape[0]:
            prefix = ops.broadcast_to(
                w.prefix[None], (ops.shape(images)[0], *w.prefix.shape)
            )
            x = ops.concatenate([prefix, x], axis=1)
        return x

    def _block(self, x, block, rows=None):
        """One block; with `rows` only the first ones are computed, as many."""
        normed = norm(x, block.norm1)
        query = normed
        if rows is not None and rows < x.shape[1]:
            query, x = normed[:, :rows], x[:, :rows]
        y = self._attention(query, normed, block.attention)
        x = x + (y if block.scale1 is None else y * block.scale1)
        y = mlp(norm(x, block.norm2), block.dense1, block.dense2, block.activation)
        return x + (y if block.scale2 is None else y * block.scale2)

    def _attention(self, query, source, attention):
        def heads(x, projection, own_norm=None):
            x = linear(x, projection)
            x = ops.reshape(x, (-1, x.shape[1], attention.heads, attention.head_dim))
            return x if own_norm is None else norm(x, own_norm)

        q = ops.transpose(
            heads(query, attention.query, attention.query_norm), (0, 2, 1, 3)
        )
        k, v = (
            heads(source, attention.key, attention.key_norm),
            heads(source, attention.value),
        )
        if self.seen is not None:
            self.seen.append((k, v))
        k, v = ops.transpose(k, (0, 2, 3, 1)), ops.transpose(v, (0, 2, 1, 3))
        if attention.scale != 1.0:
            q = q * attention.scale
        scores = ops.matmul(q, k)
        if self.split_softmax:
            shares = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
            root = ops.rsqrt(ops.sum(shares, axis=-1, keepdims=True))
            y = ops.matmul(shares * root, v) * root
        else:
            y = ops.matmul(ops.softmax(scores, axis=-1), v)
        y = ops.transpose(y, (0, 2, 1, 3))
        inner = attention.heads * attention.head_dim
        return linear(ops.reshape(y, (-1, query.shape[1], inner)), attention.out)

    def _top(self, x, w):
        config = w.config
        pooled = w.task == "classify" and config.pooling is not None
        if not config.fc_norm or not pooled:
            x = norm(x, w.norm)
        if not pooled:
            return x if w.unmix is None else linear(x, w.unmix)
        tokens, width = x, config.hidden_size
        if config.pooling == "token":
            x = take(tokens, 0)
        elif config.pooling == "gap":
            prefix = config.num_prefix_tokens
            x = ops.mean(tokens[:, prefix:] if prefix else tokens, axis=1)
        else:
            probe, attention, inner, dense1, dense2, activation = w.pool
            prefix = config.num_prefix_tokens
            patches = tokens[:, prefix:] if prefix else tokens
            probe = ops.broadcast_to(probe[None], (ops.shape(x)[0], 1, width))
            x = self._attention(probe, patches, attention)
            x = x + mlp(norm(x, inner), dense1, dense2, activation)
            x = ops.reshape(x, (-1, width))
        if config.fc_norm:
            x = norm(x, w.norm)
        if w.unmix is not None:
            x = linear(x, w.unmix)
        if w.pre_logits is not None:
            x = ops.tanh(linear(x, w.pre_logits))
        if not w.heads:
            return x
        x = linear(x, w.heads[0])
        if len(w.heads) > 1:
            x = (x + linear(take(tokens, 1), w.heads[1])) * 0.5
        return keras.activations.get(config.activation)(x)


def rows_read(w: Weights) -> int | None:
    """How many first tokens the head reads of the last block; None for all."""
    if w.task != "classify" or w.config.pooling != "token":
        return None
    return 1 + (len(w.heads) > 1)


def norm(x, n):
    """Layer norm, or RMS norm, over the last axis."""
    if n.centred:
        x = x - ops.mean(x, axis=-1, keepdims=True)
    y = x * ops.rsqrt(ops.mean(x * x, axis=-1, keepdims=True) + n.epsilon)
    return y if n.gamma is None else y * n.gamma + n.beta


def linear(x, dense):
    """(..., I) to (..., O)."""
    return ops.matmul(x, dense.kernel) + dense.bias


def mlp(x, dense1, dense2, activation):
    """Dense, GELU, Dense."""
    hidden = ops.gelu(linear(x, dense1), approximate=activation == "gelu_tanh")
    return linear(hidden, dense2)


def take(x, index):
    """One token (N, D); an index would shrink an axis, which GPU delegates refuse."""
    return ops.reshape(x[:, index : index + 1], (-1, x.shape[-1]))


def map_arrays(value, function):
    """The same structure with every array replaced."""
    if isinstance(value, np.ndarray):
        return function(value)
    if isinstance(value, list | tuple):
        return type(value)(map_arrays(item, function) for item in value)
    if type(value).__module__ != Weights.__module__:
        return value  # numbers, and the configuration
    fields = dataclasses.fields(value)
    changed = {f.name: map_arrays(getattr(value, f.name), function) for f in fields}
    return dataclasses.replace(value, **changed)

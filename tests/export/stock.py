"""Transformers of stock Keras layers, which no rewrite of ours knows."""

import keras
import numpy as np
from keras import layers, ops

TOKENS, WIDTH = 16, 32  # of 32 pixels and patches of 8


class Constant(layers.Layer):
    """What a layer of a user computes from nothing: the mask of shifted windows."""

    def call(self, scores):
        size = scores.shape[-1]
        mask = ops.zeros((size, size))
        mask = ops.slice_update(mask, (0, size // 2), ops.ones((size // 2, size // 2)))
        mask = ops.slice_update(mask, (size // 2, 0), ops.ones((size // 2, size // 2)))
        return ops.add(scores, -100.0 * mask)


def images(number=16, seed=0):
    """Smooth pixels (N, 32, 32, 3) with noise, uint8."""
    draws = np.random.default_rng(seed)
    coarse = draws.uniform(0, 255, (number, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    return (coarse + draws.normal(0, 20, coarse.shape)).clip(0, 255).astype("uint8")


def patches(seed=0):
    """The input and its patches (None, 4, 4, WIDTH), as large as 1."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((32, 32, 3))
    return inputs, layers.Conv2D(WIDTH, 8, 8)(layers.Rescaling(1 / 127.5, -1)(inputs))


def finished(inputs, x, outputs=5):
    """The model with a head and weights away from their fresh values."""
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    model = keras.Model(inputs, layers.Dense(outputs)(x))
    draws = np.random.default_rng(0)
    model.set_weights([w + draws.normal(0, 0.05, w.shape) for w in model.get_weights()])
    return model


def transformer(outputs=5, post_norm=False, causal=False, mask=None, blocks=1):
    """Blocks of stock `MultiHeadAttention` and `LayerNormalization`."""
    inputs, x = patches()
    x = layers.Reshape((TOKENS, WIDTH))(x)
    for _ in range(blocks):
        y = x if post_norm else layers.LayerNormalization()(x)
        attention = layers.MultiHeadAttention(2, WIDTH // 2)
        x = x + attention(y, y, attention_mask=mask, use_causal_mask=causal)
        y = x = layers.LayerNormalization()(x) if post_norm else x
        y = y if post_norm else layers.LayerNormalization()(y)
        x = x + layers.Dense(WIDTH)(layers.Dense(2 * WIDTH, activation="gelu")(y))
    return finished(inputs, x, outputs)


def scored(change):
    """One attention written out, whose scores (None, T, T) a function changes."""
    inputs, x = patches()
    x = layers.Reshape((TOKENS, WIDTH))(x)
    q, k, v = (layers.Dense(WIDTH)(x) for _ in range(3))
    scores = change(ops.matmul(q, ops.transpose(k, (0, 2, 1))) * WIDTH**-0.5)
    x = x + layers.Dense(WIDTH)(ops.matmul(ops.softmax(scores), v))
    return finished(inputs, x)


def activated(function):
    """A function of the patches, and a head."""
    inputs, x = patches()
    return finished(inputs, layers.Reshape((TOKENS, WIDTH))(function(x)))

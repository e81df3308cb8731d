"""Parts that decoders share."""

import keras

from ..layers import PatchTokens, Unpatchify
from ..layers.maps import concatenated

EPSILON = 1e-5  # of batch norms, as in PyTorch


def patch_tokens(taps, config, more=0):
    """Return the patches' tokens of all taps side by side, (N, P, n * D); `more`
    tokens stand before those of the model's configuration."""
    number = config.num_prefix_tokens + more
    drop = PatchTokens(number, name="decoder_patches")
    return concatenated([drop(tokens) for tokens in taps])


def to_map(tokens, config, name="decoder_map"):
    """Return tokens (N, P, F) as a map (N, h, w, F)."""
    return keras.layers.Reshape((*config.grid, tokens.shape[-1]), name=name)(tokens)


def expanded(x, width, factor, name):
    """Return a map with `factor` times as many rows and columns, (N, k h, k w, F).

    A transposed convolution of kernel and stride k, as a linear layer to the k x k
    pixels of each: some compilers know no such convolution for k = 4.
    """
    x = keras.layers.Dense(factor**2 * width, name=f"decoder_expand_{name}")(x)
    return Unpatchify(factor, name=f"decoder_unpatchify_{name}")(x)


def convolution(width, name, bias=True):
    """Return a convolution 3 x 3 that keeps rows and columns."""
    return keras.layers.Conv2D(
        width, 3, padding="same", use_bias=bias, name=f"decoder_{name}"
    )


def decoder_head(config):
    """Return the last linear layer, to C classes, in float32 also under mixed
    precision, for a stable loss."""
    return float32_layer(config.classes, "decoder_head")


def float32_layer(width, name):
    """Return a linear layer in float32, with small weights."""
    return keras.layers.Dense(
        width,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        dtype="float32",
        name=name,
    )

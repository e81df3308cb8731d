"""Parts that decoders share."""

import keras

from ..layers import PatchTokens, concatenated


def patch_tokens(taps, config):
    """Return the patches' tokens of all taps side by side, (N, P, n * D)."""
    drop = PatchTokens(config.num_prefix_tokens, name="decoder_patches")
    return concatenated([drop(tokens) for tokens in taps])


def to_map(tokens, config, name="decoder_map"):
    """Return tokens (N, P, F) as a map (N, h, w, F)."""
    return keras.layers.Reshape((*config.grid, tokens.shape[-1]), name=name)(tokens)


def decoder_head(config):
    """Return the last linear layer, to C classes, in float32 also under mixed
    precision, for a stable loss."""
    return keras.layers.Dense(
        config.classes,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        dtype="float32",
        name="decoder_head",
    )

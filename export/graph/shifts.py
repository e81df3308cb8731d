"""Exact rewrites that need the mean keys and values of images, after the others."""

from .rewrites import keys_are_free
from .vit_weights import Weights


def shift_values(weights: Weights, means) -> bool:
    """Subtract the mean `m` of the values, since attention weights sum to 1:
    `p @ (v - m) + m = p @ v`. It goes into the output's bias, `b_o + m @ W_o`; then
    attention weights too small for int8 lose less.

    Arguments:
        means: (H*d,) of each block, measured on images.
    """
    if any(block.attention.inner_norm is not None for block in weights.blocks):
        return False
    for block, mean in zip(weights.blocks, means, strict=True):
        attention = block.attention
        attention.value.bias = attention.value.bias - mean
        attention.out.bias = attention.out.bias + mean @ attention.out.kernel
    return True


def shift_keys(weights: Weights, means) -> bool:
    """Subtract the mean of the keys from their bias, by the rule of `drop_key_bias`.

    Arguments:
        means: (H*d,) of each block, measured on images.
    """
    if not keys_are_free(weights):
        return False
    for block, mean in zip(weights.blocks, means, strict=True):
        block.attention.key.bias = block.attention.key.bias - mean
    return True


SHIFTS = {"shift_keys": shift_keys, "shift_values": shift_values}

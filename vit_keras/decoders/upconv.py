"""The decoder "upconv": steps that double the resolution, and a linear layer.

A step is a transposed convolution of kernel and stride 2, ReLU, a depthwise convolution
3 x 3, batch norm and ReLU: `ScaleBlock` of EoMT (arXiv 2503.19108), with ReLU and batch
norm, which integer kernels have. `decoder_depth` is the number of steps (2: from
patches of 16 to stride 4), `decoder_width` that of their channels (64).
"""

import keras

from ..decoder_sizes import decoder_sizes
from .parts import decoder_head, expanded, patch_tokens, to_map


def upconv_decoder(taps, config):
    """Return a map (N, 2^s h, 2^s w, C) of taps, tokens (N, T, D) each, after s
    steps."""
    sizes = decoder_sizes(config)
    x = to_map(patch_tokens(taps, config), config)
    for step in range(sizes.steps):
        x = expanded(x, sizes.width, 2, step)
        x = keras.layers.ReLU(name=f"decoder_relu_{step}a")(x)
        x = keras.layers.DepthwiseConv2D(
            3, padding="same", use_bias=False, name=f"decoder_depthwise_{step}"
        )(x)
        # Averages of 100 steps, Keras' default, lag behind in a short training.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"decoder_norm_{step}")(
            x
        )
        x = keras.layers.ReLU(name=f"decoder_relu_{step}b")(x)
    return decoder_head(config)(x)

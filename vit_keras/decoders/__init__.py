"""Decoders: from the tokens of a ViT to outputs at each pixel, one file for each.

Letters: N images, T tokens, P = h x w of them patches, D width, n taps, C classes,
H x W pixels.
"""

import keras

from ..layers import Resize
from .dpt import dpt_decoder
from .eomt import eomt_decoder
from .linear import linear_decoder
from .mask import mask_decoder
from .upconv import upconv_decoder

# By the names of `ViTConfig.decoder`. Each function maps the taps, a list of tokens
# (N, T, D), and the configuration to a map (N, h', w', C) of its own stride.
DECODERS = {
    "linear": linear_decoder,
    "upconv": upconv_decoder,
    "mask": mask_decoder,
    "dpt": dpt_decoder,
    "eomt": eomt_decoder,
}


def decode_tokens(taps, config):
    """Return outputs at each pixel, float32 (N, H, W, C)."""
    x = DECODERS[config.decoder](taps, config)
    x = Resize(config.image_size, name="upsample", dtype="float32")(x)
    if config.activation != "linear":
        x = keras.layers.Activation(
            config.activation, name="predictions", dtype="float32"
        )(x)
    if config.max_depth is not None:
        x = keras.layers.Rescaling(
            config.max_depth, name="predictions_scale", dtype="float32"
        )(x)
    return x

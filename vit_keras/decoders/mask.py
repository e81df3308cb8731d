"""The decoder "mask": Segmenter's mask transformer (arXiv 2105.05633, section 3.3).

Learned tokens of the classes pass `decoder_depth` blocks (2) together with the patches,
both in the width `decoder_width` (D); the logit of a class at a patch is the cosine of
their tokens, normed over the classes. Its outputs have the stride of the patches.
"""

import keras

from ..decoder_sizes import decoder_sizes
from ..layers import (
    ClassToken,
    EncoderBlock,
    FirstTokens,
    LayerNormalization,
    PatchTokens,
)
from .parts import patch_tokens, to_map


def mask_decoder(taps, config):
    """Return a map (N, h, w, C) of taps, tokens (N, T, D) each."""
    sizes, classes = decoder_sizes(config), config.classes
    x = keras.layers.Dense(sizes.width, name="decoder_project")(
        patch_tokens(taps, config)
    )
    x = ClassToken(classes, name="decoder_class_tokens")(x)
    for i in range(sizes.depth):
        x = EncoderBlock(
            sizes.heads,
            4 * sizes.width,
            mlp_activation=config.mlp_activation,
            dropout=config.dropout,
            norm_epsilon=config.norm_epsilon,
            name=f"decoder_block_{i}",
        )(x)
    x = LayerNormalization(config.norm_epsilon, name="decoder_norm")(x)
    patches = PatchTokens(classes, name="decoder_patches_only")(x)
    tokens = FirstTokens(classes, name="decoder_classes_only")(x)
    # In float32, for a stable loss.
    patches, tokens = (
        keras.layers.UnitNormalization(name=f"decoder_unit_{name}", dtype="float32")(
            keras.layers.Dense(
                sizes.width,
                use_bias=False,
                kernel_initializer=keras.initializers.RandomNormal(
                    stddev=sizes.width**-0.5
                ),
                name=f"decoder_project_{name}",
            )(part)
        )
        for name, part in (("patches", patches), ("classes", tokens))
    )
    x = keras.layers.Dot(2, name="decoder_cosine", dtype="float32")([patches, tokens])
    x = LayerNormalization(
        config.norm_epsilon, name="decoder_class_norm", dtype="float32"
    )(x)
    return to_map(x, config)

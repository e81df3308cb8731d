"""The decoder "eomt": Encoder-only Mask Transformer (arXiv 2503.19108, section 3.2).

`decoder_queries` learned tokens (100) take part in the last `decoder_depth` blocks (4)
of the encoder, without masked attention, as after its training. Each names a class, or
none, and a mask: the product of its token and a map of the patches that was doubled to
stride 4. `layers.QueryScores` makes logits of classes of both. Its authors resize the
masks before their sigmoid; here the logits are resized, which are fewer, and differ
between the map's pixels alone.
"""

import keras

from ..decoder_sizes import decoder_sizes
from ..layers import FirstTokens, LayerNormalization, QueryScores
from .parts import expanded, float32_layer, patch_tokens, to_map

EPSILON = 1e-6  # of `LayerNorm2d`


def eomt_decoder(taps, config):
    """Return a map (N, 2^s h, 2^s w, C) of one tap, tokens (N, Q + T, D)."""
    sizes, width = decoder_sizes(config), config.hidden_size
    queries = FirstTokens(sizes.queries, name="decoder_queries_only")(taps[0])
    classes = float32_layer(config.classes + 1, "decoder_classes")(queries)
    for i in range(1, 4):
        activation = "gelu" if i < 3 else None
        queries = keras.layers.Dense(
            width, activation=activation, name=f"decoder_mask_{i}"
        )(queries)
    x = to_map(patch_tokens(taps, config, sizes.queries), config)
    for step in range(sizes.steps):
        x = expanded(x, width, 2, step)
        x = keras.layers.Activation("gelu", name=f"decoder_gelu_{step}")(x)
        x = keras.layers.DepthwiseConv2D(
            3, padding="same", use_bias=False, name=f"decoder_depthwise_{step}"
        )(x)
        x = LayerNormalization(EPSILON, name=f"decoder_norm_{step}")(x)
    rows, columns = x.shape[1:3]
    x = keras.layers.Reshape((rows * columns, width), name="decoder_pixels")(x)
    masks = keras.layers.Dot(2, name="decoder_masks", dtype="float32")([x, queries])
    x = QueryScores(name="decoder_scores", dtype="float32")([masks, classes])
    return keras.layers.Reshape((rows, columns, config.classes), name="decoder_logits")(
        x
    )

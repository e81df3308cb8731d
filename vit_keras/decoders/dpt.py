"""The decoder "dpt": Dense Prediction Transformer (arXiv 2103.13413, section 3).

The tokens of four taps become maps of 4, 2, 1 and 1/2 times the patches' rows and
columns with `decoder_channels`, then of `decoder_width` (64) channels each, and are
fused from the coarsest to the finest. As transformers' DPT and Depth Anything (arXiv
2406.09414) compute it; the class token is ignored, or with readout="project" passes a
layer together with each patch. Its outputs have the size of the image. If rows or
columns of patches are odd, maps have the sizes of Depth Anything; DPT rounds up.
"""

import keras

from ..decoder_sizes import decoder_sizes
from ..layers import PatchTokens, Readout, Resize
from .parts import EPSILON, convolution, decoder_head, expanded, to_map


def dpt_decoder(taps, config):
    """Return a map (N, H, W, C) of four taps, tokens (N, T, D) each."""
    sizes, fused = decoder_sizes(config), None
    maps = _reassembled(taps, config, sizes)
    maps = [
        convolution(sizes.width, f"conv_{i}", bias=False)(x) for i, x in enumerate(maps)
    ]
    finer = [*(x.shape[1:3] for x in maps), [2 * n for n in maps[0].shape[1:3]]]
    finer = [finer[-1], *finer[:-1]]  # that of the next finer map
    for step, i in enumerate(reversed(range(len(maps)))):
        x = maps[i]
        if fused is not None:
            x = _added(fused, _residual(x, sizes.width, f"{step}a"), f"{step}")
        x = _residual(x, sizes.width, f"{step}b")
        # Behind the resizing in the paper: the same, as both are linear and weights of
        # an interpolation sum to 1, and here a quarter of the work.
        x = keras.layers.Dense(sizes.width, name=f"decoder_fuse_{step}")(x)
        fused = Resize(finer[i], True, name=f"decoder_resize_{step}")(x)
    head = _depth_head if config.head == "depth" else _class_head
    return head(fused, config, sizes)


def _reassembled(taps, config, sizes):
    """Return the map of each tap, from the finest to the coarsest."""
    project = sizes.readout == "project"
    read = (Readout if project else PatchTokens)(
        config.num_prefix_tokens,
        name="decoder_readout" if project else "decoder_patches",
    )
    maps = []
    for i, (tokens, width) in enumerate(zip(taps, sizes.channels, strict=True)):
        x = read(tokens)
        if project:
            x = keras.layers.Dense(
                config.hidden_size, activation="gelu", name=f"decoder_readout_{i}"
            )(x)
        x = keras.layers.Dense(width, name=f"decoder_project_{i}")(x)
        x = to_map(x, config, f"decoder_map_{i}")
        if i < 2:
            x = expanded(x, width, (4, 2)[i], f"map_{i}")
        elif i == 3:
            x = keras.layers.ZeroPadding2D(1, name="decoder_pad")(x)
            x = keras.layers.Conv2D(width, 3, 2, name="decoder_reduce")(x)
        maps.append(x)
    return maps


def _residual(x, width, name):
    """Compute a residual unit with the activation first."""
    y = x
    for part in "12":
        y = keras.layers.ReLU(name=f"decoder_relu_{name}{part}")(y)
        y = convolution(width, f"residual_{name}{part}")(y)
    return _added(x, y, name)


def _added(x, y, name):
    return keras.layers.Add(name=f"decoder_add_{name}")([x, y])


def _class_head(x, config, sizes):
    x = convolution(sizes.width, "conv", bias=False)(x)
    x = keras.layers.BatchNormalization(
        momentum=0.9, epsilon=EPSILON, name="decoder_norm"
    )(x)
    x = keras.layers.ReLU(name="decoder_relu")(x)
    x = keras.layers.Dropout(config.dropout, name="decoder_dropout")(x)
    x = decoder_head(config)(x)
    return Resize(config.image_size, True, name="decoder_resize", dtype="float32")(x)


def _depth_head(x, config, sizes):
    x = convolution(max(sizes.width // 2, 1), "conv_half")(x)
    x = Resize(config.image_size, True, name="decoder_resize")(x)
    x = convolution(sizes.inputs, "conv_last")(x)
    x = keras.layers.ReLU(name="decoder_relu")(x)
    return decoder_head(config)(x)

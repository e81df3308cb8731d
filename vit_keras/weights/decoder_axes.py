"""Axes of the weights of decoders, as `axes` has those of the encoder.

Beside its letters: G width of all taps together, W and V width of the decoder (twice in
a square kernel), X width of an MLP in it, Q queries, J = K + 1, B = 2 D, Z width before
the last layer, h width in the middle of a depth head, c0..c3 and o0..o3 channels of the
four maps of "dpt". Fixed: kernels y x of 3, a b of 4, r s of 2 pixels.
"""

from ..config import ViTConfig
from ..decoder_sizes import decoder_sizes
from ..heads import DENSE, HEADS

FIXED = {"y": 3, "x": 3, "a": 4, "b": 4, "r": 2, "s": 2}


def norm_weights(path, axis="D"):
    """Return path and axes of the weights of a layer norm."""
    return ((f"{path}/gamma", axis), (f"{path}/beta", axis))


def dense_weights(path, axes):
    """Return path and axes of kernel and bias of a linear layer or a convolution."""
    last = axes[axes.rindex("(") :] if axes.endswith(")") else axes.split()[-1]
    return ((f"{path}/kernel", axes), (f"{path}/bias", last))


def _moving(path, axis):
    return ((f"{path}/moving_mean", axis), (f"{path}/moving_variance", axis))


def is_dense(config: ViTConfig) -> bool:
    """Return whether a model of this configuration has outputs at each pixel."""
    return HEADS[config.head].task in DENSE


def _of(*kinds, head=None, readout=None):
    """Return the condition that a model has one of some decoders."""
    return lambda c: (
        is_dense(c)
        and c.decoder in kinds
        and head in (None, c.head)
        and readout in (None, c.readout)
    )


BLOCK = "decoder_block_{i}"
# Rows of `axes.WEIGHTS`; `{i}` counts the steps or blocks of the decoder.
DECODER_WEIGHTS = (
    *(
        (_of("upconv", "eomt"), rows)
        for rows in (
            dense_weights("decoder_expand_0", "G (r s W)"),
            dense_weights("decoder_expand_{i}", "W (r s V)"),
            (("decoder_depthwise_{i}/kernel", "y x W 1"),),
        )
    ),
    (_of("upconv", "eomt"), norm_weights("decoder_norm_{i}", "W")),
    (_of("upconv"), _moving("decoder_norm_{i}", "W")),
    (_of("eomt"), (("decoder_queries/token", "1 Q D"),)),
    (_of("eomt"), dense_weights("decoder_classes", "D J")),
    *((_of("eomt"), dense_weights(f"decoder_mask_{n}", "W V")) for n in (1, 2, 3)),
    (_of("mask"), dense_weights("decoder_project", "G W")),
    (_of("mask"), (("decoder_class_tokens/token", "1 K W"),)),
    *(
        (_of("mask"), rows)
        for rows in (
            norm_weights(f"{BLOCK}/norm1", "W"),
            *(
                dense_weights(f"{BLOCK}/attention/{name}", "W V")
                for name in ("query", "key", "value", "out")
            ),
            norm_weights(f"{BLOCK}/norm2", "W"),
            dense_weights(f"{BLOCK}/mlp/dense1", "W X"),
            dense_weights(f"{BLOCK}/mlp/dense2", "X W"),
        )
    ),
    (_of("mask"), (("decoder_project_patches/kernel", "W V"),)),
    (_of("mask"), (("decoder_project_classes/kernel", "W V"),)),
    (_of("mask"), norm_weights("decoder_class_norm", "K")),
    *(
        (_of("dpt", readout="project"), dense_weights(f"decoder_readout_{n}", "B D"))
        for n in range(4)
    ),
    *(
        (_of("dpt"), rows)
        for rows in (
            *(dense_weights(f"decoder_project_{n}", f"D c{n}") for n in range(4)),
            dense_weights("decoder_expand_map_0", "c0 (a b o0)"),
            dense_weights("decoder_expand_map_1", "c1 (r s o1)"),
            dense_weights("decoder_reduce", "y x c3 o3"),
            *(((f"decoder_conv_{n}/kernel", f"y x c{n} W"),) for n in range(4)),
            *(
                dense_weights(f"decoder_residual_{unit}{part}", "y x W V")
                for unit in ("0b", "1a", "1b", "2a", "2b", "3a", "3b")
                for part in "12"
            ),
            *(dense_weights(f"decoder_fuse_{n}", "W V") for n in range(4)),
        )
    ),
    (_of("dpt", head="segmentation"), (("decoder_conv/kernel", "y x W V"),)),
    (_of("mask", "dpt", head="segmentation"), norm_weights("decoder_norm", "W")),
    (_of("dpt", head="segmentation"), _moving("decoder_norm", "W")),
    (_of("dpt", head="depth"), dense_weights("decoder_conv_half", "y x W h")),
    (_of("dpt", head="depth"), dense_weights("decoder_conv_last", "y x h Z")),
    (_of("linear", "upconv", "dpt"), dense_weights("decoder_head", "Z K")),
)


def decoder_letters(config: ViTConfig) -> dict[str, int]:
    """Return the size of each letter of a decoder's weights."""
    sizes, hidden = decoder_sizes(config), config.hidden_size
    width = hidden if config.decoder == "eomt" else sizes.width
    return {
        **FIXED,
        "G": len(config.tap_blocks) * hidden,
        "W": width,
        "V": width,
        "X": 4 * width,
        "S": sizes.depth if config.decoder == "mask" else sizes.steps,
        "Q": sizes.queries,
        "J": config.classes + 1,
        "B": 2 * hidden,
        "Z": sizes.inputs,
        "h": max(width // 2, 1),
        **{f"c{n}": channels for n, channels in enumerate(sizes.channels)},
        **{f"o{n}": channels for n, channels in enumerate(sizes.channels)},
    }

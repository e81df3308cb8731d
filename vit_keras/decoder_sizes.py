"""What decoders take from a `ViTConfig`: their options, and the sizes that follow."""

import dataclasses

READOUTS = ("ignore", "project")
MAPS = 4  # of "dpt", each from a tap of its own

# decoder: its options, and what None means; of `decoder_channels` see `decoder_sizes`.
OPTIONS = {
    "linear": {},
    "upconv": {"decoder_width": 64, "decoder_depth": 2},
    "mask": {"decoder_width": None, "decoder_depth": 2},
    "dpt": {"decoder_width": 64, "decoder_channels": None, "readout": "ignore"},
    "eomt": {"decoder_depth": 4, "decoder_queries": 100},
}
DECODERS = tuple(OPTIONS)
FIELDS = sorted({name for options in OPTIONS.values() for name in options})
# Arguments of a model that only decoders read.
OF_DECODERS = ("decoder", "taps", "tap_norm", "max_depth", "depth_type", *FIELDS)


@dataclasses.dataclass(frozen=True)
class DecoderSizes:
    """Sizes of a decoder.

    Attributes:
        width: channels inside, W.
        depth: of "mask" and "eomt", blocks that are computed with queries.
        steps: of "upconv" and "eomt", that double the resolution.
        channels: of "dpt", those of the map of each tap.
        queries: of "eomt", Q.
        heads: of the attention in "mask".
        readout: of "dpt", what becomes of the class token.
        inputs: channels that the last layer reads.
    """

    width: int
    depth: int
    steps: int
    channels: tuple[int, ...]
    queries: int
    heads: int
    readout: str
    inputs: int


def decoder_sizes(config) -> DecoderSizes:
    """Return the sizes of the decoder of a `ViTConfig`, defaults filled in."""
    options = OPTIONS[config.decoder]

    def option(name, default):
        value = getattr(config, name)
        return options.get(name) or default if value is None else value

    hidden, kind = config.hidden_size, config.decoder
    width, depth = option("decoder_width", hidden), option("decoder_depth", 0)
    # As EoMT: patches of 16 pixels end at stride 4.
    steps = {"upconv": depth, "eomt": max(1, config.patch_size[0].bit_length() - 3)}
    inputs = {"linear": len(config.tap_blocks) * hidden}
    return DecoderSizes(
        width=width,
        depth=depth,
        steps=steps.get(kind, 0),
        channels=option(
            "decoder_channels", tuple(max(hidden // n, 1) for n in (8, 4, 2, 1))
        ),
        queries=option("decoder_queries", 0),
        heads=max(width // head_width(config), 1),
        readout=option("readout", "ignore"),
        inputs=32
        if kind == "dpt" and config.head == "depth"
        else inputs.get(kind, width),
    )


def head_width(config) -> int:
    """Return the width of one attention head, d."""
    return config.head_dim or config.hidden_size // config.num_heads


def check_decoder(config) -> None:
    """Check the options of the decoder of a `ViTConfig`.

    Raises:
        ValueError: one is of another decoder, or does not fit.
    """
    kind, blocks = config.decoder, len(config.tap_blocks)
    for name in FIELDS:
        if getattr(config, name) is not None and name not in OPTIONS[kind]:
            fitting = [other for other in DECODERS if name in OPTIONS[other]]
            raise ValueError(
                f"`{name}` must be None for decoder={kind!r}: it is an option of "
                f"{', '.join(fitting)}. Received: {name}={getattr(config, name)!r}"
            )
    channels = config.decoder_channels
    if channels is not None and not (
        isinstance(channels, tuple)
        and len(channels) == MAPS
        and all(type(c) is int and c > 0 for c in channels)
    ):
        raise ValueError(
            f"`decoder_channels` must be {MAPS} positive integers. "
            f"Received: decoder_channels={channels!r}"
        )
    if config.readout not in (None, *READOUTS):
        raise ValueError(
            f"`readout` must be one of {', '.join(READOUTS)}. "
            f"Received: readout={config.readout!r}"
        )
    if config.readout == "project" and not config.class_token:
        raise ValueError(
            "`readout` must be 'ignore' for a model without class token. "
            "Received: readout='project'"
        )
    if kind in ("mask", "eomt") and config.head == "depth":
        fitting = [name for name in DECODERS if name not in ("mask", "eomt")]
        raise ValueError(
            f"`decoder` must be one of {', '.join(fitting)} for head='depth': {kind!r} "
            "has outputs of classes alone"
        )
    wanted = {"dpt": MAPS, "eomt": 1}.get(kind)
    if wanted not in (None, blocks):
        raise ValueError(
            f"`taps` must be {wanted} for decoder={kind!r}, or the indices of as many "
            f"blocks. Received: taps={config.taps!r}"
        )
    sizes = decoder_sizes(config)
    if kind == "mask" and sizes.width % head_width(config):
        raise ValueError(
            "`decoder_width` must be a multiple of the width of the encoder's heads, "
            f"{head_width(config)}, for decoder='mask'. Received: decoder_width="
            f"{config.decoder_width}"
        )
    if kind == "eomt" and sizes.depth > config.num_layers:
        raise ValueError(
            "`decoder_depth` must be at most num_layers for decoder='eomt': so many of "
            f"the last blocks are computed with queries. Received: {sizes.depth}, "
            f"num_layers={config.num_layers}"
        )

"""Checks of a `ViTConfig`: numbers, choices, and values that do not fit together."""

from .decoder_sizes import DECODERS as DECODERS
from .decoder_sizes import check_decoder
from .heads import DENSE, DEPTH_TYPES, HEADS, check_head
from .preprocessing import Preprocessing
from .rotary_positions import ROTARY

POOLINGS = ("token", "gap", "map", "max", None)
POSITIONS = ("learned", "sincos2d", "none")
MLP_ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "tanh")


def as_pair(name, value) -> tuple[int, int]:
    """Return an int or a pair of ints as a (height, width) tuple."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(type(v) is int and v > 0 for v in pair):
        raise ValueError(
            f"`{name}` must be a positive integer or a pair (height, width) of them. "
            f"Received: {name}={value!r}"
        )
    return pair


def check_config(config) -> None:
    """Check all fields of a `ViTConfig`.

    Raises:
        ValueError: a value or a combination is invalid.
    """
    _check_numbers(config)
    _check_choices(config)
    _check_combinations(config)


def _check_numbers(config):
    positive = ["channels", "num_layers", "hidden_size", "num_heads", "mlp_dim"]
    positive += ["classes"]
    optional = ("head_dim", "representation_size", "decoder_width", "decoder_depth")
    optional += ("decoder_queries", "pool_heads")
    positive += [n for n in optional if getattr(config, n) is not None]
    for name in positive:
        _require_int(name, getattr(config, name), 1)
    _require_int("num_register_tokens", config.num_register_tokens, 0)
    for name in ("dropout", "attention_dropout", "drop_path_rate"):
        if not (_is_number(getattr(config, name)) and 0 <= getattr(config, name) < 1):
            raise ValueError(
                f"`{name}` must be in [0, 1). "
                f"Received: {name}={getattr(config, name)!r}"
            )
    for name in ("max_depth", "rotary_temperature"):
        value = getattr(config, name)
        if value is not None and not (_is_number(value) and value > 0):
            raise ValueError(
                f"`{name}` must be above 0, or None. Received: {name}={value!r}"
            )
    value = config.layer_scale_init_value
    if value is not None and not _is_number(value):
        raise ValueError(
            "`layer_scale_init_value` must be a number or None. "
            f"Received: layer_scale_init_value={value!r}"
        )
    if not isinstance(config.preprocessing, Preprocessing):
        raise ValueError(
            "`preprocessing` must be a Preprocessing. "
            f"Received: preprocessing={config.preprocessing!r}"
        )
    if not (_is_number(config.norm_epsilon) and config.norm_epsilon > 0):
        raise ValueError(
            "`norm_epsilon` must be above 0. "
            f"Received: norm_epsilon={config.norm_epsilon!r}"
        )


def _check_choices(config):
    for name, valid in (
        ("pooling", POOLINGS),
        ("head", tuple(HEADS)),
        ("positions", POSITIONS),
        ("rotary", (None, *ROTARY)),
        ("representation_activation", ("tanh", "linear")),
        ("decoder", DECODERS),
        ("depth_type", DEPTH_TYPES),
        ("mlp_activation", MLP_ACTIVATIONS),
        ("mlp_out_activation", (None, *MLP_ACTIVATIONS)),
    ):
        if getattr(config, name) not in valid:
            raise ValueError(
                f"`{name}` must be one of {valid}. "
                f"Received: {name}={getattr(config, name)!r}"
            )


def _check_combinations(config):
    (height, width), (patch_h, patch_w) = config.image_size, config.patch_size
    if height % patch_h or width % patch_w:
        raise ValueError(
            "`image_size` must be a multiple of `patch_size`. "
            f"Received: image_size={config.image_size}, patch_size={config.patch_size}"
        )
    if config.head_dim is None and config.hidden_size % config.num_heads:
        raise ValueError(
            "`hidden_size` must be a multiple of `num_heads`, or `head_dim` given. "
            f"Received: hidden_size={config.hidden_size}, num_heads={config.num_heads}"
        )
    if config.positions == "sincos2d" and config.hidden_size % 4:
        raise ValueError(
            "`hidden_size` must be a multiple of 4 for positions='sincos2d'. "
            f"Received: hidden_size={config.hidden_size}"
        )
    if config.pooling == "token" and not config.class_token:
        raise ValueError(
            "`class_token` must not be False when pooling='token'. "
            "Use pooling='gap' or 'map' for a model without class token."
        )
    if config.distillation_token and config.pooling != "token":
        raise ValueError(
            "`pooling` must be 'token' when distillation_token=True. "
            f"Received: pooling={config.pooling!r}"
        )
    if config.fc_norm and (config.pooling is None or config.distillation_token):
        raise ValueError(
            "`fc_norm` must be False for pooling=None or distillation_token=True: "
            f"it needs one vector per image. Received: pooling={config.pooling!r}"
        )
    dense = HEADS[config.head].task in DENSE
    _check_families(config)
    _check_taps(config)
    _check_token_merging(config)
    _check_tome(config)
    check_decoder(config)
    if config.max_depth is not None and config.head != "depth":
        raise ValueError(
            "`max_depth` must be None for another head than 'depth'. "
            f"Received: max_depth={config.max_depth!r}, head={config.head!r}"
        )
    if config.depth_type != "metric" and config.head != "depth":
        raise ValueError(
            "`depth_type` must be 'metric' for another head than 'depth'. "
            f"Received: depth_type={config.depth_type!r}, head={config.head!r}"
        )
    if config.pooling is None and config.include_top and not dense:
        raise ValueError(
            "`pooling` must be 'token', 'gap' or 'map' when include_top=True: "
            "a head needs one vector per image. Received: pooling=None"
        )
    if config.include_top:
        check_head(config.head, config.classes, config.activation)
    names = HEADS[config.head].names(config.classes)
    if config.labels is not None and len(config.labels) != names:
        raise ValueError(
            f"`labels` must be {names} names for classes={config.classes} and "
            f"head={config.head!r}. Received: {len(config.labels)} names"
        )
    if len(config.preprocessing.mean) != config.channels:
        raise ValueError(
            "`preprocessing` must have one mean and std per channel. Received: "
            f"channels={config.channels}, mean={config.preprocessing.mean}"
        )


def _check_families(config):
    """Check options that only some families of models have."""
    for wrong, text in (
        (
            config.rotary is None and (config.rotary_temperature or config.rotary_grid),
            "`rotary` must be given with `rotary_temperature` and `rotary_grid`",
        ),
        (
            config.rotary is not None and config.rotary_width % 4,
            "the width of a head must be a multiple of 4 for `rotary` positions: "
            f"`head_dim`, or hidden_size / num_heads, is {config.rotary_width}",
        ),
        (
            config.rotary is not None and config.decoder == "eomt",
            "`rotary` must be None for decoder='eomt'",
        ),
        (
            config.post_norm and config.layer_scale_init_value is not None,
            "`layer_scale_init_value` must be None with post_norm=True, whose norms "
            "scale the branches",
        ),
        (
            config.pooling == "max" and config.fc_norm,
            "`fc_norm` must be False for pooling='max'",
        ),
        (
            config.pooling != "map" and (config.pool_heads or config.pool_prefix),
            "`pooling` must be 'map' with `pool_heads` or `pool_prefix`",
        ),
        (
            config.unit_norm and (config.pooling is None or config.distillation_token),
            "`unit_norm` must be False for pooling=None or distillation_token=True: it "
            "needs one vector per image",
        ),
    ):
        if wrong:
            raise ValueError(text)


def _check_taps(config):
    last, taps = config.num_layers - 1, config.taps
    if isinstance(taps, tuple):
        ints = all(type(i) is int and 0 <= i <= last for i in taps)
        # Blocks behind the last tap would be of no use.
        good = ints and taps[-1:] == (last,) and list(taps) == sorted(set(taps))
    else:
        good = type(taps) is int and 0 < taps <= config.num_layers
    if not good:
        raise ValueError(
            f"`taps` must be a number of blocks from 1 to {last + 1}, or indices "
            f"of blocks in rising order that end with {last}, the last one. "
            f"Received: taps={taps!r}"
        )


def _check_token_merging(config):
    given, last = config.token_merging, config.num_layers - 1
    pairs = isinstance(given, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 and all(type(v) is int for v in pair)
        for pair in given
    )
    blocks = [pair[0] for pair in given] if pairs else [-1]
    rising = blocks == sorted(set(blocks)) and all(0 <= b <= last for b in blocks)
    if not rising or any(k < 2 for _, k in given):
        raise ValueError(
            "`token_merging` must be pairs (blocks before it, k) of integers, "
            f"blocks in rising order from 0 to {last} and k at least 2. "
            f"Received: token_merging={given!r}"
        )
    refused = {"rotary": config.rotary is not None, "decoder": config.decoder == "eomt"}
    for name in (name for name, wrong in refused.items() if wrong and given):
        raise ValueError(
            f"`token_merging` must be () with {name}={getattr(config, name)!r}. "
            f"Received: token_merging={given!r}"
        )
    grid = config.grid
    for _, k in given:
        if k > 2 and (grid[0] % k or grid[1] % k) or 1 in grid:
            raise ValueError(
                "`token_merging` must have k = 2, or one that divides the grid, and a "
                f"grid of 2 rows and columns at least. Received: k={k}, grid={grid}"
            )
        grid = tuple(-(-size // k) for size in grid)


def _check_tome(config):
    given = config.tome
    numbers = isinstance(given, tuple) and all(type(r) is int and r >= 0 for r in given)
    if not numbers or len(given) not in (0, config.num_layers):
        raise ValueError(
            "`tome` must be (), or a tuple of integers >= 0, one for each of "
            f"{config.num_layers} blocks. Received: tome={given!r}"
        )
    left = config.grid[0] * config.grid[1]
    for block, merged in enumerate(given):
        if merged > left // 2:
            raise ValueError(
                "`tome` must merge at most half of the patches that a block takes: "
                f"block {block} has {left}. Received: tome={given!r}"
            )
        left -= merged
    for name, valid in (
        ("rotary", (None,)),
        ("token_merging", ((),)),
        ("pooling", ("token", "gap")),
    ):
        if given and getattr(config, name) not in valid:
            raise ValueError(
                f"`tome` must be () with {name}={getattr(config, name)!r}. "
                f"Received: tome={given!r}"
            )


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _require_int(name, value, least):
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"`{name}` must be an integer >= {least}. Received: {name}={value!r}"
        )

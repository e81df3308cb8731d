"""Derivation of the `ViTConfig` of a recognised checkpoint."""

import math
from typing import Any

from ..config import ViTConfig, as_pair
from ..decoder_sizes import FIELDS, OPTIONS
from ..heads import DENSE, HEADS
from ..preprocessing import Preprocessing
from ..presets import PRESETS
from .entries import CheckpointError
from .recognise import CORE, Match, name_of
from .size_limit import refuse_large
from .told import PAIRS

# Arrays whose shapes determine the configuration; the first three are required.
SHAPED = (
    *CORE,
    "encoderblock_0/mlp/dense1/kernel",
    "posembed_input/embedding",
    "register_tokens/token",
)


def count_tokens(match: Match, path) -> int:
    """Return how many tokens are in the array of one of our token weights."""
    return (1, 1, *match.shape(path))[-2]


def find_positions(match: Match, grids=()) -> tuple[int, tuple[int, int]]:
    """Find the number of prefix tokens with positions, and the grid of patches.

    Arguments:
        match: a checkpoint with positions.
        grids: likely grids, tried before a square one, and after the grid in the file
            or its settings.

    Raises:
        CheckpointError: no grid fits the number of positions.
    """
    total = match.shape("posembed_input/embedding")[-2]
    tokens = match.layout.position_tokens
    if any(row.theirs == "register_tokens" for row, _ in match.arrays.values()):
        tokens = ("class_token",)  # Meta's DINOv2; other names are as in timm
    counts = {
        name: count_tokens(match, f"{name}/token")
        for name in ("class_token", "distillation_token", "register_tokens")
        if f"{name}/token" in match.weights
    }
    options = {sum(counts.values()): None, 0: None}  # all tokens, or none
    if tokens is not None:
        options = {sum(counts[name] for name in counts if name in tokens): None}
    for grid in told_grid(match):
        for prefix in options:
            if total - prefix == math.prod(grid):
                return prefix, grid
    for prefix in options:
        for grid in grids:
            if total - prefix == math.prod(grid):
                return prefix, tuple(grid)
        side = math.isqrt(max(total - prefix, 0))
        if side and side * side == total - prefix:
            return prefix, (side, side)
    raise CheckpointError(
        f"'{match.checkpoint.path}' has {total} positions, for {sum(counts.values())} "
        "prefix tokens and no square of patches: give its `image_size`"
    )


def told_grid(match: Match) -> list[tuple[int, int]]:
    """Return the grid in the file's configuration or settings, if any, in a list."""
    if match.checkpoint.config is not None:
        return [match.checkpoint.config.grid]
    told = match.told
    patch = told.get("patch_size")
    if "p" in match.sizes:
        patch = match.sizes["p"], match.sizes["q"]
    if "image_size" not in told or patch is None:
        return []
    height, width = told["image_size"]
    return [(height // patch[0], width // patch[1])]


def describe(match: Match, **given: Any) -> ViTConfig:
    """Derive the configuration of a checkpoint.

    Arguments:
        match: from `recognise`.
        **given: fields of `ViTConfig` that override the file, or that it does not
            determine (`num_heads`, `image_size`, `patch_size`).

    Raises:
        CheckpointError: the file does not tell enough; the message says what to give.
        ValueError: the fields do not fit together.
    """
    if match.checkpoint.config is not None:
        return match.checkpoint.config.replace(**given)
    layout, weights, sizes = match.layout, match.weights, dict(match.sizes)
    for name in PAIRS & given.keys():
        given[name] = as_pair(name, given[name])
    _check_told(match)
    fields: dict[str, Any] = layout.implies(weights)
    prep = fields.pop("preprocessing", {})
    told = match.told
    fields |= _sizes(match, sizes, {**told, **given})
    dense = HEADS[fields.get("head", "softmax")].task in DENSE
    if dense:
        fields |= _decoder(match, fields)
    bias = {
        part: f"encoderblock_0/attention/{part}/bias" in weights
        for part in ("query", "key", "value")
    }
    fields |= {
        "class_token": "class_token/token" in weights,
        "distillation_token": "distillation_token/token" in weights,
        "num_register_tokens": sizes.get("R", 0),
        "pre_norm": "pre_norm/gamma" in weights,
        "fc_norm": "fc_norm/gamma" in weights,
        "qk_norm": "encoderblock_0/attention/query_norm/gamma" in weights,
        "qkv_bias": any(bias.values()),
        "key_bias": bias["key"] or not any(bias.values()),
        "attention_norm": "encoderblock_0/attention/inner_norm/gamma" in weights,
        "mlp_norm": "encoderblock_0/mlp/inner_norm/gamma" in weights,
        "mlp_gated": "encoderblock_0/mlp/gate/kernel" in weights,
        "include_top": dense
        or ("head/kernel" in weights and "head/kernel" not in match.misfits),
    }
    if "register_tokens/token" in weights and "R" not in sizes:
        fields["num_register_tokens"] = count_tokens(match, "register_tokens/token")
    if "encoderblock_0/layer_scale1/gamma" in weights:
        fields["layer_scale_init_value"] = 1e-5  # replaced by the file's values
    if "pre_logits/kernel" in weights and "F" in sizes:
        fields["representation_size"] = sizes["F"]
    fields["pooling"] = fields.get("pooling") or (
        "map"
        if "pooling/probe" in weights
        else "token"
        if fields["class_token"] and not fields["fc_norm"]
        else "gap"
    )
    channels = fields["channels"]
    if channels != 3 and "mean" not in prep:
        prep = {**prep, "mean": (0.5,) * channels, "std": (0.5,) * channels}
    fields["preprocessing"] = match.checkpoint.preprocessing or Preprocessing(**prep)
    fields |= {k: v for k, v in told.items() if k != "patch_size"}
    means = len(fields["preprocessing"].mean)
    if means != channels and not {"preprocessing", "channels"} & given.keys():
        raise CheckpointError(
            f"'{match.checkpoint.path}' has {channels} channels, and its settings "
            f"{means} means of pixels: give its `preprocessing`"
        )
    if fields["distillation_token"]:
        fields["pooling"] = "token"
    if fields["pooling"] is None:
        fields["include_top"] = False
    # Without this head there are none of its classes.
    other = given.get("classes", fields["classes"]) != fields["classes"]
    if other or not fields["include_top"] or fields.get("head") == "depth":
        fields.pop("labels", None)
    fields |= _positions(match, {**fields, **given})
    if given.get("decoder", fields.get("decoder")) != fields.get("decoder"):
        for name in ("taps", "depth_type", *FIELDS):  # of the file's decoder
            fields.pop(name, None)
    try:
        config = ViTConfig().replace(**{**fields, **given})
    except ValueError as error:
        if given:
            raise
        raise CheckpointError(
            f"'{match.checkpoint.path}' and its settings do not fit together: {error}"
        ) from error
    refuse_large(config, match.checkpoint.path)
    return config


def tells_heads(match: Match) -> bool:
    """Return whether a checkpoint determines the number of heads."""
    if match.checkpoint.config is not None or {"H", "d"} & match.sizes.keys():
        return True
    return "num_heads" in match.told


def tells_preprocessing(match: Match) -> bool:
    """Return whether a checkpoint, or a file beside it, tells the preprocessing."""
    checkpoint = match.checkpoint
    if checkpoint.config is not None or checkpoint.preprocessing is not None:
        return True
    return "preprocessing" in match.told


def _check_told(match):
    """Check that the arrays that determine the sizes are present."""
    wrong = [match.misfits[path] for path in SHAPED if path in match.misfits]
    wrong += [
        f"{name_of(match.layout, path)} is missing"
        for path in SHAPED[:3]
        if path not in match.weights
    ]
    if wrong:
        raise CheckpointError(
            f"'{match.checkpoint.path}' does not tell its sizes: {'; '.join(wrong)}"
        )


def _sizes(match, sizes, hints):
    """Return fields that are sizes, from the letters."""
    if "p" not in sizes or "q" not in sizes:  # a flattened patch: p * q * C
        _flat_patch(match, sizes, hints)
    width, inner = sizes["D"], sizes["E"]
    heads = hints.get("num_heads") or sizes.get("H") or _heads(match, inner, sizes)
    return {
        "patch_size": (sizes["p"], sizes["q"]),
        "channels": sizes["C"],
        "hidden_size": width,
        "num_layers": sizes["L"],
        "num_heads": heads,
        "head_dim": None if inner == width else inner // heads,
        "mlp_dim": sizes["M"],
        "classes": sizes.get("K", 1000),
    }


def _decoder(match, fields):
    """Return fields of the decoder in a file, from the letters."""
    sizes, options = match.sizes, OPTIONS[fields.get("decoder", "linear")]
    maps = [sizes[f"c{n}"] for n in range(4) if f"c{n}" in sizes]
    found = {
        "decoder_width": sizes.get("W"),
        "decoder_depth": sizes.get("S"),
        "decoder_queries": sizes.get("Q"),
        "decoder_channels": tuple(maps) or None,
    }
    found = {name: found[name] for name in options if name in found}
    taps = sizes.get("Z" if options == {} else "G", 0) // sizes["D"]
    if taps > 1:  # "linear" and "mask" read the last ones, if nothing says otherwise
        found["taps"] = tuple(range(sizes["L"] - taps, sizes["L"]))
    if "J" in sizes:
        found |= {"classes": sizes["J"] - 1, "decoder_depth": None}
    return found


def _heads(match, inner, sizes):
    """Return the number of heads that no shape tells, from the papers' widths."""
    if "d" in sizes:
        return inner // sizes["d"]
    if inner == sizes["D"]:
        for preset in PRESETS.values():
            if preset.config.hidden_size == inner:
                return preset.config.num_heads
    elif inner % 64 == 0:  # vit-pytorch's default head width
        return inner // 64
    raise CheckpointError(
        f"'{match.checkpoint.path}' does not tell the number of heads of its width "
        f"{inner}: give `num_heads`"
    )


def _flat_patch(match, sizes, hints):
    """Split p * q * C by the given sizes, else into a square with 3 or 1 channels."""
    size = match.shape("embedding/kernel")[-1]
    patch, channels = hints.get("patch_size"), (hints.get("channels"), 3, 1)
    if patch is not None:
        p, q = patch
        sizes |= {"p": p, "q": q, "C": size // (p * q)}
    for count in filter(None, channels):
        side = math.isqrt(size // count)
        if "p" not in sizes and side * side * count == size:
            sizes |= {"p": side, "q": side, "C": count}
    if "p" not in sizes or sizes["p"] * sizes["q"] * sizes["C"] != size:
        raise CheckpointError(
            f"'{match.checkpoint.path}' has patches of {size} values: give `patch_size`"
        )


def _positions(match, fields):
    """Return `positions`, `position_prefix` and `image_size`."""
    p, q = fields["patch_size"]
    size = fields.get("image_size")
    if "posembed_input/embedding" not in match.weights:
        found = fields.get("positions", match.layout.without_positions)
        if found in (None, "learned"):
            name = name_of(match.layout, "posembed_input/embedding")
            raise CheckpointError(
                f"'{match.checkpoint.path}' has no positions ({name}): its network may "
                "have rotary ones, or none. assume={'positions': 'sincos2d'} says that "
                "it computes those, assume={'positions': 'none', 'rotary': 'dinov3'} "
                "that it turns queries and keys"
            )
        found = {"positions": found}
        return found if size else {**found, "image_size": (14 * p, 14 * q)}
    grids = [(size[0] // p, size[1] // q)] if size else []
    prefix, (rows, columns) = find_positions(match, grids)
    tokens = fields["class_token"] + fields["distillation_token"]
    tokens += fields["num_register_tokens"]
    return {
        "position_prefix": prefix == tokens,
        "image_size": size or (rows * p, columns * q),
    }

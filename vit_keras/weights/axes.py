"""Axes of the models' weights, and conversion of arrays with other axes.

Axes are einops patterns over one-letter sizes. D width of a token, H heads, d width
of one head, E = H * d, M width of the MLP, C colour channels, p x q patch, K classes,
R register tokens, F width of `pre_logits`, T positions (prefix and patches).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import einops
import numpy as np

from ..config import ViTConfig
from .decoder_axes import (
    DECODER_WEIGHTS,
    FIXED,
    decoder_letters,
    dense_weights,
    is_dense,
    norm_weights,
)

# Every weight of a model of this package: condition, path and axes.
# `{i}` counts the encoder blocks.
BLOCK = "encoderblock_{i}"
WEIGHTS: tuple[tuple[Callable[[ViTConfig], Any], tuple], ...] = (
    (lambda c: True, dense_weights("embedding", "p q C D")),
    (lambda c: c.patch_norm, norm_weights("embedding/norm_before", "(p q C)")),
    (lambda c: c.patch_norm, norm_weights("embedding/norm_after")),
    (lambda c: c.num_register_tokens, (("register_tokens/token", "1 R D"),)),
    (lambda c: c.distillation_token, (("distillation_token/token", "1 1 D"),)),
    (lambda c: c.class_token, (("class_token/token", "1 1 D"),)),
    (lambda c: c.positions == "learned", (("posembed_input/embedding", "1 T D"),)),
    (lambda c: c.pre_norm, norm_weights("pre_norm")),
    (lambda c: True, norm_weights(f"{BLOCK}/norm1")),
    *(
        (condition, (row,))
        for name, has_bias in (
            ("query", lambda c: c.qkv_bias),
            ("key", lambda c: c.qkv_bias and c.key_bias),
            ("value", lambda c: c.qkv_bias),
        )
        for condition, row in zip(
            (lambda c: True, has_bias),
            dense_weights(f"{BLOCK}/attention/{name}", "D E"),
            strict=True,
        )
    ),
    (lambda c: c.qk_norm, norm_weights(f"{BLOCK}/attention/query_norm", "d")),
    (lambda c: c.qk_norm, norm_weights(f"{BLOCK}/attention/key_norm", "d")),
    (lambda c: c.attention_norm, norm_weights(f"{BLOCK}/attention/inner_norm", "E")),
    (lambda c: True, dense_weights(f"{BLOCK}/attention/out", "E D")),
    (lambda c: _scaled(c), ((f"{BLOCK}/layer_scale1/gamma", "D"),)),
    (lambda c: True, norm_weights(f"{BLOCK}/norm2")),
    (lambda c: True, dense_weights(f"{BLOCK}/mlp/dense1", "D M")),
    (lambda c: c.mlp_gated, dense_weights(f"{BLOCK}/mlp/gate", "D M")),
    (lambda c: c.mlp_norm, norm_weights(f"{BLOCK}/mlp/inner_norm", "M")),
    (lambda c: True, dense_weights(f"{BLOCK}/mlp/dense2", "M D")),
    (lambda c: _scaled(c), ((f"{BLOCK}/layer_scale2/gamma", "D"),)),
    (
        lambda c: not c.fc_norm and (c.tap_norm or not is_dense(c)),
        norm_weights("encoder_norm"),
    ),
    (lambda c: _pools(c, "map"), (("pooling/probe", "1 1 D"),)),
    *(
        (lambda c: _pools(c, "map"), rows)
        for rows in (
            dense_weights("pooling/attention/query", "D E"),
            dense_weights("pooling/attention/key", "D E"),
            dense_weights("pooling/attention/value", "D E"),
            dense_weights("pooling/attention/out", "E D"),
            norm_weights("pooling/norm"),
            dense_weights("pooling/mlp/dense1", "D M"),
            dense_weights("pooling/mlp/dense2", "M D"),
        )
    ),
    (lambda c: c.fc_norm and not is_dense(c), norm_weights("fc_norm")),
    (
        lambda c: c.representation_size and _pools(c),
        dense_weights("pre_logits", "D F"),
    ),
    (lambda c: c.include_top and not is_dense(c), dense_weights("head", "F K")),
    (
        lambda c: c.include_top and c.distillation_token and not is_dense(c),
        dense_weights("head_dist", "D K"),
    ),
    *DECODER_WEIGHTS,
)
AXES = {path: axes for _, rows in WEIGHTS for path, axes in rows}


def _scaled(config):
    return config.layer_scale_init_value is not None


def _pools(config, pooling=None):
    """Return whether the tokens become one vector, in this way or in any."""
    return not is_dense(config) and (
        config.pooling == pooling if pooling else config.pooling
    )


def config_of(model) -> ViTConfig:
    """Return the configuration of a model of this package.

    Raises:
        ValueError: `model` is of another kind.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, ViTConfig):
        raise ValueError(
            "`model` must come from vit_keras.create_model (or from_checkpoint). "
            f"Received: {model!r}"
        )
    return config


def sizes_of(config: ViTConfig) -> dict[str, int]:
    """Return the size of each axis letter in a model."""
    inner = config.num_heads * (
        config.head_dim or config.hidden_size // config.num_heads
    )
    positions = config.grid[0] * config.grid[1]
    if config.position_prefix:
        positions += config.num_prefix_tokens
    return {
        "D": config.hidden_size,
        "H": config.num_heads,
        "d": inner // config.num_heads,
        "E": inner,
        "M": config.mlp_dim,
        "C": config.channels,
        "p": config.patch_size[0],
        "q": config.patch_size[1],
        "K": config.classes,
        "R": config.num_register_tokens,
        "F": config.representation_size or config.hidden_size,
        "T": positions,
        **decoder_letters(config),
    }


def shapes_of(config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Return path and shape of every weight of `create_model(config)`."""
    sizes, shapes = sizes_of(config), {}
    for exists, rows in WEIGHTS:
        if not exists(config):
            continue
        for path, axes in rows:
            shape = shape_of(axes, sizes)
            count = config.num_layers if path.startswith(BLOCK) else sizes["S"]
            for i in range(count) if "{i}" in path else (0,):
                shapes.setdefault(path.format(i=i), shape)
    width = config.hidden_size
    for before, factor in config.token_merging:  # which no layout of others has
        shapes[f"token_merging_{before}/kernel"] = (factor, factor, width, width)
        shapes[f"token_merging_{before}/bias"] = (width,)
    return shapes


def axes_of(path: str) -> str:
    """Return the axes of a model's weight, by its path."""
    return AXES[path if path in AXES else re.sub(r"_\d+/", "_{i}/", path)]


def tokens_of(axes: str) -> list[str]:
    """Split a pattern: `"(qkv E) D"` -> `["(qkv E)", "D"]`."""
    return re.findall(r"\([^)]*\)|\S+", axes)


def shape_of(axes: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of axes, given the size of each letter."""

    def size(letter):
        return int(letter) if letter.isdigit() else sizes[letter]

    return tuple(
        int(np.prod([size(letter) for letter in token.strip("()").split()]))
        for token in tokens_of(axes)
    )


def bind(axes: str, shape, known: Mapping[str, int]) -> dict[str, int]:
    """Infer the size of each letter from the shape of one array.

    Arguments:
        axes: the pattern.
        shape: of the array.
        known: sizes that are known already; they must agree.

    Returns:
        The sizes that follow from this array.

    Raises:
        ValueError: another number of axes, or a contradiction.
    """
    tokens, found = tokens_of(axes), {}
    if len(tokens) != len(shape):
        raise ValueError(f"has {len(shape)} axes, not {len(tokens)} ({axes})")
    for token, size in zip(tokens, shape, strict=True):
        letters = token.strip("()").split()
        sizes = {**known, **found}
        fixed = [int(x) if x.isdigit() else sizes.get(x) for x in letters]
        product = int(np.prod([x for x in fixed if x is not None], dtype="int64"))
        unknown = [x for x, f in zip(letters, fixed, strict=True) if f is None]
        if (not unknown and product != size) or (product and size % product):
            raise ValueError(f"has shape {tuple(shape)}, which does not fit ({axes})")
        if len(unknown) == 1 and product:
            found[unknown[0]] = size // product
    return found


def _convert(array, source, target, sizes):
    """Rearrange by einops, given the sizes of letters that share a source axis.

    What the target alone has is repeated: the bias of a transposed convolution is that
    of each of its pixels.
    """
    grouped = " ".join(t.strip("()") for t in tokens_of(source) if t[0] == "(").split()
    given = {letter: sizes[letter] for letter in grouped if letter in sizes}
    more = set(re.findall(r"\w+", target)) - set(re.findall(r"\w+", source))
    given |= {letter: FIXED[letter] for letter in more & FIXED.keys()}
    return einops.repeat(array, f"{source} -> {target}", **given)


def _patterns(axes, path):
    """Return patterns of a file's array and of our weights in it, counted by `n`."""
    theirs = re.sub(r"\bL\b", "n", axes)
    ours = axes_of(path)
    if re.search(r"\bH\b", theirs):
        ours = re.sub(r"\bE\b", "(H d)", ours)
    counted = bool(re.search(r"\bn\b", theirs))
    return theirs, f"n {ours}" if counted else ours, counted


def to_ours(array, axes: str, paths: list[str], sizes) -> list[np.ndarray]:
    """Split and transpose an array of a file into our weights.

    Arguments:
        array: from the file.
        axes: its pattern.
        paths: of the weights in it, in the order of its counting axis.
        sizes: of the letters.

    Returns:
        One array for each path; views where possible.
    """
    theirs, ours, counted = _patterns(axes, paths[0])
    sizes = {**sizes, "n": len(paths)}
    result = _convert(array, theirs, ours, sizes)
    return list(result) if counted else [result]


def to_theirs(arrays: list[np.ndarray], axes: str, path: str, sizes) -> np.ndarray:
    """Join and transpose our weights to one array of a file."""
    theirs, ours, counted = _patterns(axes, path)
    array = np.stack(arrays) if counted else arrays[0]
    return _convert(array, ours, theirs, {**sizes, "n": len(arrays)})

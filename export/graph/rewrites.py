"""Exact rewrites of the weights that make a graph cheaper or fit for int8.

Each function states its formula, changes a `Weights` in place, and returns whether it
applied. The model's output stays the same up to rounding. `REWRITES` gives the order.
"""

from typing import Any

import numpy as np

from .orthogonal import orthogonal
from .vit_weights import Attention, Linear, Norm, Weights


def fold_input(weights: Weights) -> bool:
    """Fold the pixels' scale and offset into the patch projection: `W' = scale * W`,
    `b' = b + offset @ W`. A norm of the patches removes them itself if they are the
    same for all channels: `LN(s x + o, eps) = LN(x, eps / s^2)`."""
    if weights.scale is None or weights.offset is None:
        return False
    if weights.patch_norms is not None:
        if np.ptp(weights.scale) or np.ptp(weights.offset):
            return False
        weights.patch_norms[0].epsilon /= float(weights.scale[0]) ** 2
        weights.scale = weights.offset = None
        return True
    linear = weights.embedding
    repeat = len(linear.kernel) // len(weights.scale)  # channels are innermost
    scale, offset = (np.tile(v, repeat) for v in (weights.scale, weights.offset))
    linear.bias = linear.bias + offset @ linear.kernel
    linear.kernel = scale[:, None] * linear.kernel
    weights.scale = weights.offset = None
    return True


def fold_layer_scale(weights: Weights) -> bool:
    """Fold LayerScale: `(x @ W + b) * s = x @ (W * s) + b * s`, but for one behind an
    activation."""
    found = False
    for block in weights.blocks:
        scale2 = None if block.out_activation else block.scale2
        for scale, writer in (
            (block.scale1, block.attention.out),
            (scale2, block.dense2),
        ):
            if scale is not None:
                writer.kernel, writer.bias = writer.kernel * scale, writer.bias * scale
                found = True
        block.scale1 = None
        block.scale2 = block.scale2 if block.out_activation else None
    return found


def fold_attention_scale(weights: Weights) -> bool:
    """Fold the factor of `q k^T / sqrt(d)` into the query, or into its norm."""
    for attention in attentions(weights):
        scale, norm = attention.scale, attention.query_norm
        if norm is not None:
            norm.gamma, norm.beta = norm.gamma * scale, norm.beta * scale
        else:
            query = attention.query
            query.kernel, query.bias = query.kernel * scale, query.bias * scale
        attention.scale = 1.0
    return True


def fold_norms(weights: Weights) -> bool:
    """Fold gamma and beta into the readers of a norm:
    `(n * gamma + beta) @ W + b = n @ (gamma[:, None] * W) + (b + beta @ W)`; the beta
    of a norm after the patch projection goes into the positions."""
    for block in weights.blocks:
        if not block.post_norm:
            first, *rest = _block_readers(block)
            _fold(block.norm1, [first, *rest[:2]])
            _fold(block.norm2, rest[2:])
        if block.attention.inner_norm is not None:
            _fold(block.attention.inner_norm, [block.attention.out])
        if block.inner_norm is not None:
            _fold(block.inner_norm, [block.dense2])
    # Not if the vector is an output beside the head's.
    if weights.unit is not None and weights.heads and weights.inside is None:
        _fold(weights.unit, weights.heads)
    if weights.norm is not None:
        _fold(weights.norm, readers(weights))
    if weights.patch_norms is not None:
        before, after = weights.patch_norms
        _fold(before, [weights.embedding])
        if weights.positions is not None:
            weights.positions, after.beta = weights.positions + after.beta, None
    if weights.pool is not None:
        _, _, norm, dense1, _, _ = weights.pool
        _fold(norm, [dense1])
    return True


def drop_key_bias(weights: Weights) -> bool:
    """Drop the bias of keys: in `q (k + b)^T = q k^T + q b^T` the last term is the same
    for every key, and the softmax ignores it. Not with a norm on the keys, or rotary
    positions, which turn the bias of each key by another angle, or where keys decide
    which tokens are merged."""
    if not keys_are_free(weights):
        return False
    for attention in attentions(weights):
        attention.key.bias = np.zeros_like(attention.key.bias)
    return True


def centre_writers(weights: Weights) -> bool:
    """Subtract from every writer of the residual stream its mean over the output: then
    the stream has zero mean, and each norm is an RMS norm. A norm or activation that
    writes to the stream cannot be centred without another product, and a reader without
    a norm sees the mean."""
    readable = weights.norm is not None and all(n.centred for n in norms(weights))
    if not readable or not _written_linearly(weights):
        return False

    def centred(array):
        return array - array.mean(-1, keepdims=True, dtype="float64")

    _write(weights, centred)
    for merge in weights.merges:  # which passes the mean on to the mean alone
        merge.linear.kernel = centred(merge.linear.kernel)
    for norm in norms(weights):
        norm.centred = False
    return True


def rotate_stream(weights: Weights) -> bool:
    """Rotate the residual stream by an orthogonal `R`: writers `W @ R`, readers
    `R.T @ W`. An RMS norm without gamma commutes with it, and outliers are spread over
    all channels (QuaRot, arXiv 2404.00456)."""
    if weights.centred or weights.norm is None or not _written_linearly(weights):
        return False
    rotation = orthogonal(weights.config.hidden_size)
    _write(weights, lambda array: array @ rotation)
    inner = [r for b in weights.blocks for r in _block_readers(b)]
    for reader in (*inner, *readers(weights)):
        parts = reader.kernel.reshape(-1, len(rotation), reader.kernel.shape[1])
        reader.kernel = (rotation.T @ parts).reshape(reader.kernel.shape)
    for merge in weights.merges:
        merge.linear.kernel = merge.turned(rotation)
    return True


def rotate_heads(weights: Weights) -> bool:
    """Rotate each head by an orthogonal `R` (d, d): `q R (k R)^T = q k^T`, and `W_v R`,
    `R.T W_o`. Queries and keys with norms or rotary positions, or that decide which
    tokens are merged, are left out, and values with a norm behind."""
    turned_or_read = [weights.rotation is not None or b.merged for b in weights.blocks]
    turned_or_read += [False]
    for attention, kept in zip(attentions(weights), turned_or_read, strict=False):
        rotation = orthogonal(attention.head_dim)
        free = attention.inner_norm is None
        turned = [attention.value] if free else []
        if attention.query_norm is None and not kept:
            turned += [attention.query, attention.key]
        for linear in turned:
            for array in ("kernel", "bias"):
                heads = _by_head(getattr(linear, array), attention)
                setattr(
                    linear, array, (heads @ rotation).reshape(heads.shape[:-2] + (-1,))
                )
        if not free:
            continue
        out = attention.out.kernel.reshape(attention.heads, attention.head_dim, -1)
        out = np.einsum("ed,hef->hdf", rotation, out)
        attention.out.kernel = out.reshape(attention.out.kernel.shape)
    return True


def fold_probe(weights: Weights) -> bool:
    """Fold the constant query of attention pooling into the keys of each head:
    `q_h (x W_h + b_h)^T = x (W_h q_h^T) + b_h q_h^T`, and the softmax ignores the last
    term. One layer (D, H) takes the place of two of (D, H*d)."""
    if weights.pool is None:
        return False
    probe, attention = weights.pool[:2]
    if attention.query_norm is not None or attention.key_norm is not None:
        return False
    query = probe.astype("float64") @ attention.query.kernel + attention.query.bias
    query = query.reshape(attention.heads, -1) * attention.scale
    kernel = np.einsum("ihd,hd->ih", _by_head(attention.key.kernel, attention), query)
    attention.scores = Linear(kernel, np.zeros(attention.heads))
    attention.query = attention.key = None
    return True


REWRITES = {
    "fold_input": fold_input,
    "fold_layer_scale": fold_layer_scale,
    "fold_attention_scale": fold_attention_scale,
    "fold_norms": fold_norms,
    "drop_key_bias": drop_key_bias,
    "centre_writers": centre_writers,
    "rotate_stream": rotate_stream,
    "rotate_heads": rotate_heads,
    "fold_probe": fold_probe,
}
# Of parts that a model may well not have.
ONLY_IF_THERE = ("fold_input", "fold_layer_scale", "fold_probe")
# They help integers; floats would only lose time and a little precision.
FOR_INTEGERS = ("rotate_stream", "rotate_heads")


def attentions(weights: Weights) -> list[Attention]:
    """Return the attention of every block, and of the pooling."""
    pool = [] if weights.pool is None else [weights.pool[1]]
    return [block.attention for block in weights.blocks] + pool


def keys_are_free(weights: Weights) -> bool:
    """Return whether nothing stands between the keys' bias and the scores."""
    normed = any(a.key_norm is not None for a in attentions(weights))
    read = any(block.merged for block in weights.blocks)
    return not normed and not read and weights.rotation is None


def norms(weights: Weights) -> list[Norm]:
    """Return the norms that read the residual stream."""
    inner = [norm for b in weights.blocks for norm in (b.norm1, b.norm2)]
    return inner if weights.norm is None else [*inner, weights.norm]


def readers(weights: Weights) -> list[Linear]:
    """Return the linear readers of the last norm; adds an identity if there is none.
    Those of several blocks' tokens have a part of D inputs for each."""
    beside = [] if weights.inside is None else [weights.inside]
    return [*_head_readers(weights), *beside]


def _head_readers(weights):
    if weights.readers:
        return [reader.linear for reader in weights.readers]
    if weights.pool is not None:
        return [weights.pool[1].key, weights.pool[1].value]
    if weights.unrotate is not None:
        return [weights.unrotate]
    unit = weights.unit is not None and weights.pre_logits is None
    if weights.config.pooling == "max" or unit:
        return [_new_reader(weights)]  # neither commutes with a rotation and a gamma
    if weights.pre_logits is not None:
        if len(weights.heads) > 1:  # the distillation head reads the norm itself
            return [weights.pre_logits, weights.heads[1]]
        return [weights.pre_logits]
    if weights.heads:
        return weights.heads
    return [_new_reader(weights)]


def _new_reader(weights):
    width = weights.config.hidden_size
    weights.unrotate = Linear(np.eye(width), np.zeros(width))
    return weights.unrotate


def _fold(norm: Norm, linears):
    for linear in linears:
        parts = len(linear.kernel) // len(norm.gamma)
        gamma, beta = (np.tile(v, parts) for v in (norm.gamma, norm.beta))
        linear.bias = linear.bias + beta @ linear.kernel
        linear.kernel = gamma[:, None] * linear.kernel
    norm.gamma = norm.beta = None


def _written_linearly(weights):
    """Whether only linear layers write to the stream."""
    if weights.patch_norms or weights.pre_norm:
        return False
    return not any(block.out_activation or block.post_norm for block in weights.blocks)


def stream_writers(weights: Weights) -> list[tuple[Any, str]] | None:
    """Return (holder, field) of all arrays that the residual stream is linear in; None
    if something else writes to it, or reads it without a norm."""
    if weights.norm is None or not _written_linearly(weights):
        return None
    linears = [weights.embedding]
    for block in weights.blocks:
        linears += [block.attention.out, block.dense2]
    found = [(linear, name) for linear in linears for name in ("kernel", "bias")]
    found += [(weights, "prefix"), *((m.linear, "bias") for m in weights.merges)]
    found += [] if weights.positions is None else [(weights, "positions")]
    return found if weights.queries is None else [*found, (weights.queries, "tokens")]


def _write(weights, change):
    """Apply a function of the last axis to every writer of the stream."""
    for holder, name in stream_writers(weights) or ():
        setattr(holder, name, change(getattr(holder, name)))


def _block_readers(block):
    attention, gate = block.attention, [] if block.gate is None else [block.gate]
    return [attention.query, attention.key, attention.value, block.dense1, *gate]


def _by_head(array, attention):
    return array.reshape(*array.shape[:-1], attention.heads, -1)

"""`Weights` back in a `VisionTransformer`: the inverse of `read_weights`.

Of `rewrites.py` it inverts what is needed: folded parameters become neutral, and the
residual stream is rotated back.
"""

import dataclasses
from typing import Any

import numpy as np

from .orthogonal import orthogonal
from .vit_weights import Linear, Weights


def build_vit(w: Weights, projection: tuple[Any, Any] | None = None) -> Any:
    """Return a `VisionTransformer` that computes what the weights say.

    Arguments:
        w: the weights, rewritten or not.
        projection: (kernel (p*q*C, D), bias (D,)) of normalised images, if those of `w`
            read pixels; None for those of `w`.
    """
    from vit_keras import create_model

    # The rewrites moved the norms' betas into the biases of queries, keys and values.
    config = dataclasses.replace(w.config, qkv_bias=True, key_bias=True)
    model = create_model(config, task=w.task)
    turn = (
        np.eye(w.config.hidden_size)
        if w.centred
        else orthogonal(w.config.hidden_size).T
    )
    layers = {item.name: item for item in model.layers}
    kernel, bias = projection or (w.embedding.kernel, w.embedding.bias)
    _put_entry(w, layers, turn, (np.asarray(kernel), np.asarray(bias)))
    for i, block in enumerate(w.blocks):
        _put_block(layers[f"encoderblock_{i}"], block, turn)
    for merge in w.merges:
        layer = layers[f"token_merging_{merge.before}"]
        kernel = merge.turned(turn).reshape(layer.kernel.shape)
        _put(layer, kernel, merge.linear.bias @ turn)
    _put_exit(w, layers, turn)
    return model


def _put_entry(w, layers, turn, projection):
    kernel, bias = (array @ turn for array in projection)
    first = layers["embedding"]
    _put(first, kernel.reshape(first.kernel.shape), bias)
    if w.patch_norms is not None:
        _put_norm(first.norm_before, w.patch_norms[0])
        _put_norm(first.norm_after, w.patch_norms[1])
    if w.pre_norm is not None:
        _put_norm(layers["pre_norm"], w.pre_norm)
    positions, prefix = layers.get("posembed_input"), w.prefix @ turn
    if positions is not None and positions.kind == "learned":
        inside = np.zeros_like(prefix) if w.config.position_prefix else prefix[:0]
        table = np.concatenate([inside, w.positions @ turn])
        positions.embedding.assign(table[None])
    elif positions is not None and w.config.position_prefix:
        prefix = prefix - np.asarray(positions._table, "float64")[0][: len(prefix)]
    start = 0
    for name in ("class_token", "distillation_token", "register_tokens"):
        if name in layers:
            token = layers[name].token
            stop = start + token.shape[1]
            token.assign(prefix[None, start:stop])
            start = stop


def _put_block(layer, block, turn):
    for own, norm in (
        (layer.norm1, block.norm1),
        (layer.norm2, block.norm2),
        (layer.attention.inner_norm, block.attention.inner_norm),
        (layer.mlp.inner_norm, block.inner_norm),
    ):
        if own is not None:
            _put_norm(own, norm)
    _put_attention(layer.attention, block.attention, turn.T, turn)
    for scale, value in (
        (layer.layer_scale1, block.scale1),
        (layer.layer_scale2, block.scale2),
    ):
        if scale is not None:
            scale.gamma.assign(np.ones(scale.gamma.shape) if value is None else value)
    _put(layer.mlp.dense1, turn.T @ block.dense1.kernel, block.dense1.bias)
    if block.gate is not None:
        _put(layer.mlp.gate, turn.T @ block.gate.kernel, block.gate.bias)
    _put(layer.mlp.dense2, block.dense2.kernel @ turn, block.dense2.bias @ turn)


def _put_attention(layer, a, before, after, queries=None):
    """Set an attention layer; `before` and `after` rotate its input and output."""
    if a.scores is not None:
        a = _with_query(a, len(before))
        queries = np.eye(len(before))
    factor = a.head_dim**-0.5 / a.scale
    queries, order = before if queries is None else queries, np.arange(a.head_dim)
    if layer.rotary_embedding is not None:  # undo the order of `Attention.of`
        order = np.argsort(layer.rotary_embedding.order(a.head_dim))
    if a.query_norm is None:
        query = queries @ a.query.kernel / factor, a.query.bias / factor
    else:
        query = queries @ a.query.kernel, a.query.bias
        _put_norm(layer.query_norm, a.query_norm, 1 / factor, order)
        _put_norm(layer.key_norm, a.key_norm, order=order)
    columns = (np.arange(a.heads)[:, None] * a.head_dim + order).ravel()
    _put(layer.query, *(array[..., columns] for array in query))
    _put(layer.key, (before @ a.key.kernel)[:, columns], a.key.bias[columns])
    _put(layer.value, before @ a.value.kernel, a.value.bias)
    _put(layer.out, a.out.kernel @ after, a.out.bias @ after)


def _with_query(a, width):
    """Return attention whose scores are the first channel of each head's keys."""
    query, first = np.zeros(a.heads * a.head_dim), np.arange(a.heads) * a.head_dim
    query[first] = 1 / a.scale
    key, bias = np.zeros((a.scores.kernel.shape[0], len(query))), np.zeros(len(query))
    key[:, first], bias[first] = a.scores.kernel, a.scores.bias
    constant = Linear(np.zeros((width, len(query))), query)
    return dataclasses.replace(a, query=constant, key=Linear(key, bias), scores=None)


def _put_exit(w, layers, turn):
    pools = w.task == "classify" and w.config.pooling is not None
    last = layers["fc_norm" if w.config.fc_norm and pools else "encoder_norm"]
    if w.unrotate is not None:
        gamma = np.sum(turn * w.unrotate.kernel, 0)
        last.gamma.assign(gamma)
        last.beta.assign(w.unrotate.bias)
        into = np.eye(len(turn))
    else:
        _put_norm(last, w.norm)
        into = turn.T
    if w.pool is not None:
        probe, attention, norm, dense1, dense2, _ = w.pool
        layer, straight = layers["pooling"], np.eye(len(turn))
        layer.probe.assign(probe[None])
        _put_attention(layer.attention, attention, into, straight, straight)
        _put_norm(layer.norm, norm)
        _put(layer.mlp.dense1, dense1.kernel, dense1.bias)
        _put(layer.mlp.dense2, dense2.kernel, dense2.bias)
        into = straight
    if w.pre_logits is not None:
        _put(layers["pre_logits"], into @ w.pre_logits.kernel, w.pre_logits.bias)
    for name, head in zip(("head", "head_dist"), w.heads, strict=False):
        inside, kernel = w.pre_logits is not None and name == "head", head.kernel
        if w.unit is not None and w.unit.gamma is None:  # the layer's length is 1
            kernel = kernel * len(kernel) ** 0.5
        _put(layers[name], kernel if inside else into @ kernel, head.bias)


def _put_norm(layer, norm, factor=1.0, order: Any = slice(None)):
    size = layer.gamma.shape
    gamma = np.ones(size) if norm.gamma is None else norm.gamma
    beta = np.zeros(size) if norm.beta is None else norm.beta
    layer.gamma.assign(gamma[order] * factor)
    layer.beta.assign(beta[order] * factor)


def _put(layer, kernel, bias):
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)

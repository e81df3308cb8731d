"""Removal of tokens, whole heads and MLP channels from a Vision Transformer.

Letters: T tokens, D width, H heads, d width of a head, I = H * d, M MLP width, C
features of a layer (I or M) in groups (heads of d, channels of 1).
"""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from vit_keras import VisionTransformer, data
from vit_keras.layers.mlp import ACTIVATIONS
from vit_keras.preprocessing import normalize

from .macs import macs
from .plain_blocks import check_plain_blocks
from .token_choice import build_like, merged_before, with_fewer_tokens
from .tome_choice import MERGE, without_training

IMAGES = 256  # more hardly change the measurement
BATCH = 32
ROUNDS = 64  # of ordering the groups of a layer
MULTIPLE = 8  # of a chosen MLP width: suits vector units


def shrunk(
    model, images, macs_ratio, heads, mlp_dim, tokens, merging
) -> VisionTransformer:
    """Shrink a model; see `export.shrink`, whose last arguments `merging` has."""
    if not isinstance(model, VisionTransformer) or model.config is None:
        raise ValueError(
            "`model` must be a VisionTransformer of vit_keras, not one around it. "
            f"Received: {type(model).__name__}"
        )
    config = model.config
    cut = heads is not None or mlp_dim is not None
    by_ratio = macs_ratio is not None
    if (by_ratio and cut) or not (by_ratio or cut or tokens is not None):
        raise ValueError(
            "`macs_ratio`, or `heads` and `mlp_dim`, or `tokens` must be given, the "
            "last alone or with the others. Received: "
            f"macs_ratio={macs_ratio!r}, heads={heads!r}, mlp_dim={mlp_dim!r}, "
            f"tokens={tokens!r}"
        )
    if tokens == MERGE and not (by_ratio or cut):
        return without_training(model, images, *merging)
    if tokens == MERGE or any(value is not None for value in merging):
        raise ValueError(
            "`max_drop`, `max_ms` and `labels` belong to tokens='merge', which goes "
            "without `macs_ratio`, `heads` and `mlp_dim`. Received: "
            f"tokens={tokens!r}, max_drop={merging[0]!r}, max_ms={merging[1]!r}"
        )
    check_plain_blocks("shrink", config)
    for name, kept, there in (
        ("heads", heads, config.num_heads),
        ("mlp_dim", mlp_dim, config.mlp_dim),
    ):
        if kept is not None and not (isinstance(kept, int) and 1 <= kept <= there):
            raise ValueError(
                f"`{name}` must be an integer from 1 to {there}, which the model has. "
                f"Received: {name}={kept!r}"
            )
    preprocessing = config.preprocessing
    pixels = data.load_images(images, config.image_size, preprocessing, IMAGES)
    batches = [
        normalize(pixels[i : i + BATCH], preprocessing)
        for i in range(0, len(pixels), BATCH)
    ]
    if tokens is not None:
        model = with_fewer_tokens(model, batches, tokens)
    if by_ratio:
        heads, mlp_dim = _choose(model, batches, macs_ratio, macs(config))
    elif not cut:
        return model
    new = build_like(
        model,
        num_heads=heads or config.num_heads,
        mlp_dim=mlp_dim or config.mlp_dim,
        head_dim=config.head_dim or config.hidden_size // config.num_heads,
    )
    _fill(model, new, batches)
    return new


def _fill(model, new, batches):
    """Give the new model the kept weights of the old one."""
    for layer in model.layers:
        if layer.weights and not _cut(layer):
            new.get_layer(layer.name).set_weights(layer.get_weights())
    tokens = _stream(model, batches)
    for i in range(model.config.num_layers):
        name = f"encoderblock_{i}"
        old, small = model.get_layer(name), new.get_layer(name)
        tokens = merged_before(i, model, tokens)
        _fill_attention(old, small, [old.norm1(x) for x in tokens])
        for part in ("norm1", "norm2", "layer_scale1", "layer_scale2"):
            if getattr(old, part) is not None:
                getattr(small, part).set_weights(getattr(old, part).get_weights())
        inner = [small.norm2(x + _branch(small, x)) for x in tokens]
        _fill_mlp(old.mlp, small.mlp, inner)
        tokens = [small(x) for x in tokens]
    if model.config.pooling == "map" and model.task == "classify":
        old, small = model.get_layer("pooling"), new.get_layer("pooling")
        small.probe.assign(old.probe)
        small.norm.set_weights(old.norm.get_weights())
        if not model.config.fc_norm:
            tokens = [new.get_layer("encoder_norm")(x) for x in tokens]
        tokens = [x[:, model.config.num_prefix_tokens :] for x in tokens]
        _fill_attention(old, small, tokens, old.probe)
        probes = [_repeat(old.probe, x) for x in tokens]
        pairs = zip(probes, tokens, strict=True)
        _fill_mlp(old.mlp, small.mlp, [small.norm(small.attention(*p)) for p in pairs])


def _cut(layer):
    return hasattr(layer, "mlp") and hasattr(layer, "attention")


def _stream(model, batches):
    """Return the input of the first block, (N, T, D) for each batch."""
    entry = keras.Model(model.input, model.get_layer("encoderblock_0").input)
    return [entry(batch, training=False) for batch in batches]


def _branch(block, x):
    """Return the output of a block's attention branch, from the block's input."""
    y = block.attention(block.norm1(x))
    return y if block.layer_scale1 is None else block.layer_scale1(y)


def _repeat(probe, x):
    return ops.broadcast_to(probe, (x.shape[0], *probe.shape[1:]))


def _heads(attention, source, probe=None):
    """Return the input of the layer `out`: (N, T, I)."""
    query = source if probe is None else _repeat(probe, source)
    _, scores = attention(query, source, return_attention_scores=True)
    values = attention._split(attention.value(source))
    heads = ops.einsum("nhts,nshd->nthd", scores, values)
    return ops.reshape(heads, (*query.shape[:2], -1))


def _hidden(mlp, x):
    """Return the input of the layer `dense2`: (N, T, M)."""
    return ACTIVATIONS[mlp.activation](mlp.dense1(x))


def _fill_attention(old, small, sources, probe=None):
    old, small = old.attention, small.attention
    order = _order(old.out, (_heads(old, x, probe) for x in sources), old.num_heads)
    columns, kernel, bias = order.keep(small.num_heads)
    for name in ("query", "key", "value"):
        dense = getattr(old, name)
        weights = [np.asarray(dense.kernel)[:, columns]]
        weights += [np.asarray(dense.bias)[columns]] if old.qkv_bias else []
        getattr(small, name).set_weights(weights)
    small.out.set_weights([kernel, bias])
    if old.qk_norm:
        small.query_norm.set_weights(old.query_norm.get_weights())
        small.key_norm.set_weights(old.key_norm.get_weights())


def _fill_mlp(old, small, sources):
    order = _order(old.dense2, (_hidden(old, x) for x in sources), old.mlp_dim)
    columns, kernel, bias = order.keep(small.mlp_dim)
    kernel1, bias1 = (np.asarray(w)[..., columns] for w in old.dense1.weights)
    small.dense1.set_weights([kernel1, bias1])
    small.dense2.set_weights([kernel, bias])


@dataclasses.dataclass
class Order:
    """Order in which the features of a linear layer are removed, and the error.

    Attributes:
        covariance: (C, C), of the features.
        mean: (C,).
        kernel: (C, D), and `bias` (D,), of the layer.
        groups: indices of each group's features, in order of removal.
        errors: (groups + 1,): squared error of the layer's output, averaged over
            tokens, after as many removals and a refit.
    """

    covariance: np.ndarray
    mean: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    groups: list[np.ndarray]
    errors: np.ndarray

    def keep(self, number: int):
        """Return the kept features, and the kernel and bias that read them: the best
        linear approximation of the layer's output."""
        gone = len(self.groups) - number
        if not gone:
            return np.arange(len(self.kernel)), self.kernel, self.bias
        stay = np.sort(np.concatenate(self.groups[gone:]))
        kernel = np.linalg.solve(
            self.covariance[np.ix_(stay, stay)], self.covariance[stay] @ self.kernel
        )
        bias = self.bias + self.mean @ self.kernel - self.mean[stay] @ kernel
        return stay, kernel, bias


def _order(dense, features, number: int) -> Order:
    """Order the features of a layer by optimal brain surgeon.

    The error of removing group g, with a refit of the others, is `trace(W_g^T
    inv(inv(S)_gg) W_g)` for the covariance S. The groups with the least error are
    removed, S and W are updated, and the others are measured again.

    Arguments:
        dense: the layer that reads the features.
        features: batches (N, T, C).
        number: of groups, which are contiguous.
    """
    total: Any = 0.0
    square: Any = 0.0
    tokens = 0
    for batch in features:
        rows = np.asarray(ops.convert_to_numpy(batch), "float64")
        rows = rows.reshape(-1, rows.shape[-1])
        total, square = total + rows.sum(0), square + rows.T @ rows
        tokens += len(rows)
    kernel, bias = (np.asarray(w, "float64") for w in (dense.kernel, dense.bias))
    mean = total / tokens
    covariance = square / tokens - np.outer(mean, mean)
    ridge = 1e-6 * np.trace(covariance) / len(covariance) + 1e-12
    covariance += ridge * np.eye(len(covariance))  # for linearly dependent features

    inverse, weights = np.linalg.inv(covariance), kernel.copy()
    left = np.arange(len(kernel)).reshape(number, -1)
    groups, errors = [], [0.0]
    while len(left):
        blocks = inverse[left[:, :, None], left[:, None, :]]
        rows = weights[left]
        scores = np.einsum("gid,gid->g", rows, np.linalg.solve(blocks, rows))
        chosen = np.argsort(scores)[: max(1, number // ROUNDS)]
        groups += list(left[chosen])
        gone = left[chosen].ravel()
        errors += list(errors[-1] + np.cumsum(scores[chosen]))
        away = inverse[:, gone] @ np.linalg.inv(inverse[np.ix_(gone, gone)])
        weights = weights - away @ weights[gone]
        inverse = inverse - away @ inverse[gone]
        left = np.delete(left, chosen, axis=0)
    return Order(covariance, mean, kernel, bias, groups, np.array(errors))


def _choose(model, batches, ratio, whole: int) -> tuple[int, int]:
    """Choose (heads, MLP width) with the least error of those that leave `whole` MACs
    divided by `ratio`."""
    config = model.config
    number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
    if not number or ratio <= 1:
        raise ValueError(
            f"`macs_ratio` must be a number above 1. Received: macs_ratio={ratio!r}"
        )
    heads: Any = 0.0
    channels: Any = 0.0
    tokens = _stream(model, batches)
    for i in range(config.num_layers):
        block = model.get_layer(f"encoderblock_{i}")
        tokens = merged_before(i, model, tokens)
        attention, mlp = block.attention, block.mlp
        normed = [block.norm1(x) for x in tokens]
        outputs = (_heads(attention, x) for x in normed)
        order = _order(attention.out, outputs, config.num_heads)
        heads = heads + order.errors / _power(block.layer_scale1, tokens)
        inner = [block.norm2(x + _branch(block, x)) for x in tokens]
        order = _order(mlp.dense2, (_hidden(mlp, x) for x in inner), config.mlp_dim)
        channels = channels + order.errors / _power(block.layer_scale2, tokens)
        tokens = [block(x) for x in tokens]
    size = config.head_dim or config.hidden_size // config.num_heads
    step = min(MULTIPLE, config.mlp_dim)
    found = []
    for kept in range(1, config.num_heads + 1):
        for width in range(step, config.mlp_dim + 1, step):
            smaller = config.replace(num_heads=kept, mlp_dim=width, head_dim=size)
            if macs(smaller) * ratio <= whole:
                error = heads[config.num_heads - kept] + channels[-1 - width]
                found.append((error, kept, width))
    if not found:
        raise ValueError(
            "`macs_ratio` must be smaller: one head and the least MLP width need more "
            f"than that fraction of the MACs. Received: macs_ratio={ratio!r}"
        )
    return min(found)[1:]


def _power(layer_scale, tokens):
    """Return the mean square of the stream, relative to the branch's layer scale."""
    power = np.mean([float(ops.mean(ops.square(x))) for x in tokens])
    if layer_scale is None:
        return power
    return power / np.mean(np.square(np.asarray(layer_scale.gamma)))

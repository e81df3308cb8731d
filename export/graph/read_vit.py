"""The weights of a `VisionTransformer`, read into `Weights`."""

import numpy as np

from vit_keras.layers.pooling import UNIT_EPSILON

from .vit_weights import (
    Attention,
    Block,
    Linear,
    Merge,
    Norm,
    Rotation,
    Weights,
    as_float64,
)


def read_weights(model, normalisation=None, taps=None) -> Weights:
    """The weights of a `VisionTransformer`.

    Arguments:
        model: of `vit_keras.create_model`.
        normalisation: (scale, offset), float64 (C,) each, put before the first layer;
            None for none.
        taps: what `find_taps` found, instead of what follows the last block.
    """
    config = model.config
    scale, offset = normalisation or (None, None)
    layers = {layer.name: layer for layer in model.layers}
    first = layers["embedding"]
    width = config.hidden_size
    kernel = as_float64(first.kernel).reshape(-1, width)
    norms = None
    if config.patch_norm:
        norms = Norm.of(first.norm_before), Norm.of(first.norm_after)
    tokens = [
        as_float64(layers[name].token)[0]
        for name in ("class_token", "distillation_token", "register_tokens")
        if name in layers
    ]
    prefix = np.concatenate([np.zeros((0, width)), *tokens])
    positions, table = layers.get("posembed_input"), None
    if positions is not None:
        learned = positions.kind == "learned"
        table = as_float64(positions.embedding if learned else positions._table)[0]
        if config.position_prefix:
            prefix = prefix + table[: len(prefix)]
            table = table[len(prefix) :]
    pools = model.task == "classify" and config.pooling is not None
    has_head = pools and config.include_top
    names = [name for name in ("head", "head_dist") if has_head and name in layers]
    last = layers.get("fc_norm" if config.fc_norm and pools else "encoder_norm")
    if taps is not None:
        last = taps.norm
    elif last is None:  # features of a model with `fc_norm`
        raise ValueError("`model` has no last norm; its graph stays as it is")
    return Weights(
        *(config, model.task if taps is None else "taps", scale, offset),
        embedding=Linear(kernel, as_float64(first.bias)),
        patch_norms=norms,
        prefix=prefix,
        positions=table,
        pre_norm=Norm.of(layers["pre_norm"]) if config.pre_norm else None,
        blocks=[
            Block.of(layers[f"encoderblock_{i}"]) for i in range(config.num_layers)
        ],
        norm=None if last is None else Norm.of(last),
        pool=_read_pool(layers["pooling"])
        if pools and config.pooling == "map"
        else None,
        unrotate=None,
        pre_logits=Linear.of(layers["pre_logits"]) if "pre_logits" in layers else None,
        heads=[Linear.of(layers[name]) for name in names],
        readers=[] if taps is None else taps.readers,
        queries=None if taps is None else taps.queries,
        rotation=_read_rotation(layers["encoderblock_0"], len(prefix)),
        unit=_read_unit(config) if pools and config.unit_norm else None,
        merges=[
            _read_merge(i, layers[f"token_merging_{i}"])
            for i, _ in config.token_merging
        ],
    )


def _read_rotation(block, prefix):
    """Rotary positions in the order of `Attention.of`."""
    layer = block.attention.rotary_embedding
    if layer is None:
        return None
    head_dim = block.attention.query.kernel.shape[1] // block.num_heads
    order, (rows, columns) = layer.order(head_dim), layer.grid
    cosines, sines, _ = layer.tables(prefix + rows * columns, head_dim)
    return Rotation(cosines[:, order], sines[:, order], prefix)


def _read_merge(before, layer):
    kernel = as_float64(layer.effective_kernel())
    linear = Linear(kernel.reshape(-1, kernel.shape[-1]), as_float64(layer.bias))
    return Merge(before, layer.grid, layer.factor, linear)


def _read_pool(layer):
    dense = Linear.of(layer.mlp.dense1), Linear.of(layer.mlp.dense2)
    parts = Attention.of(layer.attention), Norm.of(layer.norm), *dense
    return (as_float64(layer.probe)[0], *parts, layer.mlp.activation)


def _read_unit(config):
    """The norm to length 1 as an RMS norm: `x / |x| = RMS norm of x / sqrt(width)`."""
    width = config.representation_size or config.hidden_size
    gamma, beta = np.full(width, width**-0.5), np.zeros(width)
    return Norm(
        gamma, beta if config.include_top else None, UNIT_EPSILON / width, False
    )

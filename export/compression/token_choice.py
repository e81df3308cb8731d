"""Which patches are merged, and before which block: the merge that costs least.

Letters: T tokens, D width, L blocks, k neighbours in each direction.
"""

import math
from typing import Any

import keras
import numpy as np

from vit_keras import VisionTransformer, ViTConfig, create_model

from .macs import macs

MEASURED = 64  # images, of those that are given
FACTORS = (2, 3, 4)  # those above 2 must divide the grid


def with_fewer_tokens(model, batches, share: float) -> VisionTransformer:
    """Return a model whose patches are merged between two blocks, at first to means.

    Of all merges that leave enough tokens away, the one with the least error of the
    model's output for each multiplication saved.

    Arguments:
        model: a `VisionTransformer`; it is not changed.
        batches: images (N, H, W, C), as the model takes them.
        share: of the patches, averaged over the blocks, that stay at most.

    Raises:
        ValueError: `share` is no number in (0, 1), or none of the merges leaves as
            few; the model has merged tokens.
    """
    config = model.config
    if config.token_merging:
        raise ValueError(
            "`tokens` must be None for a model whose tokens are merged. Received: "
            f"token_merging={config.token_merging!r}"
        )
    number = isinstance(share, int | float) and not isinstance(share, bool)
    if not number or not 0 < share < 1:
        raise ValueError(f"`tokens` must be in (0, 1). Received: tokens={share!r}")
    found = candidates(config, share)
    if not found:
        raise ValueError(
            "`tokens` must be larger: no merge of this model leaves so few. Received: "
            f"tokens={share!r}, grid={config.grid}, num_layers={config.num_layers}"
        )
    batches = batches[: -(-MEASURED // len(batches[0]))]
    outputs = [keras.ops.convert_to_numpy(model(b, training=False)) for b in batches]

    def cost(merging):
        smaller = _merged(model, merging)
        error = _error(smaller, batches, outputs)
        return error / (macs(config) - macs(smaller.config))

    return _merged(model, min(found, key=cost) if len(found) > 1 else found[0])


def candidates(config: ViTConfig, share: float) -> list[tuple[tuple[int, int], ...]]:
    """Return the values of `token_merging` that leave a share of the patches at most.

    One merge, or two by 2 x 2 where one is not enough. Of those that differ in the last
    merge's place alone, only the last place: the later it is, the less is lost.
    """
    blocks = range(config.num_layers)
    forms = [[((b, k),) for b in blocks] for k in FACTORS]
    alone = [b for b in blocks if (_share(config, ((b, 2),)) or 1) > share]
    forms += [[((b, 2), (c, 2)) for c in blocks[b + 1 :]] for b in alone]
    found = []
    for form in forms:
        shares = {m: _share(config, m) for m in form}
        found += [m for m, s in shares.items() if s is not None and s <= share][-1:]
    return found


def _share(config, merging):
    """Patches that a merge leaves, averaged over the blocks; None if it cannot be."""
    try:
        grids = config.replace(token_merging=merging).block_grids
    except ValueError:
        return None
    return sum(h * w for h, w in grids) / (len(grids) * math.prod(config.grid))


def merged_before(index: int, model, tokens: list[Any]) -> list[Any]:
    """Return the tokens that a block takes, from those of the block before it.

    Arguments:
        index: of the block.
        model: a `VisionTransformer`.
        tokens: batches (N, T, D).
    """
    if index not in dict(model.config.token_merging):
        return tokens
    layer = model.get_layer(f"token_merging_{index}")
    return [layer(x) for x in tokens]


def build_like(model, **changes) -> VisionTransformer:
    """Return a new model of another configuration: same task, name and precision."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(model.get_layer("encoderblock_0").dtype_policy)
    try:
        config = model.config.replace(**changes)
        return create_model(config, task=model.task, name=model.name)
    finally:
        keras.config.set_dtype_policy(policy)


def copy_weights(model, new) -> VisionTransformer:
    """Return a new model with the weights of one that has all layers with weights."""
    for layer in model.layers:
        new.get_layer(layer.name).set_weights(layer.get_weights())
    return new


def _merged(model, merging):
    """The model with merges that take means."""
    return copy_weights(model, build_like(model, token_merging=merging))


def _error(model, batches, outputs):
    """Mean square error of outputs, as a part of their variance over images."""
    got = [keras.ops.convert_to_numpy(model(b, training=False)) for b in batches]
    got, outputs = np.concatenate(got), np.concatenate(outputs)
    return float(np.mean(np.square(got - outputs)) / np.mean(np.var(outputs, axis=0)))

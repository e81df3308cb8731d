"""Which patches a model with merged tokens takes for one."""

import keras
import numpy as np
from keras import ops

from .layers import ToMeBlock
from .layers.tome import match_tokens

Groups = list[list[list[int]]]  # of each image and token: its patches


def token_groups(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return which patches each token after the last block stands for.

    Letters: N images, h x w patches.

    Arguments:
        model: a classifier of `create_model`, perhaps with `tome` or `token_merging`.
        images: (N, H, W, C), normalised.

    Returns:
        Integers (N, h, w): patches of one number are one token, numbered from 0 in the
        order in which the image has them, row by row.

    Raises:
        ValueError: the model is none of this package.
    """
    config = getattr(model, "config", None)
    if config is None:
        raise ValueError(
            "`model` must be a VisionTransformer of vit_keras. "
            f"Received: {type(model).__name__}"
        )
    rows, columns = config.grid
    if config.tome:
        found = np.stack([_numbered(g, rows * columns) for g in _merged(model, images)])
        return found.reshape(-1, rows, columns)
    factor = int(np.prod([k for _, k in config.token_merging]))
    across = -(-columns // factor)
    one = np.arange(rows)[:, None] // factor * across + np.arange(columns) // factor
    return np.repeat(one[None], len(images), axis=0)


def _numbered(groups, patches):
    """The number of each patch's group (P,), by its first patch."""
    found = np.empty(patches, int)
    for number, group in enumerate(sorted(groups, key=min)):
        found[group] = number
    return found


def _merged(model, images) -> Groups:
    """The patches of each token after the last block."""
    prefix = model.config.num_prefix_tokens
    patches = model.config.grid[0] * model.config.grid[1]
    groups = [[[i] for i in range(patches)] for _ in images]
    blocks = [b for b in model.layers if isinstance(b, ToMeBlock) and b.merged]
    inputs = keras.Model(model.input, [block.input for block in blocks])
    given = inputs(ops.convert_to_tensor(images), training=False)
    for block, tensors in zip(blocks, given if blocks[1:] else [given], strict=True):
        tensors = tensors if isinstance(tensors, list | tuple) else [tensors]
        x, sizes = (*tensors, None)[:2]
        _, keys = block.attended(x, False, token_sizes=sizes, return_keys=True)
        match = match_tokens(keys, block.merged, prefix)
        arrays = [ops.convert_to_numpy(part) for part in match]
        groups = [_joined(*row, prefix) for row in zip(groups, *arrays, strict=True)]
    return groups


def _joined(groups, kept, moved, partners, prefix):
    """One image's groups after a block, in the order of `merge_tokens`."""
    groups = [[]] * prefix + [list(group) for group in groups]
    for even, odd in zip(2 * moved, 2 * partners + 1, strict=True):
        groups[odd] += groups[even]
    stay = [i for i in 2 * kept if i >= prefix]
    odds = range(1, len(groups), 2)
    return [groups[i] for i in [*stay, *(i for i in odds if i >= prefix)]]

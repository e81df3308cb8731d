"""Attention scores of a model and their rollout."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike

from .layers import EncoderBlock


def attention_scores(model: keras.Model, images: ArrayLike) -> np.ndarray:
    """Compute the attention weights of every encoder block.

    Arguments:
        model: a ViT of this package, from `create_model`.
        images: (N, H, W, C), normalised as the model expects.

    Returns:
        float32 array (L, N, H, T, T): block, image, head, query token, key token; each
        row sums to 1.

    Raises:
        ValueError: the model has no `EncoderBlock` at its top level.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, EncoderBlock)]
    if not blocks:
        raise ValueError(
            "`model` must hold EncoderBlock layers at its top level. Received: "
            f"{model.name!r} with layers {[layer.name for layer in model.layers]}"
        )
    probe = keras.Model(model.input, [block.input for block in blocks])
    inputs = probe.predict(np.asarray(images), verbose=0)
    inputs = inputs if isinstance(inputs, list) else [inputs]
    scores = []
    for block, x in zip(blocks, inputs, strict=True):
        _, weights = block(x, training=False, return_attention_scores=True)
        scores.append(keras.ops.convert_to_numpy(weights).astype("float32"))
    return np.stack(scores)


def attention_rollout(
    scores: np.ndarray, num_prefix_tokens: int, grid: Sequence[int]
) -> np.ndarray:
    """Compute how much each patch contributes to the first token.

    Attention rollout (arXiv 2005.00928, section 3): heads are averaged, the residual
    connection counts as half, and the blocks' matrices are multiplied.

    Arguments:
        scores: (L, N, H, T, T), from `attention_scores`.
        num_prefix_tokens: tokens before the patches; at least one.
        grid: (rows, columns) of the patches, any shape.

    Returns:
        float32 array (N, rows, columns); each image's values sum to 1.

    Raises:
        ValueError: the number of tokens is not prefix + rows * columns.
    """
    tokens = scores.shape[-1]
    rows, columns = grid
    if num_prefix_tokens < 1 or tokens != num_prefix_tokens + rows * columns:
        raise ValueError(
            "`scores` must have num_prefix_tokens + rows * columns tokens, with at "
            f"least one before the patches. Received: {tokens} tokens, "
            f"num_prefix_tokens={num_prefix_tokens}, grid={tuple(grid)}"
        )
    flow = 0.5 * scores.mean(axis=2) + 0.5 * np.eye(tokens)
    total = flow[0]
    for step in flow[1:]:
        total = step @ total
    patches = total[:, 0, num_prefix_tokens:]
    patches = patches / patches.sum(axis=-1, keepdims=True)
    return patches.reshape(-1, rows, columns).astype("float32")

"""Maps of what a model looks at: attention scores, their rollout, class relevance."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from .config import ViTConfig
from .instrument import instrument

# Method: its own options.
METHODS = {
    "attention": ("layer", "head"),
    "rollout": (),
    "relevance": ("class_index",),
}


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
    _check_not_merged(getattr(model, "config", None))
    inside = instrument(model)
    return np.stack(inside.scores(np.asarray(images))[1][: len(inside.blocks)])


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
    return _shares(_rollout(scores)[:, 0, num_prefix_tokens:], grid)


def attention_map(
    model: keras.Model,
    images: ArrayLike,
    method: str = "rollout",
    *,
    layer: int | None = None,
    head: int | None = None,
    class_index: int | ArrayLike | None = None,
    per_patch: bool = False,
    batch_size: int = 8,
) -> np.ndarray:
    """Compute how much a model looks at each part of an image.

    A method gives a matrix (T, T) of how much of each token is in each token. Its rows
    are taken as the model's pooling does: the class token's, the mean of class and
    distillation token, the mean of all patches, or those that attention pooling looks
    at, as much as it does. Class, distillation and register tokens are left out of the
    result.

    Arguments:
        model: a ViT of this package, from `create_model`. Without a pooling the class
            token is read if there is one, else the mean of all patches.
        images: (N, H, W, C), normalised as the model expects.
        method: one of
            "attention": the attention of one block and head, or the mean of them;
            "rollout": arXiv 2005.00928, section 3, see `attention_rollout`;
            "relevance": for one class, arXiv 2103.15679, equations 5 and 6: block by
            block `R = R + mean_heads(relu(A * gradient)) @ R`, the gradient being that
            of the class' logit by the attention A, and the scores of attention pooling
            weighted alike. Without that pooling the identity that R starts from is
            left out.
        layer: for "attention", the block, from 0, or from -1 for the last one
            backwards; None means the mean of all.
        head: for "attention", the head; None means the mean of all.
        class_index: for "relevance", the class, or one for each image (N,); None means
            the predicted one.
        per_patch: return one value for each patch.
        batch_size: images per step, which are (L, batch_size, H, T, T) scores.

    Returns:
        float32 array (N, rows, columns) with `per_patch`, else (N, H, W), interpolated
        bilinearly between the patches' centres. The values are shares: those of the
        patches of an image sum to 1, or are all 0 if nothing is relevant to the class.

    Raises:
        ValueError: an argument is invalid or does not belong to the method, or
            "relevance" is asked of a model without a head.
    """
    images = np.asarray(images)
    options = {"layer": layer, "head": head, "class_index": class_index}
    config, inside = _checked(model, images, method, options), instrument(model)
    layers = _index("layer", layer, len(inside.blocks))
    heads = _index("head", head, config.num_heads)
    classes = None
    if class_index is not None:
        classes = _classes(class_index, len(images), model.output_shape[-1])
    if batch_size < 1:
        raise ValueError(
            f"`batch_size` must be at least 1. Received: batch_size={batch_size}"
        )
    maps = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        output, scores = inside.scores(images[part])
        if method == "relevance":
            chosen = output.argmax(-1) if classes is None else classes[part]
            gradients = inside.gradients(images[part], scores, chosen)
            scores = [
                np.maximum(a * g, 0) for a, g in zip(scores, gradients, strict=True)
            ]
        blocks = np.stack(scores[: len(inside.blocks)]).astype("float64")
        pooling = scores[len(inside.blocks) :]
        if method == "relevance":
            matrix = _relevance(blocks, with_identity=bool(pooling))
        elif method == "rollout":
            matrix = _rollout(blocks)
        else:
            matrix = blocks[layers][:, :, heads].mean(axis=(0, 2))
        rows = _pooled(matrix, pooling, config)
        maps.append(_shares(rows[:, config.num_prefix_tokens :], config.grid))
    patches = np.concatenate(maps)
    return patches if per_patch else enlarge(patches, config.image_size)


def enlarge(maps: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Interpolate maps (N, rows, columns) bilinearly to float32 (N, height, width)."""
    height, width = size
    images = (Image.fromarray(x.astype("float32")) for x in maps)
    resized = (x.resize((width, height), Image.Resampling.BILINEAR) for x in images)
    return np.stack([np.asarray(x) for x in resized])


def _rollout(scores):
    """(L, N, H, T, T) to (N, T, T)"""
    identity = np.eye(scores.shape[-1])
    total = identity
    for block in scores.mean(axis=2):
        total = (0.5 * block + 0.5 * identity) @ total
    return total


def _relevance(weighted, with_identity):
    """(L, N, H, T, T) to (N, T, T)"""
    identity = np.eye(weighted.shape[-1])
    total = identity
    for block in weighted.mean(axis=2):
        total = total + block @ total
    # In a mean of all patches it would be the same constant for each.
    return total if with_identity else total - identity


def _pooled(matrix, pooling, config):
    """Take the rows of (N, T, T) that the pooling reads: (N, T)."""
    prefix = config.num_prefix_tokens
    if pooling:  # attention over the patches, or over all tokens
        scores = pooling[0].mean(axis=1, dtype="float64")
        return (scores @ matrix[:, 0 if config.pool_prefix else prefix :])[:, 0]
    if config.distillation_token:
        return matrix[:, :2].mean(axis=1)
    if config.class_token and config.pooling not in ("gap", "max"):
        return matrix[:, 0]
    return matrix[:, prefix:].mean(axis=1)


def _shares(rows, grid):
    """Divide (N, P) by its sum, and return float32 (N, rows, columns)."""
    total = rows.sum(axis=-1, keepdims=True)
    shares = np.divide(rows, total, out=np.zeros_like(rows), where=total > 0)
    return shares.reshape(-1, *grid).astype("float32")


def _checked(model, images, method, options) -> ViTConfig:
    """Return the configuration of a model, if the arguments fit it."""
    config = getattr(model, "config", None)
    if not isinstance(config, ViTConfig):
        raise ValueError(
            "`model` must be a ViT of this package with its `config`. "
            f"Received: {type(model).__name__} {getattr(model, 'name', '')!r}"
        )
    _check_not_merged(config)
    expected = (*config.image_size, config.channels)
    if images.shape[1:] != expected or not len(images):
        raise ValueError(
            f"`images` must be one or more of shape {expected}. "
            f"Received: shape={images.shape}"
        )
    if method not in METHODS:
        raise ValueError(
            f"`method` must be one of {', '.join(METHODS)}. Received: method={method!r}"
        )
    for name, value in options.items():
        if value is not None and name not in METHODS[method]:
            owner = next(m for m, names in METHODS.items() if name in names)
            raise ValueError(
                f"`{name}` must be None unless method={owner!r}. "
                f"Received: {name}={value!r}, method={method!r}"
            )
    rank = len(model.output_shape)
    if method == "relevance" and (not config.include_top or rank != 2):
        raise ValueError(
            "`method` must be 'attention' or 'rollout' for a model without a head of "
            "classes (N, C), because relevance is that for a class. "
            f"Received: method='relevance', output {model.output_shape}"
        )
    return config


def _check_not_merged(config):
    if config is not None and (config.token_merging or config.tome):
        raise ValueError(
            "`model` must have the same tokens in every block for maps of attention. "
            f"Received: token_merging={config.token_merging}, tome={config.tome}"
        )


def _index(name, value, length) -> slice:
    """Return what to take of an axis: one place, or with None all."""
    if value is None:
        return slice(None)
    if not -length <= value < length:
        raise ValueError(
            f"`{name}` must be None or from {-length} to {length - 1}. "
            f"Received: {name}={value!r}"
        )
    return slice(value % length, value % length + 1)


def _classes(given, number, classes) -> np.ndarray:
    """Return the class of each image, int (N,)."""
    index = np.asarray(given)
    if (
        index.dtype.kind not in "iu"
        or index.shape not in ((), (number,))
        or not (0 <= index.min() and index.max() < classes)
    ):
        raise ValueError(
            f"`class_index` must be an integer from 0 to {classes - 1}, one for all or "
            f"for each of {number} images. Received: class_index={given!r}"
        )
    return np.broadcast_to(index, number)

"""Pictures of masks, of merged tokens and of attention, this as in the PyPI package
vit-keras 0.2.

Its `attention_map` divides each block's matrix by the sum of all its rows, and takes
any grid for a square; here rows are normalised, and grids may have any shape.
"""

import keras
import numpy as np
from PIL import Image

from . import attention_maps
from .mask_pictures import overlay_mask as overlay_mask
from .preprocessing import normalize


def attention_map(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """Darken an image where a model does not look, by attention rollout.

    Arguments:
        model: a ViT of this package, such as `vit_keras.vit.vit_b16` gives.
        image: uint8 (H, W, C), of any size; it is stretched to the model's.

    Returns:
        uint8 array (H, W, C): the image times its map, whose largest value is 1.

    Raises:
        ValueError: the image is not uint8 (H, W, C), or the model is none of this
            package.
    """
    image = np.asarray(image)
    config = getattr(model, "config", None)
    channels = getattr(config, "channels", 3)
    if image.dtype != "uint8" or image.ndim != 3 or image.shape[-1] != channels:
        raise ValueError(
            f"`image` must be uint8 of shape (H, W, {channels}). "
            f"Received: {image.dtype}, shape={image.shape}"
        )
    images = image[None]
    if config is not None:
        height, width = config.image_size
        grey = channels == 1
        resized = Image.fromarray(image[..., 0] if grey else image).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        images = normalize(
            np.asarray(resized).reshape(1, height, width, channels),
            config.preprocessing,
        )
    maps = attention_maps.attention_map(model, images, per_patch=True)
    mask = attention_maps.enlarge(maps / maps.max(), image.shape[:2])[0]
    return (mask[..., None] * image).astype("uint8")


def merged_tokens(image: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Paint the patches of each token in their mean colour, with a line around them.

    Arguments:
        image: uint8 (H, W, C), as the model sees it or larger.
        groups: (rows, columns) of one image, as `vit_keras.token_groups` gives them.

    Returns:
        uint8 array (H, W, C).

    Raises:
        ValueError: the image is not uint8 (H, W, C), or smaller than the groups.
    """
    image, groups = np.asarray(image), np.asarray(groups)
    smaller = image.ndim == 3 and np.less(image.shape[:2], groups.shape).any()
    if image.dtype != "uint8" or image.ndim != 3 or groups.ndim != 2 or smaller:
        raise ValueError(
            "`image` must be uint8 of shape (H, W, C), and `groups` of shape (rows, "
            f"columns), not more than pixels. Received: {image.dtype}, "
            f"shape={image.shape}, groups {groups.shape}"
        )
    rows, columns = (
        np.arange(size) * number // size
        for size, number in zip(image.shape[:2], groups.shape, strict=True)
    )
    number = groups[rows[:, None], columns]  # of each pixel
    areas = np.bincount(number.ravel())
    painted = np.empty_like(image)
    for channel in range(image.shape[2]):
        sums = np.bincount(number.ravel(), image[..., channel].ravel())
        painted[..., channel] = (sums / np.maximum(areas, 1)).round()[number]
    edges = np.zeros(number.shape, bool)
    edges[1:] |= number[1:] != number[:-1]
    edges[:, 1:] |= number[:, 1:] != number[:, :-1]
    painted[edges] = 0
    return painted

"""Pictures of masks and of attention, this as in the PyPI package vit-keras 0.2.

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

"""Where a photograph lies in a model's input, and the way there and back.

Coordinates are continuous: pixel i covers i to i + 1.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .rules import INTERPOLATIONS, Preprocessing


def fit(
    pixels: np.ndarray, image_size: Sequence[int], preprocessing: Preprocessing
) -> np.ndarray:
    """Bring an image to the model's input size.

    Arguments:
        pixels: uint8 array (H, W, C).
        image_size: (height, width) of the result.
        preprocessing: gives `interpolation`, `crop` and `resize`, with "contain" also
            the colour of the padding.

    Returns:
        uint8 array (height, width, C).
    """
    height, width = image_size
    if pixels.shape[:2] == (height, width) and preprocessing.crop == 1:
        return pixels
    grey = pixels.shape[-1] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels)
    # Resampling only this box avoids the huge intermediate image of a long thin source.
    box = visible_box(pixels.shape[:2], image_size, preprocessing)
    left, top, right, bottom = placed_box(pixels.shape[:2], image_size, preprocessing)
    image = image.resize(
        (right - left, bottom - top),
        INTERPOLATIONS[preprocessing.interpolation],
        box=box,
    )
    resized = np.asarray(image).reshape(bottom - top, right - left, pixels.shape[-1])
    if resized.shape[:2] == (height, width):
        return resized
    whole = np.empty((height, width, pixels.shape[-1]), "uint8")
    whole[:] = preprocessing.padding()
    whole[top:bottom, left:right] = resized
    return whole


def visible_box(
    size: Sequence[int], image_size: Sequence[int], preprocessing: Preprocessing
) -> tuple[float, float, float, float]:
    """Return the part of an image that `fit` keeps.

    Arguments:
        size: (height, width) of the image.
        image_size: (height, width) of the model's input.
        preprocessing: gives `crop` and `resize`.

    Returns:
        (left, top, right, bottom) in pixels of the image.
    """
    (rows, columns), (height, width) = size, image_size
    if preprocessing.resize == "cover":
        cover = max(height / rows, width / columns) / preprocessing.crop
        box_w, box_h = width / cover, height / cover
    else:
        box_w, box_h = columns * preprocessing.crop, rows * preprocessing.crop
    left, top = (columns - box_w) / 2, (rows - box_h) / 2
    return (
        max(left, 0.0),
        max(top, 0.0),
        min(left + box_w, columns),
        min(top + box_h, rows),
    )


def placed_box(
    size: Sequence[int], image_size: Sequence[int], preprocessing: Preprocessing
) -> tuple[int, int, int, int]:
    """Return the part of the model's input that `fit` fills with the image.

    Arguments:
        size, image_size, preprocessing: as for `visible_box`.

    Returns:
        (left, top, right, bottom) in pixels of the input: all of it, but for "contain",
        where the rest is padding.
    """
    (rows, columns), (height, width) = size, image_size
    if preprocessing.resize != "contain":
        return 0, 0, width, height
    # Whole numbers, rounded half up, of which a graph of TensorFlow makes the same.
    tall = min(max((2 * rows * width + columns) // (2 * columns), 1), height)
    wide = min(max((2 * columns * height + rows) // (2 * rows), 1), width)
    left, top = (width - wide) // 2, (height - tall) // 2
    return left, top, left + wide, top + tall

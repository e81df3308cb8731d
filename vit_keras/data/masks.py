"""Maps of labels in the geometry of a model's input, and back in a photograph's."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..preprocessing import Preprocessing, visible_box

# The class of pixels that do not count.
IGNORE = 255


def fit_mask(
    mask: np.ndarray, image_size: Sequence[int], preprocessing: Preprocessing
) -> np.ndarray:
    """Resize a map of labels as `preprocessing.fit` does its photograph, by nearest.

    Arguments:
        mask: uint8 or float32 array (h, w).
        image_size: (height, width) of the result.
        preprocessing: of the model.

    Returns:
        Array (height, width) of the same dtype.
    """
    height, width = image_size
    if mask.shape == (height, width) and preprocessing.crop == 1:
        return mask
    box = visible_box(mask.shape, image_size, preprocessing)
    return nearest(mask, (height, width), box)


def nearest(mask, size, box) -> np.ndarray:
    """Resize a box (left, top, right, bottom) of a map to (height, width)."""
    height, width = size
    nearest = Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(mask).resize((width, height), nearest, box=box))


def to_photograph(
    values: np.ndarray, size: Sequence[int], preprocessing: Preprocessing
) -> np.ndarray:
    """Resize a model's outputs to its photograph: the inverse of `preprocessing.fit`.

    Bilinear. Pixels of the photograph that the model did not see get the values of the
    nearest that it saw.

    Arguments:
        values: float array (H, W, C), of one image.
        size: (height, width) of the photograph.
        preprocessing: of the model.

    Returns:
        float32 array (height, width, C).
    """
    values = np.asarray(values, "float32")
    left, top, right, bottom = visible_box(size, values.shape[:2], preprocessing)
    for axis, (start, end) in enumerate(((top, bottom), (left, right))):
        before, after = values.shape[axis], size[axis]
        if (before, start, end) == (after, 0, after):
            continue
        places = (np.arange(after) + 0.5 - start) * (before / (end - start)) - 0.5
        places = np.clip(places, 0, before - 1)
        low = np.floor(places).astype(int)
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        part = (places - low).astype("float32").reshape(shape)
        first = values.take(low, axis)
        second = values.take(np.minimum(low + 1, before - 1), axis)
        values = first + part * (second - first)
    return values

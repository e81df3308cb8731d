"""Maps, which have a value at each pixel, to a model's input and back.

Maps are class indices, integers of which 255 is ignored, or floats such as depths, NaN
where unknown.
"""

from collections.abc import Sequence

import numpy as np

from .geometry import placed_box, visible_box
from .rules import Preprocessing

# The class index of pixels that have no class, in masks of this package.
IGNORED = 255


def fit_mask(
    mask: np.ndarray, image_size: Sequence[int], preprocessing: Preprocessing
) -> np.ndarray:
    """Bring the mask of a photograph to the model's input, as `fit` brings the pixels.

    Each pixel gets the nearest value, because between two classes, or two depths at an
    edge, there is none.

    Arguments:
        mask: array (H, W) or (H, W, K), of the photograph's size.
        image_size: (height, width) of the result.
        preprocessing: gives `crop` and `resize`.

    Returns:
        Array (height, width) or (height, width, K) of the same dtype: in the padding of
        "contain" 255, or NaN if the mask is of floats.
    """
    size, (height, width) = mask.shape[:2], image_size
    if (*size,) == (height, width) and preprocessing.crop == 1:
        return mask
    seen = visible_box(size, image_size, preprocessing)
    left, top, right, bottom = placed_box(size, image_size, preprocessing)
    whole = _unknown((height, width, *mask.shape[2:]), mask.dtype)
    rows, columns = (
        _nearest(low + (np.arange(number) + 0.5) * (high - low) / number, length)
        for low, high, number, length in (
            (seen[1], seen[3], bottom - top, size[0]),
            (seen[0], seen[2], right - left, size[1]),
        )
    )
    whole[top:bottom, left:right] = mask[rows[:, None], columns]
    return whole


def to_photograph(
    values: np.ndarray, size: Sequence[int], preprocessing: Preprocessing
) -> np.ndarray:
    """Bring a map of a model's input to the size of the photograph.

    It undoes `fit`: what "cover" cropped is unknown, the padding of "contain" is left
    out.

    Arguments:
        values: array (h, w) or (h, w, K), a map of the whole input, at the size of the
            input or another one of the same shape. Integers are class indices, of which
            the nearest is taken; floats are interpolated bilinearly between the centres
            of pixels.
        size: (height, width) of the photograph.
        preprocessing: gives `crop` and `resize`.

    Returns:
        Array (height, width) or (height, width, K) of the same dtype: where the model
        does not see the photograph, 255, or NaN if the map is of floats.
    """
    seen = visible_box(size, values.shape[:2], preprocessing)
    left, top, right, bottom = placed_box(size, values.shape[:2], preprocessing)
    inside = values[top:bottom, left:right]
    whole = _unknown((*size, *values.shape[2:]), values.dtype)
    taken, weights = [], []
    for low, high, length, number in (
        (seen[1], seen[3], size[0], bottom - top),
        (seen[0], seen[2], size[1], right - left),
    ):
        centres = np.arange(length) + 0.5
        # A box that rounding made smaller by less than a millionth loses no pixel.
        known = np.flatnonzero((centres > low - 1e-6) & (centres < high + 1e-6))
        taken.append(known)
        weights.append((centres[known] - low) * number / (high - low))
    if values.dtype.kind != "f":
        rows, columns = map(_nearest, weights, inside.shape)
        found = inside[rows[:, None], columns]
    else:
        found = _between(_between(inside, weights[0], 0), weights[1], 1)
    whole[taken[0][:, None], taken[1]] = found
    return whole


def _unknown(shape, dtype):
    return np.full(shape, np.nan if dtype.kind == "f" else IGNORED, dtype)


def _nearest(positions, length):
    return np.clip(np.floor(positions).astype(int), 0, length - 1)


def _between(values, positions, axis):
    """Interpolate linearly at continuous positions along an axis."""
    last = values.shape[axis] - 1
    exact = np.clip(positions - 0.5, 0, last)
    low = np.floor(exact).astype(int)
    high = np.minimum(low + 1, last)
    share = (exact - low).astype(values.dtype)
    share = share.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    below, above = values.take(low, axis), values.take(high, axis)
    return below * (1 - share) + above * share

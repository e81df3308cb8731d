"""Synthetic photographs with masks: circles, squares and triangles on noise.

Shapes and colours are drawn by a seed; nothing is read, and NumPy alone is used, so
that the data are the same everywhere.
"""

import numpy as np

CLASSES = ("background", "circle", "square", "triangle")
IGNORED = 255


def shapes(number, size=(48, 64), seed=0, most=3, border=0):
    """Draw images and their masks.

    Arguments:
        number: N.
        size: (height, width), at least 16.
        seed: of all that is random.
        most: the largest number of shapes in an image; the least is 1. Of overlapping
            ones the last is on top.
        border: pixels on both sides of an edge between classes that are ignored, 255.

    Returns:
        (images uint8 (N, H, W, 3), masks uint8 (N, H, W) of indices of `CLASSES`).
    """
    rng = np.random.default_rng(seed)
    height, width = size
    images = rng.integers(0, 96, (number, height, width, 3)).astype("uint8")
    masks = np.zeros((number, height, width), "uint8")
    for image, mask in zip(images, masks, strict=True):
        for _ in range(rng.integers(1, most + 1)):
            kind = int(rng.integers(1, len(CLASSES)))
            inside = _inside(kind, size, rng)
            noise = rng.integers(-20, 21, (inside.sum(), 3))
            image[inside] = np.clip(rng.integers(120, 236, 3) + noise, 0, 255)
            mask[inside] = kind
    if border:
        masks = np.stack([_with_border(mask, border) for mask in masks])
    return images, masks


def _inside(kind, size, rng):
    """Return the pixels of a shape, bool (H, W)."""
    height, width = size
    radius = rng.uniform(0.15, 0.3) * min(size)
    y, x = np.mgrid[:height, :width] + 0.5
    y -= rng.uniform(radius, height - radius)
    x -= rng.uniform(radius, width - radius)
    if CLASSES[kind] == "circle":
        return y**2 + x**2 <= radius**2
    if CLASSES[kind] == "square":
        return (abs(y) <= 0.85 * radius) & (abs(x) <= 0.85 * radius)
    return (y <= 0.8 * radius) & (y >= 2 * abs(x) - radius)  # the tip is above


def _with_border(mask, width):
    """Ignore what has another class within `width` pixels in rows or columns."""
    edge = np.zeros(mask.shape, bool)
    padded = np.pad(mask, width, mode="edge")
    for axis in (0, 1):
        for shift in range(-width, width + 1):
            moved = np.roll(padded, shift, axis)[width:-width, width:-width]
            edge |= moved != mask
    return np.where(edge, IGNORED, mask).astype("uint8")

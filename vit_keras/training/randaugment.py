"""Operations of RandAugment and ThreeAugment, on many images at once, in NumPy.

Each takes images, uint8 (N, H, W, C), and a signed magnitude in [-1, 1] for each, and
equals Pillow's operation of that name to a grey level. One call per image would hold
the interpreter's lock most of the time: with images of 32 pixels threads cannot share
that work, and batches are made four times faster this way. Keras' layer computes all
operations for all images.
"""

import numpy as np


def randaugment(images, number, magnitude, chances, operations=None):
    """Apply random operations to each image, one after the other (arXiv 1909.13719).

    Arguments:
        images: uint8 array (N, H, W, C), changed in place.
        number: R, operations per image.
        magnitude: their strength, in [0, 1]; its sign is drawn.
        chances: array (N, 2 R) of uniform numbers in [0, 1).
        operations: {name: function} to choose from; default `OPERATIONS`.
    """
    operations = list((operations or OPERATIONS).values())
    for chosen, sign in zip(chances[:, :number].T, chances[:, number:].T, strict=True):
        chosen = (chosen * len(operations)).astype(int)
        signed = np.where(sign < 0.5, -magnitude, magnitude)
        for at, operation in enumerate(operations):
            rows = np.flatnonzero(chosen == at)
            if len(rows):
                images[rows] = operation(images[rows], signed[rows])


def three_augment(images, chances):
    """Make each image grey, solarised or blurred (arXiv 2204.07118, section 3).

    Arguments:
        images: uint8 array (N, H, W, C), changed in place.
        chances: array (N,) of uniform numbers in [0, 1).
    """
    chosen = (chances * len(THREE)).astype(int)
    for at, operation in enumerate(THREE.values()):
        rows = np.flatnonzero(chosen == at)
        images[rows] = operation(images[rows])


def _each(values):
    """Reshape (N,) to broadcast with (N, H, W, C)."""
    return np.asarray(values, "float32")[:, None, None, None]


def _bytes(values):
    return np.clip(values, 0, 255).astype("uint8")


def grey(images):
    """Convert to (N, H, W, 1) with Pillow's ITU-R 601 weights of 16 bits."""
    if images.shape[-1] == 1:
        return images
    weights = np.array((19595, 38470, 7471), "uint32")
    return ((images @ weights + 0x8000) >> 16).astype("uint8")[..., None]


def _enhance(plain):
    """Return an operation away from or towards `plain(images)`, as `ImageEnhance`."""

    def operation(images, m):
        base = plain(images).astype("float32")
        return _bytes(base + _each(1.0 + 0.9 * m) * (images - base))

    return operation


def _mean(images):
    mean = grey(images).mean(axis=(1, 2, 3))
    return _each((mean + 0.5).astype(int))


def _smooth(images):
    """Average 3 x 3 pixels, the middle one with weight five; edges are unchanged."""
    smooth = images.copy()
    rows = images.astype("uint16")
    rows = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    sums = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    sums += 4 * images[:, 1:-1, 1:-1].astype("uint16")
    smooth[:, 1:-1, 1:-1] = (sums + 6) // 13
    return smooth


def _planes(images):
    """Return (C, N, H, W): loops over a last axis of three are slow in NumPy."""
    return np.ascontiguousarray(np.moveaxis(images, -1, 0))


def autocontrast(images, m):
    """Stretch each channel to 0..255."""
    planes = _planes(images)
    low = planes.min(axis=(2, 3), keepdims=True)
    high = planes.max(axis=(2, 3), keepdims=True)
    flat = high == low
    scale = np.where(flat, 1.0, 255.0 / np.maximum(high - low, 1)).astype("float32")
    return np.moveaxis(_bytes((planes - np.where(flat, 0, low)) * scale), 0, -1)


def equalize(images, m):
    """Equalise the histogram of each channel."""
    planes = _planes(images)
    rows = planes.reshape(-1, images.shape[1] * images.shape[2])
    at = np.arange(len(rows))[:, None]
    counts = np.bincount((rows + 256 * at).ravel(), minlength=256 * len(rows))
    counts = counts.reshape(-1, 256)
    last = np.take_along_axis(counts, rows.max(axis=1, keepdims=True), axis=1)
    step = (rows.shape[1] - last) // 255
    table = (step // 2 + counts.cumsum(axis=1) - counts) // np.maximum(step, 1)
    table = np.where(step > 0, table.clip(max=255), np.arange(256)).astype("uint8")
    return np.moveaxis(table[at, rows].reshape(planes.shape), 0, -1)


def solarize(images, m):
    threshold = _each(np.round(256 * (1 - np.abs(m))))
    return np.where(images < threshold, images, 255 - images)


def posterize(images, m):
    lost = np.round(4 * np.abs(m)).astype("uint8")[:, None, None, None]
    return images >> lost << lost


def blur(images):
    """Blur by a Gaussian of standard deviation 1, with repeated edges."""
    weights = np.exp(-0.5 * np.arange(-3, 4, dtype="float32") ** 2)
    weights /= weights.sum()
    result = images.astype("float32")
    for axis, length in ((1, images.shape[1]), (2, images.shape[2])):
        points = [np.clip(np.arange(length) + d, 0, length - 1) for d in range(-3, 4)]
        parts = zip(weights, points, strict=True)
        result = np.sum([w * result.take(at, axis=axis) for w, at in parts], axis=0)
    return _bytes(result + 0.5)


def affine(images, matrices):
    """Transform images by nearest-neighbour sampling, black outside, as in the paper.

    Arguments:
        images: uint8 array (N, H, W, C).
        matrices: array (N, 2, 3), from the point (x, y, 1) of a pixel in the result to
            (x, y) in the image; the centre of the first pixel is (0.5, 0.5).
    """
    number, height, width, channels = images.shape
    points = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    points = np.stack([*map(np.ravel, points), np.ones(height * width)])
    points = np.floor(matrices @ points).astype(int)
    x, y = points[:, 0], points[:, 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    first = np.arange(number)[:, None] * (height * width)
    at = np.where(inside, first + y * width + x, 0)
    result = np.empty((channels, *at.shape), "uint8")
    for plane, pixels in enumerate(_planes(images)):
        result[plane] = pixels.take(at) * inside
    return np.moveaxis(result, 0, -1).reshape(images.shape)


def _affine(table):
    """Return the operation with matrices `table(magnitudes, height, width)`."""

    def operation(images, m):
        rows = table(np.asarray(m, "float64"), *images.shape[1:3])
        parts = [np.broadcast_to(part, m.shape) for row in rows for part in row]
        return affine(images, np.stack(parts, axis=-1).reshape(-1, 2, 3))

    return operation


def _turn(m, height, width):
    """Return rotations about the centre of the image."""
    cos, sin = np.cos(np.radians(30.0 * m)), np.sin(np.radians(30.0 * m))
    x, y = width / 2, height / 2
    return (cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y)


# Ranges as in arXiv 1909.13719.
OPERATIONS = {
    "identity": lambda images, m: images,
    "autocontrast": autocontrast,
    "equalize": equalize,
    "rotate": _affine(_turn),
    "solarize": solarize,
    "posterize": posterize,
    "color": _enhance(grey),
    "contrast": _enhance(_mean),
    "brightness": _enhance(np.zeros_like),
    "sharpness": _enhance(_smooth),
    "shear_x": _affine(lambda m, h, w: ((1, 0.3 * m, 0), (0, 1, 0))),
    "shear_y": _affine(lambda m, h, w: ((1, 0, 0), (0.3 * m, 1, 0))),
    "translate_x": _affine(lambda m, h, w: ((1, 0, 0.45 * m * w), (0, 1, 0))),
    "translate_y": _affine(lambda m, h, w: ((1, 0, 0), (0, 1, 0.45 * m * h))),
}
COLOURS = {
    name: operation
    for name, operation in OPERATIONS.items()
    if not name.startswith(("rotate", "shear", "translate"))
}
THREE = {
    "grey": lambda images: np.broadcast_to(grey(images), images.shape),
    "solarize": lambda images: np.where(images < 128, images, 255 - images),
    "blur": blur,
}

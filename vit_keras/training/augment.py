"""Random augmentation of the images of a batch, in NumPy.

Every draw depends only on (seed, step, index in the batch), so that a resumed run sees
the same images as an uninterrupted one.

NumPy instead of Keras' layers: those process a batch on the device between two training
steps, one batch at a time: 512 images of 32 pixels cost 50 ms of 2 CPU cores.
"""

import numpy as np
from PIL import Image

from ..preprocessing import INTERPOLATIONS
from .randaugment import COLOURS, randaugment, three_augment

# Keys of an image's, or a whole batch's, draws: beyond any index in a batch.
CROP, ERASE, OPERATIONS, MIX = (2**20 + i for i in range(4))


def draws_for(seed: int, step: int, *key: int) -> np.random.Generator:
    """Return the generator of one step for a key, such as an index in the batch."""
    return np.random.default_rng((seed, step, *key))


def random_box(height, width, areas, ratios, draws):
    """Draw a box of random area and ratio, in pixels (arXiv 1409.4842, section 6).

    Arguments:
        height, width: of the image.
        areas: (smallest, largest) fraction of its area.
        ratios: (smallest, largest) width by height.
        draws: NumPy generator.

    Returns:
        (left, top, right, bottom); the whole image if none of ten draws fits.
    """
    for _ in range(10):
        area = width * height * draws.uniform(*areas)
        ratio = np.exp(draws.uniform(*np.log(ratios)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(draws.integers(0, width - w + 1))
            top = int(draws.integers(0, height - h + 1))
            return left, top, left + w, top + h
    return 0, 0, width, height


def random_crop(pixels, image_size, smallest, draws, interpolation):
    """Crop and resize a random part of a photograph.

    Arguments:
        pixels: uint8 array (H, W, C).
        image_size: (height, width) of the result.
        smallest: smallest fraction of the area.
        draws: NumPy generator.
        interpolation: filter of the model's preprocessing.

    Returns:
        uint8 array (height, width, C).
    """
    (height, width), channels = image_size, pixels.shape[-1]
    areas, ratios = (smallest, 1.0), (3 / 4, 4 / 3)
    box = random_box(pixels.shape[0], pixels.shape[1], areas, ratios, draws)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    image = image.resize((width, height), INTERPOLATIONS[interpolation], box=box)
    return np.asarray(image).reshape(height, width, channels)


def augment(images, recipe, step, positions, colours_only=False):
    """Augment each image separately: shift, flip, RandAugment, ThreeAugment, erasing.

    Arguments:
        images: uint8 array (N, H, W, C).
        recipe: gives `shift`, `flip`, `randaugment`, `magnitude`, `three_augment`,
            `erase`, `seed`.
        step: number of the batch.
        positions: range of the N images' indices in the batch.
        colours_only: leave every pixel where it is: no shift, flip and erasing, and
            RandAugment without its affine operations.

    Returns:
        uint8 array (N, H, W, C).
    """
    if (recipe.shift or recipe.flip) and not colours_only:
        images = _shift_and_flip(images, recipe, step, positions)
    columns = 2 * recipe.randaugment + recipe.three_augment
    if columns:
        draws = draws_for(recipe.seed, step, OPERATIONS)
        chances = draws.random((positions.stop, columns))[positions.start :]
        images = images.copy()
        split = 2 * recipe.randaugment
        which = COLOURS if colours_only else None
        number, magnitude = recipe.randaugment, recipe.magnitude
        randaugment(images, number, magnitude, chances[:, :split], which)
        if recipe.three_augment:
            three_augment(images, chances[:, split])
    if recipe.erase and not colours_only:
        images = images.copy()
        for image, position in zip(images, positions, strict=True):
            draws = draws_for(recipe.seed, step, position, ERASE)
            if draws.random() < recipe.erase:
                _erase(image, draws)
    return images


def _shift_and_flip(images, recipe, step, positions):
    height, width = images.shape[1:3]
    rows, columns = round(height * recipe.shift), round(width * recipe.shift)
    around = ((0, 0), (rows, rows), (columns, columns), (0, 0))
    padded, result = np.pad(images, around, "edge"), np.empty_like(images)
    top = left = 0
    for at, position in enumerate(positions):
        draws = draws_for(recipe.seed, step, position)
        if recipe.shift:
            top = draws.integers(0, 2 * rows + 1)
            left = draws.integers(0, 2 * columns + 1)
        window = padded[at, top : top + height, left : left + width]
        flipped = recipe.flip and draws.random() < 0.5
        result[at] = window[:, ::-1] if flipped else window
    return result


def _erase(image, draws):
    """Replace a rectangle by noise (arXiv 1708.04896; area as in DeiT's code)."""
    height, width, channels = image.shape
    box = random_box(height, width, (0.02, 1 / 3), (0.3, 1 / 0.3), draws)
    left, top, right, bottom = box
    shape = (bottom - top, right - left, channels)
    image[top:bottom, left:right] = draws.integers(0, 256, shape, "uint8")


def mix(images, labels, recipe, step):
    """Apply MixUp (arXiv 1710.09412) or CutMix (arXiv 1905.04899) to a batch.

    Each image is mixed with another one of the batch, by its own random fraction.

    Arguments:
        images: float array (N, H, W, C).
        labels: float array (N, classes).
        recipe: gives `mixup`, `cutmix`, `seed`; with both, each batch gets one of them.
        step: number of the batch.

    Returns:
        Mixed images and labels, with unchanged dtypes.
    """
    kinds = [name for name in ("mixup", "cutmix") if getattr(recipe, name)]
    if not kinds:
        return images, labels
    draws = draws_for(recipe.seed, step, MIX)
    kind = kinds[draws.integers(len(kinds))]
    alpha = getattr(recipe, kind)
    others = draws.permutation(len(images))
    shares = draws.beta(alpha, alpha, len(images))  # fraction of the image itself
    if kind == "mixup":
        kept = shares.astype(images.dtype)[:, None, None, None]
        images = kept * images + (1 - kept) * images[others]
    else:
        images, shares = _cut(images, others, shares, draws)
    kept = shares.astype(labels.dtype)[:, None]
    return images, kept * labels + (1 - kept) * labels[others]


def _cut(images, others, shares, draws):
    """Paste rectangles of other images; return fractions exact in whole pixels."""
    height, width = images.shape[1:3]
    sides = np.sqrt(1 - shares)
    sizes = np.stack([height * sides, width * sides], axis=-1).round().astype(int)
    corners = draws.integers(0, (height, width) - sizes + 1)
    result = images.copy()
    for at, (other, (h, w), (top, left)) in enumerate(
        zip(others, sizes, corners, strict=True)
    ):
        window = slice(top, top + h), slice(left, left + w)
        result[at][window] = images[other][window]
    return result, 1 - sizes.prod(axis=1) / (height * width)

"""Random views of photographs with a map of labels each, in one geometry.

Draws are by (seed, step, index in the batch), as in `augment`.
"""

import numpy as np
from PIL import Image

from .. import preprocessing as pp
from ..data import read_pair, read_pixels
from .augment import augment, draws_for

# Key of a view's draws, beside those of `augment`.
VIEW = 2**20 + 4


def map_views(dataset, rows, step, positions, config, recipe, each):
    """Return views of images and of their maps.

    Each is fitted to the input, or with `scale` a random part of it in a random size,
    and mirrored or not; colours are augmented in the image alone.

    Arguments:
        dataset: of a head with maps.
        rows: indices of B images in it.
        step: number of the batch.
        positions: range of their indices in the batch.
        config: a `ViTConfig`; gives image size and preprocessing.
        recipe: gives `scale`, `flip`, `randaugment`, `three_augment`, `seed`.
        each: such as `map`, reads the files.

    Returns:
        uint8 array (B, H, W, C), and array (B, H, W) of the maps' dtype.
    """
    size, prep = config.image_size, config.preprocessing
    ready = isinstance(dataset.images, np.ndarray) and recipe.scale is None
    ready = ready and dataset.images.shape[1:3] == tuple(size)

    def read(row, position):
        draws = draws_for(recipe.seed, step, position, VIEW)
        flipped = is_mirrored(recipe, draws)
        if recipe.scale is not None:
            pixels, mask = read_pair(dataset, row, len(prep.mean))
            image, labels = random_view(pixels, mask, size, prep, recipe.scale, draws)
        else:
            pixels = read_pixels(dataset.images[row], len(prep.mean))
            image = pixels if ready else pp.fit(pixels, size, prep)
            labels = pp.fit_mask(dataset.labels[row], size, prep)
        return (image[:, ::-1], labels[:, ::-1]) if flipped else (image, labels)

    views = list(each(read, rows, positions))
    images, maps = (np.stack(part) for part in zip(*views, strict=True))
    return augment(images, recipe, step, positions, colours_only=True), maps


def is_mirrored(recipe, draws) -> bool:
    """Return whether a view is mirrored, by its first draw."""
    return bool(recipe.flip) and draws.random() < 0.5


def random_view(pixels, mask, image_size, preprocessing, scale, draws):
    """Resize a photograph and its mask at random, and crop or pad them to the input.

    Arguments:
        pixels: uint8 array (h, w, C).
        mask: uint8 array (h, w), of its size.
        image_size: (height, width) of the result.
        preprocessing: of the model; gives the size that fits, and the mean colour,
            which is where no photograph is; the mask is 255 there.
        scale: (smallest, largest) size, in units of that which fits.
        draws: NumPy generator.

    Returns:
        uint8 arrays (height, width, C) and (height, width).
    """
    left, top, right, bottom = pp.visible_box(mask.shape, image_size, preprocessing)
    placed = pp.placed_box(mask.shape, image_size, preprocessing)
    fitting = placed[3] - placed[1], placed[2] - placed[0]
    size = draws.uniform(*scale)
    boxes, places = [], []
    for start, end, whole, unit in zip(
        (top, left), (bottom, right), image_size, fitting, strict=True
    ):
        inside = min(whole, max(round(size * unit), 1))
        length = min(inside / (size * unit), 1.0) * (end - start)
        first = start + draws.random() * (end - start - length)
        boxes.append((first, first + length))
        places.append((int(draws.integers(0, whole - inside + 1)), inside))
    (y1, y2), (x1, x2) = boxes
    box = (x1, y1, min(x2, mask.shape[1]), min(y2, mask.shape[0]))
    (row, rows), (column, columns) = places
    channels, resample = (
        pixels.shape[-1],
        pp.INTERPOLATIONS[preprocessing.interpolation],
    )
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    image = np.asarray(image.resize((columns, rows), resample, box=box))
    view = np.empty((*image_size, channels), "uint8")
    view[:] = preprocessing.padding()
    window = slice(row, row + rows), slice(column, column + columns)
    view[window] = image.reshape(rows, columns, channels)
    labels = np.full(tuple(image_size), pp.IGNORED, "uint8")
    near = Image.Resampling.NEAREST
    labels[window] = Image.fromarray(mask).resize((columns, rows), near, box=box)
    return view, labels

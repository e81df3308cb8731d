"""Tiny image files, and folders and tables of them, for the tests of data."""

import numpy as np
from PIL import Image


def picture(path, seed=None, size=(9, 8)):
    """Write an image of random pixels; the same seed gives the same content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (*size, 3)).astype("uint8")
    Image.fromarray(pixels).save(path)
    return path


def pictures(root, *names):
    """Write images of different contents."""
    for name in names:
        picture(root / name)
    return root


def frames(path, number=3):
    """Write an image file of several frames, the first one red."""
    colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    images = [Image.new("RGB", (8, 8), colour) for colour in colours[:number]]
    path.parent.mkdir(parents=True, exist_ok=True)
    images[0].save(path, save_all=True, append_images=images[1:])
    return path

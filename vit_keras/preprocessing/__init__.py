"""Preprocessing: conversion of images to a model's input.

Training, evaluation, prediction, calibration and export all use this package, so that a
model gets the same input everywhere. It needs only NumPy and Pillow, no deep-learning
framework. `rules` has `Preprocessing` itself, `image_files` reads files, `geometry`
says where a photograph lies in the input, `map_geometry` brings masks there, and maps
back.

Shape letters: N images, H height, W width in pixels, C colour channels, K classes.
"""

from .geometry import fit as fit
from .geometry import placed_box as placed_box
from .geometry import visible_box as visible_box
from .image_files import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from .image_files import PIXELS_PER_BYTE as PIXELS_PER_BYTE
from .image_files import ImageError as ImageError
from .image_files import find_images as find_images
from .image_files import load_image as load_image
from .image_files import open_image as open_image
from .image_files import read_image as read_image
from .map_geometry import IGNORED as IGNORED
from .map_geometry import fit_mask as fit_mask
from .map_geometry import to_photograph as to_photograph
from .rules import INTERPOLATIONS as INTERPOLATIONS
from .rules import NORMALISATIONS as NORMALISATIONS
from .rules import RESIZES as RESIZES
from .rules import Preprocessing as Preprocessing
from .rules import formula as formula
from .rules import get_preprocessing as get_preprocessing
from .rules import normalize as normalize

__all__ = [
    "IGNORED",
    "IMAGE_SUFFIXES",
    "INTERPOLATIONS",
    "NORMALISATIONS",
    "RESIZES",
    "ImageError",
    "Preprocessing",
    "find_images",
    "fit",
    "fit_mask",
    "formula",
    "get_preprocessing",
    "load_image",
    "normalize",
    "placed_box",
    "read_image",
    "to_photograph",
    "visible_box",
]

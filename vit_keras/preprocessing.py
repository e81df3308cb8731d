"""Preprocessing: conversion of images to a model's input.

Training, evaluation, prediction, calibration and export all use this file, so that a
model gets the same input everywhere. It needs only NumPy and Pillow, no deep-learning
framework.

Shape letters: N images, H height, W width in pixels, C colour channels.
"""

import dataclasses
import io
import math
import os
import pathlib
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageOps, UnidentifiedImageError

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# Known normalisations, by the range that pixels are brought to or the data whose
# statistics they are: mean and std on the scale 0..1, for all channels or for RGB.
NORMALISATIONS = {
    "-1..1": ((0.5,), (0.5,)),
    "0..1": ((0.0,), (1.0,)),
    "0..255": ((0.0,), (1 / 255,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


class ImageError(ValueError):
    """A file or byte string that is no readable image."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Normalisation and resizing of a model's input, saved with the model.

    Arguments:
        mean, std: per channel, on the scale 0..1. The input is
            `(pixel / 255 - mean) / std`. The default maps 0..255 to -1..1, as the ViT
            paper's code does.
        interpolation: name of Pillow's resampling filter, antialiased.
        crop: fraction of the shorter side that the centre crop keeps, in (0, 1].

    Raises:
        ValueError: a value is out of range, or a length does not fit.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    interpolation: str = "bicubic"
    crop: float = 1.0

    def __post_init__(self):
        for name in ("mean", "std"):  # JSON gives lists
            values = tuple(float(v) for v in getattr(self, name))
            object.__setattr__(self, name, values)
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                "`mean` and `std` must have one value per channel each. "
                f"Received: mean={self.mean}, std={self.std}"
            )
        if not all(math.isfinite(v) for v in self.mean):
            raise ValueError(f"`mean` must be finite. Received: mean={self.mean}")
        if not all(math.isfinite(s) and s > 0 for s in self.std):
            raise ValueError(f"`std` must be above 0. Received: std={self.std}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"`interpolation` must be one of {sorted(INTERPOLATIONS)}. "
                f"Received: interpolation={self.interpolation!r}"
            )
        if not 0 < self.crop <= 1:
            raise ValueError(f"`crop` must be in (0, 1]. Received: crop={self.crop}")

    @classmethod
    def of(cls, scale: Any, offset: Any, **options: Any) -> "Preprocessing":
        """Build the preprocessing whose normalisation is `pixel * scale + offset`.

        Arguments:
            scale, offset: (C,), as `scale_and_offset` gives them.
            options: `interpolation` and `crop`.
        """
        std = 1 / (255.0 * np.asarray(scale, "float64"))
        return cls(mean=tuple(-np.asarray(offset) * std), std=tuple(std), **options)

    def scale_and_offset(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the normalisation as one multiply-add on raw pixels.

        Returns:
            `(scale, offset)`, two float64 arrays of shape (C,), such that the
            network's input is `pixel * scale + offset` with pixels in 0..255.
        """
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return 1.0 / (255.0 * std), -mean / std


def get_preprocessing(value: Preprocessing | str, channels: int = 3) -> Preprocessing:
    """Return the `Preprocessing` of a name in `NORMALISATIONS`.

    Arguments:
        value: the name; a `Preprocessing` is returned as it is.
        channels: of the images.

    Raises:
        ValueError: the name is unknown, or of another number of channels.
    """
    if isinstance(value, Preprocessing):
        return value
    if value not in NORMALISATIONS:
        raise ValueError(
            "`preprocessing` must be a `vit_keras.Preprocessing` or one of "
            f"{', '.join(NORMALISATIONS)}. Received: preprocessing={value!r}"
        )
    mean, std = NORMALISATIONS[value]
    if len(mean) not in (1, channels):
        raise ValueError(
            f"`preprocessing` {value!r} is for {len(mean)} channels. "
            f"Received: images of {channels}"
        )
    repeat = channels // len(mean)
    return Preprocessing(mean=mean * repeat, std=std * repeat)


def formula(scale: ArrayLike, offset: ArrayLike) -> str:
    """The normalisation `x * scale + offset` as people write it.

    Arguments:
        scale, offset: per channel.

    Returns:
        Such as "x / 127.5 - 1", or "(x - (123.7, 116.3, 103.5)) / (58.4, 57.1, 57.4)".
    """
    scale, offset = np.ravel(scale), np.ravel(offset)
    if np.ptp(scale) < 1e-9 and np.ptp(offset) < 1e-6:
        divisor, added = 1 / scale[0], round(float(offset[0]), 4)
        text = "x" if abs(divisor - 1) < 1e-6 else f"x / {divisor:.5g}"
        sign = "+" if added > 0 else "-"
        return f"{text} {sign} {abs(added):g}" if added else text
    means, stds = (
        ", ".join(f"{v:.4g}" for v in values) for values in (-offset / scale, 1 / scale)
    )
    return f"(x - ({means})) / ({stds})"


def normalize(images: ArrayLike, preprocessing: Preprocessing) -> np.ndarray:
    """Normalise pixels to a model's input.

    Arguments:
        images: array (..., H, W, C), values 0..255, any real dtype.
        preprocessing: gives mean and std of C channels.

    Returns:
        float32 array of the same shape.

    Raises:
        ValueError: the last axis does not have one value per channel.
    """
    images = np.asarray(images)
    channels = len(preprocessing.mean)
    if images.ndim < 3 or images.shape[-1] != channels:
        raise ValueError(
            f"`images` must have {channels} channels in its last axis. "
            f"Received: shape={images.shape}"
        )
    scale, offset = preprocessing.scale_and_offset()
    return images.astype("float32") * scale.astype("float32") + offset.astype("float32")


def read_image(source: str | os.PathLike[str] | bytes, channels: int = 3) -> np.ndarray:
    """Read one image file as pixels.

    Supports JPEG, PNG, WebP, BMP, TIFF, GIF and whatever else Pillow reads. The EXIF
    orientation is applied, grey is repeated over the channels, alpha is dropped, 16
    bits are scaled to 8, and an animation gives its first frame.

    Arguments:
        source: path, or encoded bytes.
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 array (H, W, C).

    Raises:
        ImageError: the content is no image, is truncated, has pixels that are not of 8
            or 16 bits, or is too large to decode safely (Pillow's limit for
            decompression bombs).
        FileNotFoundError: the file does not exist.
    """
    name = "image bytes" if isinstance(source, bytes) else str(source)
    stream = io.BytesIO(source) if isinstance(source, bytes) else pathlib.Path(source)
    try:
        with Image.open(stream) as image:
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it
                grey = np.asarray(image, "float64") / 257.0
                if grey.min() < 0 or grey.max() > 255:
                    raise ValueError("its pixels have more than 16 bits, or a sign")
                image = Image.fromarray(grey.round().clip(0, 255).astype("uint8"))
            if image.mode == "F":  # of any range, which convert() would clip
                raise ValueError("its pixels are floats")
            if "transparency" in image.info:  # avoids a warning for some palettes
                image = image.convert("RGBA")
            pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    except FileNotFoundError:
        raise
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,  # truncated data
        SyntaxError,  # broken PNG chunks
        ValueError,
        struct.error,
    ) as error:
        raise ImageError(f"cannot read {name} as an image: {error}") from error
    return pixels.reshape(*pixels.shape[:2], channels)


def fit(
    pixels: np.ndarray, image_size: Sequence[int], preprocessing: Preprocessing
) -> np.ndarray:
    """Resize an image to cover the model's input, and crop its centre.

    Arguments:
        pixels: uint8 array (H, W, C).
        image_size: (height, width) of the result.
        preprocessing: gives `interpolation` and `crop`.

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
    image = image.resize(
        (width, height), INTERPOLATIONS[preprocessing.interpolation], box=box
    )
    return np.asarray(image).reshape(height, width, pixels.shape[-1])


def visible_box(
    size: Sequence[int], image_size: Sequence[int], preprocessing: Preprocessing
) -> tuple[float, float, float, float]:
    """Return the part of an image that `fit` keeps.

    Arguments:
        size: (height, width) of the image.
        image_size: (height, width) of the model's input.
        preprocessing: gives `crop`.

    Returns:
        (left, top, right, bottom) in pixels of the image.
    """
    (rows, columns), (height, width) = size, image_size
    cover = max(height / rows, width / columns) / preprocessing.crop
    box_w, box_h = width / cover, height / cover
    left, top = (columns - box_w) / 2, (rows - box_h) / 2
    return (
        max(left, 0.0),
        max(top, 0.0),
        min(left + box_w, columns),
        min(top + box_h, rows),
    )


def find_images(folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Return the image files in a folder and its subfolders, sorted."""
    files = pathlib.Path(folder).rglob("*")
    return sorted(f for f in files if f.suffix.lower() in IMAGE_SUFFIXES)


def load_image(
    source: str | os.PathLike[str] | bytes,
    image_size: Sequence[int],
    preprocessing: Preprocessing,
) -> np.ndarray:
    """Read and fit an image file; return a uint8 array (height, width, C)."""
    pixels = read_image(source, channels=len(preprocessing.mean))
    return fit(pixels, image_size, preprocessing)

"""Image files as pixels."""

import io
import os
import pathlib
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .geometry import fit
from .rules import Preprocessing

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


class ImageError(ValueError):
    """A file or byte string that is no readable image."""


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

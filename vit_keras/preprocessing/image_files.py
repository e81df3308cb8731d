"""Image files as pixels."""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps

from .geometry import fit
from .rules import Preprocessing

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


# Formats that Pillow has another program or the system draw: their files are code.
DRAWN = ("EPS", "WMF", "EMF")
PIXELS = 40_000_000  # of an image in however few bytes
# Above, a byte may stand for so many, as deflate packs one colour at most.
PIXELS_PER_BYTE = 1032
# Above the number that Pillow warns of, which take a gigabyte, for few: in a poor JPEG
# of a photograph it is for two, of a white page for fifty, of one colour for 64.
MANY_PIXELS, MANY_PER_BYTE = 89_478_485, 60


class ImageError(ValueError):
    """A file or byte string that is no readable image."""


def read_image(source: str | os.PathLike[str] | bytes, channels: int = 3) -> np.ndarray:
    """Read one image file as pixels.

    Supports JPEG, PNG, WebP, BMP, TIFF, GIF and whatever else Pillow decodes itself,
    which EPS and WMF are not. The EXIF
    orientation is applied, grey is repeated over the channels, alpha is dropped, 16
    bits are scaled to 8, and an animation gives its first frame.

    Arguments:
        source: path, or encoded bytes.
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 array (H, W, C).

    Raises:
        ImageError: the content is no image, is truncated, has pixels that are not of 8
            or 16 bits, or is too large to decode safely: above Pillow's limit, or above
            `PIXELS` with far fewer bytes than pixels.
        FileNotFoundError: the file does not exist.
    """
    name = "image bytes" if isinstance(source, bytes) else str(source)
    stream = io.BytesIO(source) if isinstance(source, bytes) else pathlib.Path(source)
    try:
        with open_image(stream) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # without a copy
            if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it
                grey = np.asarray(image, "float64") / 257.0
                if grey.min() < 0 or grey.max() > 255:
                    raise ValueError("its pixels have more than 16 bits, or a sign")
                image = Image.fromarray(grey.round().clip(0, 255).astype("uint8"))
            if image.mode == "F":  # of any range, which convert() would clip
                raise ValueError("its pixels are floats")
            if "transparency" in image.info:  # avoids a warning for some palettes
                image = image.convert("RGBA")
            wanted = "RGB" if channels == 3 else "L"
            image = image if image.mode == wanted else image.convert(wanted)
            pixels = np.asarray(image)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow raises many kinds
        raise ImageError(f"cannot read {name} as an image: {error}") from error
    return pixels.reshape(*pixels.shape[:2], channels)


@contextlib.contextmanager
def open_image(
    source: pathlib.Path | io.BytesIO, many_per_byte: int = MANY_PER_BYTE
) -> Iterator[Image.Image]:
    """Open an image that is safe to decode.

    Arguments:
        source: path, or encoded bytes.
        many_per_byte: pixels that a byte of it may stand for, above `MANY_PIXELS`;
            `PIXELS_PER_BYTE` for masks, which are of one colour nearly everywhere;
            of one channel, others have `MANY_PER_BYTE`.

    Raises:
        ValueError: it is no regular file, is drawn by a program, or has far more pixels
            than its bytes can describe; Pillow's limit is below 179 million.
        Others of Pillow, of many kinds.
    """
    if isinstance(source, pathlib.Path) and source.exists() and not source.is_file():
        raise ValueError(f"'{source}' is no regular file")  # a pipe blocks who opens it
    with Image.open(source) as image:
        if image.format in DRAWN:
            raise ValueError(f"{image.format} is a program that draws, not an image")
        if isinstance(source, io.BytesIO):
            size = source.getbuffer().nbytes
        else:
            size = source.stat().st_size
        pixels = image.width * image.height
        if len(image.getbands()) > 1:  # which take several bytes for a pixel
            many_per_byte = MANY_PER_BYTE
        per_byte = PIXELS_PER_BYTE if pixels <= MANY_PIXELS else many_per_byte
        if pixels > max(PIXELS, per_byte * size):
            raise ValueError(f"its {pixels:,} pixels are in {size:,} bytes: refused")
        yield image


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

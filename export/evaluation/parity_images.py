"""The images that ranges and parity are measured on."""

import dataclasses
import hashlib
import math
import os
from typing import Any

import numpy as np

from vit_keras import Preprocessing
from vit_keras.data import load_images

from . import runners
from .verify import read_sidecar

PARITY_LIMIT = 32  # images for measuring parity
PARITY_VALUES = 2**25  # of their outputs, which are compared in float64


@dataclasses.dataclass(frozen=True)
class ParityImages:
    """Images for ranges and parity, and where they come from.

    Attributes:
        pixels: (N, H, W, C).
        source: in words.
        synthetic: whether they are random patterns, for want of real ones.
    """

    pixels: np.ndarray
    source: str
    synthetic: bool = False

    def compared(self, shape) -> np.ndarray:
        """Return the images that parity is measured on: fewer if outputs are large.

        Arguments:
            shape: of a model's output, (None, ...).
        """
        each = math.prod(n or 1 for n in shape[1:])
        return self.pixels[: max(1, min(PARITY_LIMIT, PARITY_VALUES // each))]

    def summary(self) -> dict[str, Any]:
        """Plain data for the JSON beside an artefact."""
        return {
            "images": len(self.pixels),
            "sha256": content_hash(self.pixels),
            "source": self.source,
        }


def open_images(source, model, meaning, limit) -> ParityImages:
    """The images that were given, else smooth random patterns."""
    from vit_keras import data

    if source is not None:
        size = model.input_shape[1:3]
        pixels = data.load_images(source, size, meaning.reading, limit)
        named = isinstance(source, str | os.PathLike)
        words = f"images of {source}" if named else "the images given"
        return ParityImages(pixels, words)
    # Smooth patterns with noise: nearer to photographs than noise alone.
    generator = np.random.default_rng(0)
    height, width, channels = model.input_shape[1:]
    coarse = generator.uniform(0, 255, (16, 4, 4, channels))
    rows = np.arange(height) * 4 // height
    columns = np.arange(width) * 4 // width
    pixels = coarse[:, rows][:, :, columns]
    pixels = pixels + generator.normal(0, 20, pixels.shape)
    pixels = pixels.clip(0, 255).astype("uint8")
    return ParityImages(pixels, "16 random patterns", synthetic=True)


def content_hash(images) -> str:
    """SHA-256 of the pixels and their shape: the same images give the same hash."""
    images = np.ascontiguousarray(images)
    digest = hashlib.sha256(f"{images.shape}{images.dtype}".encode())
    digest.update(images.tobytes())
    return digest.hexdigest()


def images_for(path, source, limit=None) -> np.ndarray:
    """Read images of a source as an artefact takes them, by its report.

    Arguments:
        path: of the artefact.
        source: a folder, a `.npy` file, a data set, of which the test part is used.
        limit: use at most this many.
    """
    inside = read_sidecar(path).get("preprocessing")
    preprocessing = Preprocessing(**inside) if inside else None
    size: Any = runners.load(path).input_shape[1:3]
    return load_images(source, size, preprocessing, limit, held_out=True)

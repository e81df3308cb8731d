"""Multi-threaded reading of the images of a data set."""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from .. import preprocessing as pp
from ..heads import get_head
from .dataset import Dataset

# Decoded images below this total size stay in memory, so that each file is read once.
CACHE_BYTES = 2**30
# Maximal number of images that threads read ahead.
AHEAD = 64


def prepare(
    dataset: Dataset,
    image_size: Sequence[int],
    preprocessing: pp.Preprocessing,
    *,
    strict: bool = False,
    keep_pixels: bool = True,
    advance: Callable[[], object] = lambda: None,
) -> tuple[Dataset, list[str]]:
    """Read every image once: find unreadable ones, keep pixels that fit into memory.

    Masks and depths are read, too, and left as they are: `fit_mask` brings them to the
    model's size.

    Arguments:
        dataset: images as files or pixels.
        image_size: (height, width) of the model.
        preprocessing: how images are resized.
        strict: raise for an unreadable file instead of skipping it.
        keep_pixels: whether pixels of the model's size are kept if they fit.
        advance: called after each image, for a progress bar.

    Returns:
        The readable images, as pixels if they fit into memory, and one line for each
        unreadable file.

    Raises:
        ImageError: with `strict`, the first unreadable file.
        ValueError: no image is readable.
    """
    height, width = image_size
    channels = len(preprocessing.mean)
    dense = get_head(dataset.head).task != "classify"
    fits = len(dataset) * height * width * channels <= CACHE_BYTES and keep_pixels
    pixels, good, bad = [], [], []

    def read(index):
        try:
            if dense:
                found = read_pair(dataset, index, channels)[0]
                return pp.fit(found, image_size, preprocessing)
            return read_fitted(dataset.images[index], image_size, preprocessing)
        except pp.ImageError as error:
            return error

    for i, result in enumerate(in_threads(read, len(dataset))):
        advance()
        if isinstance(result, pp.ImageError):
            if strict:
                raise result
            bad.append(str(result))
            continue
        good.append(i)
        if fits:
            pixels.append(result)
    if not good:
        raise ValueError(
            f"`data` must hold readable images; all {len(bad)} are not: {bad[0]}"
        )
    readable = dataset.take(np.array(good))
    if fits:
        readable = dataclasses.replace(readable, images=np.stack(pixels))
    return readable, bad


def in_threads(function: Callable[[int], object], number: int):
    """Yield `function(0)` to `function(number - 1)` in order, computed ahead."""
    with concurrent.futures.ThreadPoolExecutor() as threads:
        ahead = collections.deque()
        for index in range(number):
            ahead.append(threads.submit(function, index))
            if len(ahead) == AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def read_pixels(source, channels: int) -> np.ndarray:
    """Read an image of a `Dataset` as pixels, grey repeated over the channels.

    Arguments:
        source: path, or uint8 array (H, W, C).
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 array (H, W, channels).

    Raises:
        ImageError: the file is not readable, or the array has other channels.
    """
    if not isinstance(source, np.ndarray):
        try:
            return pp.read_image(source, channels)
        except FileNotFoundError as error:
            link = ", a broken link" if source.is_symlink() else ""
            raise pp.ImageError(f"cannot read {source}: no such file{link}") from error
    if source.shape[-1] == 1:
        return source if channels == 1 else np.repeat(source, channels, axis=-1)
    if source.shape[-1] != channels:
        raise pp.ImageError(
            f"the image must have {channels} channels, as the model, or one. "
            f"Received: shape={source.shape}"
        )
    return source


def read_pair(
    dataset: Dataset, index: int, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read an image, and what is at each of its pixels.

    Returns:
        (uint8 (H, W, channels), mask uint8 or depths float32 (H, W)).

    Raises:
        ImageError: one of them is not readable, or they differ in size.
    """
    pixels = read_pixels(dataset.images[index], channels)
    label = dataset.labels[index]
    if label.shape != pixels.shape[:2]:
        source = dataset.images[index]
        name = f"image {index}" if isinstance(source, np.ndarray) else source
        raise pp.ImageError(
            f"cannot use {name}: its mask must have its size, (height, width) = "
            f"{pixels.shape[:2]}. Received: {label.shape}"
        )
    return pixels, label


def read_fitted(source, image_size, preprocessing):
    """Read an image of a `Dataset` at the model's size, uint8 (height, width, C)."""
    pixels = read_pixels(source, len(preprocessing.mean))
    return pp.fit(pixels, image_size, preprocessing)

"""Images for calibration and parity, and the ranges measured on them."""

import dataclasses
import hashlib
import math
import os
import pathlib
import warnings
from collections.abc import Iterable

import numpy as np

from ..evaluation.tensor_errors import open_preserving, open_with_outputs, short_name
from .clipping import RANGES, Seen

# Operators whose outputs are their inputs' values in another shape or place. Their
# tensors must share one scale, or the quantiser has to convert between them.
SAME_SCALE = ("RESHAPE", "TRANSPOSE", "CONCATENATION", "STRIDED_SLICE", "SLICE")


def load_images(source, image_size, preprocessing, limit=None, seed=0):
    """Raw pixels from whatever the user has.

    Arguments:
        source: an array (N, H, W, C) with pixels 0..255, a `.npy` file of one, or a
            folder that is searched for image files, subfolders included; or a
            `tf.data.Dataset` or another iterable of batches of images, alone or first
            in a tuple, as with labels.
        image_size: (height, width) that the model takes.
        preprocessing: how photographs are brought to this size; None for a model
            whose input is not pixels, which then takes arrays only.
        limit: use at most this many images, drawn at random, but the first ones of a
            data set; None means all.
        seed: of this draw.

    Returns:
        Array (N, height, width, C): uint8, or float32 if the source is float.

    Raises:
        ValueError: wrong shape, values that are not pixels, or no readable image.
        FileNotFoundError: the path does not exist.
    """
    if isinstance(source, str | os.PathLike):
        path = pathlib.Path(source)
        if path.is_dir() and preprocessing is None:
            raise ValueError(
                "Images must be an array for a model that carries no preprocessing, "
                f"or `preprocessing` be given. Received: folder '{path}'"
            )
        if path.is_dir():
            return _load_folder(path, image_size, preprocessing, limit, seed)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file or folder '{path}'")
        if path.suffix != ".npy":
            raise ValueError(
                f"Images must be an array, a .npy file or a folder. Received: '{path}'"
            )
        try:
            source = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"'{path}' is no whole .npy file: {error}") from error
    images = as_array(source, limit)
    channels = len(preprocessing.mean) if preprocessing is not None else None
    expected = (*image_size, channels or images.shape[-1])
    if images.ndim != 4 or images.shape[1:] != expected or not len(images):
        raise ValueError(
            f"Images must have the shape (N, {', '.join(map(str, expected))}) with "
            f"N >= 1. Received: shape={images.shape}"
        )
    if limit is not None and len(images) > limit:
        images = images[_draw(len(images), limit, seed)]
    if preprocessing is not None:
        images = _check_pixels(images)
    return images


def as_array(source, limit=None) -> np.ndarray:
    """An array of what is one, or of the first images of an iterable of batches.

    Raises:
        ValueError: the iterable gives something else.
    """
    array = hasattr(source, "__array__") or isinstance(source, list | tuple)
    if array or not isinstance(source, Iterable):
        return np.asarray(source)
    batches, count = [], 0
    for item in source:
        batch = np.asarray(item[0] if isinstance(item, list | tuple) else item)
        if batch.ndim != 4 or batch.shape[1:] != (batches or [batch])[0].shape[1:]:
            raise ValueError(
                "A data set of images must give batches (N, H, W, C) of one size, or "
                f"(batch, labels). Received: shape={batch.shape}"
            )
        batches.append(batch)
        count += len(batch)
        if limit is not None and count >= limit:
            break
    if not batches:
        raise ValueError("A data set of images must hold one at least. It is empty")
    return np.concatenate(batches)[:limit]


CALIBRATION_LIMIT = 128  # more images hardly widen a minimum and maximum
PARITY_LIMIT = 32  # images that parity is measured on


@dataclasses.dataclass(frozen=True)
class Images:
    """Images for an export, and where they come from.

    Attributes:
        pixels: (N, H, W, C).
        source: in words.
        synthetic: whether they are random patterns, for want of real ones.
    """

    pixels: np.ndarray
    source: str
    synthetic: bool = False

    def summary(self):
        """Plain data for the JSON beside an artefact."""
        return {
            "images": len(self.pixels),
            "sha256": content_hash(self.pixels),
            "source": self.source,
        }


def load_parity_images(source, input_shape, preprocessing, limit) -> Images:
    """The images to measure ranges and parity on; random patterns if none are given.

    Arguments:
        source: as for `load_images`, or None.
        input_shape: (N, H, W, C) of the model.
        preprocessing, limit: as for `load_images`.
    """
    if source is not None:
        pixels = load_images(source, input_shape[1:3], preprocessing, limit)
        named = isinstance(source, str | os.PathLike)
        return Images(pixels, f"images of {source}" if named else "the images given")
    # Smooth patterns with noise: nearer to photographs than noise alone.
    generator = np.random.default_rng(0)
    height, width, channels = input_shape[1:]
    coarse = generator.uniform(0, 255, (16, 4, 4, channels))
    rows = np.arange(height) * 4 // height
    columns = np.arange(width) * 4 // width
    pixels = coarse[:, rows][:, :, columns]
    pixels = pixels + generator.normal(0, 20, pixels.shape)
    pixels = pixels.clip(0, 255).astype("uint8")
    return Images(pixels, "16 random patterns", synthetic=True)


def _draw(total, limit, seed):
    return np.sort(np.random.default_rng(seed).choice(total, limit, replace=False))


def _check_pixels(images):
    """Reject what can not be pixels; normalised images are the usual mistake."""
    if images.dtype == np.uint8:
        return images
    low, high = float(np.min(images)), float(np.max(images))
    if not (math.isfinite(low) and math.isfinite(high)) or low < 0 or high > 255:
        hint = " They look normalised already." if -20 < low and high < 20 else ""
        raise ValueError(
            "Images must be pixels in 0..255; the preprocessing is inside the "
            f"artefact.{hint} Received: values from {low:g} to {high:g}"
        )
    if high <= 1.0 and np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            "Images must be pixels in 0..255; these are in 0..1. Multiply them by 255."
        )
    return images.astype("float32")


def _load_folder(path, image_size, preprocessing, limit, seed):
    from vit_keras import preprocessing as pp

    files = pp.find_images(path)
    order = np.random.default_rng(seed).permutation(len(files))
    images, bad = [], []
    for index in order if limit is not None else range(len(files)):
        try:
            images.append(pp.load_image(files[index], image_size, preprocessing))
        except pp.ImageError as error:
            bad.append(str(error))
        if limit is not None and len(images) == limit:
            break
    for line in bad:
        warnings.warn(f"skipped: {line}", stacklevel=3)
    if not images:
        raise ValueError(
            f"'{path}' holds no readable image "
            f"({', '.join(pp.IMAGE_SUFFIXES)}); {len(bad)} files were unreadable"
        )
    return np.stack(images)


def content_hash(images) -> str:
    """SHA-256 of the pixels and their shape: the same images give the same hash."""
    images = np.ascontiguousarray(images)
    digest = hashlib.sha256(f"{images.shape}{images.dtype}".encode())
    digest.update(images.tobytes())
    return digest.hexdigest()


def measure_ranges(
    path, images, pixels=True, method="min_max"
) -> dict[str, tuple[float, float]]:
    """The range of every float tensor of a float file.

    Plain minimum and maximum is the default: clipping outliers, which class and
    register tokens carry on purpose, destroys a pre-trained ViT.

    Arguments:
        path: a float32 `.tflite` file with a float32 input.
        images: (N, H, W, C), what the file takes.
        pixels: whether these are pixels 0..255.
        method: a name in `RANGES`.

    Returns:
        tensor name -> (min, max). Tensors that share a scale share a range: that which
        holds the range of each.

    Raises:
        ValueError: a tensor is infinite or no number.
    """
    kept, entry, tensors = open_preserving(path)
    groups, made = same_scale_groups(kept, tensors), outputs_of(kept)
    batch, still = int(entry["shape"][0]), set(tensors) - made - {entry["index"]}
    seen = {index: Seen(counted=method != "min_max") for index in tensors}
    for index in still:  # weights, the same for all images
        _add(seen[index], kept.get_tensor(index), tensors[index]["name"])
    del kept
    moving = [index for index in tensors if index in made]
    interpreter = open_with_outputs(path, moving)
    for start in range(0, len(images), batch):
        chunk = np.asarray(images[start : start + batch], "float32")
        chunk = np.resize(chunk, (batch, *chunk.shape[1:]))
        interpreter.set_tensor(entry["index"], chunk)
        interpreter.invoke()
        for index in (entry["index"], *moving):
            _add(seen[index], interpreter.get_tensor(index), tensors[index]["name"])
    ranges = {
        index: RANGES[method](held)
        for index, held in seen.items()
        if math.isfinite(held.low)  # not empty
    }
    if pixels:
        # All values are possible, whichever these images happened to hold. With
        # 0..255 the scale is exactly 1 and a uint8 image needs no arithmetic.
        ranges[entry["index"]] = (0.0, 255.0)
    for group in groups:
        held = group & ranges.keys()
        if held:
            lows, highs = zip(*(ranges[index] for index in held), strict=True)
            ranges |= dict.fromkeys(held, (min(lows), max(highs)))
    return {tensors[index]["name"]: ends for index, ends in ranges.items()}


def _add(seen, values, name):
    if not values.size:
        return
    try:
        seen.add(values)
    except ValueError as error:
        raise ValueError(
            "the model must give finite values on the calibration images. "
            f"{short_name(name)} has {error}"
        ) from error


def outputs_of(interpreter):
    """Indices of the tensors that operators give."""
    ops = interpreter._get_ops_details()
    return {int(index) for op in ops for index in op["outputs"]}


def same_scale_groups(interpreter, indices):
    """Sets of tensors joined by operators that only move values."""
    group = {index: {index} for index in indices}
    for op in interpreter._get_ops_details():
        if op["op_name"] not in SAME_SCALE:
            continue
        joined = set()
        for index in (*op["inputs"], *op["outputs"]):
            joined |= group.get(int(index), set())
        for index in joined:
            group[index] = joined
    return {id(members): members for members in group.values()}.values()

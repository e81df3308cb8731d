"""Images with a class at each pixel, on which the mean IoU of a file is measured."""

import dataclasses
import math
from typing import Any

import numpy as np

from vit_keras import data, preprocessing
from vit_keras.training.evaluation import checked_for

# Bytes of the outputs for all images; those of the model and of a file are in memory.
OUTPUT_BYTES = 2**31


def open_masks(inputs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Load pairs of images and masks for a model of classes at each pixel.

    Arguments:
        inputs: `ExportInputs` with `evaluation`.

    Returns:
        Pixels uint8 (N, H, W, C) of the model's size, and masks uint8 (N, h, w) of the
        size of its outputs, 255 where ignored.

    Raises:
        ValueError: the pairs do not fit the model, or are too many for the memory.
    """
    outputs, given, reading = inputs.outputs, inputs.evaluation, inputs.reading
    if reading is None:
        raise ValueError(
            "`preprocessing` must be given to read `evaluation` for a model of classes "
            f"at each pixel that carries none. Received: evaluation={given!r}"
        )
    try:
        dataset = data.open_source(given, held_out=True, task="segment")
        if isinstance(given, tuple):  # numbers are classes; the last may be missing
            more = map(str, range(len(dataset.classes), outputs.names))
            dataset = dataclasses.replace(dataset, classes=(*dataset.classes, *more))
        elif inputs.labels is not None:
            dataset = data.match_classes(dataset, inputs.labels)
        dataset = checked_for(dataset, outputs.head, outputs.names)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"`evaluation` must be images and masks that fit the model: {error}"
        ) from error
    most = OUTPUT_BYTES // (4 * math.prod(outputs.shape[1:]))
    if len(dataset) > most:
        raise ValueError(
            f"`evaluation` must have at most {most} images, for outputs of "
            f"{outputs.shape[1:]} to fit into memory; output_size='decoder' makes them "
            f"smaller. Received: {len(dataset)} images"
        )
    size, channels = inputs.model.input_shape[1:3], len(reading.mean)

    def read(index):
        try:
            pixels, mask = data.read_pair(dataset, index, channels)
        except preprocessing.ImageError as error:
            raise ValueError(f"`evaluation` must be readable: {error}") from error
        mask = preprocessing.fit_mask(mask, outputs.shape[1:3], reading)
        return preprocessing.fit(pixels, size, reading), mask

    pairs = data.in_threads(read, len(dataset))
    images, masks = zip(*pairs, strict=True)
    return np.stack(images), np.stack(masks)

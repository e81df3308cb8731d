"""Calibration: ranges of the tensors of a float file, measured on images."""

import math

import numpy as np

from ..evaluation.interpreter import (
    open_preserving,
    open_with_outputs,
    operators_of,
    short_name,
)
from .clipping import RANGES, Histogram
from .masks import Masks

# Operators that only move or reshape values. Their inputs and outputs must share one
# scale, or the quantiser inserts conversions.
SAME_SCALE = ("RESHAPE", "TRANSPOSE", "CONCATENATION", "STRIDED_SLICE", "SLICE")
# Below, GELU is 0 within 1.3e-4, a hundredth of a usual int8 step of its output.
FLAT = {"GELU": -4.0}


def measure_ranges(
    path, images, pixels=True, method="min_max"
) -> dict[str, tuple[float, float]]:
    """Measure the range of every float tensor of a float file.

    Minimum and maximum are the default: clipping outliers, which class and register
    tokens carry on purpose, destroys a pre-trained ViT.

    Arguments:
        path: a float32 `.tflite` file with a float32 input.
        images: (N, H, W, C), inputs of the file.
        pixels: whether these are pixels 0..255.
        method: a name in `RANGES`.

    Returns:
        tensor name -> (min, max). Tensors that share a scale share a range, the union
        of theirs.

    Raises:
        ValueError: a tensor has infinite or NaN values.
    """
    preserving, entry, tensors = open_preserving(path)
    groups = same_scale_groups(preserving, tensors)
    operators = operators_of(preserving)
    computed = {index for op in operators for index in op["outputs"]}
    masks, batch = Masks(preserving), int(entry["shape"][0])
    seen = {index: Histogram(counted=method != "min_max") for index in tensors}
    for index in set(tensors) - computed - {entry["index"]}:  # weights
        values = masks.visible(index, preserving.get_tensor(index))
        _add(seen[index], values, tensors[index]["name"])
    del preserving
    activations = [index for index in tensors if index in computed]
    interpreter = open_with_outputs(path, activations)
    for start in range(0, len(images), batch):
        chunk = np.asarray(images[start : start + batch], "float32")
        chunk = np.resize(chunk, (batch, *chunk.shape[1:]))
        interpreter.set_tensor(entry["index"], chunk)
        interpreter.invoke()
        for index in (entry["index"], *activations):
            values = masks.visible(index, interpreter.get_tensor(index))
            _add(seen[index], values, tensors[index]["name"])
    ranges = {
        index: RANGES[method](histogram)
        for index, histogram in seen.items()
        if math.isfinite(histogram.low)  # not empty
    }
    if pixels:
        # Any pixel value is possible, whatever these images contain. With 0..255 the
        # scale is exactly 1 and a uint8 image needs no arithmetic.
        ranges[entry["index"]] = (0.0, 255.0)
    for group in groups:
        measured = group & ranges.keys()
        if measured:
            lows, highs = zip(*(ranges[index] for index in measured), strict=True)
            ranges |= dict.fromkeys(measured, (min(lows), max(highs)))
    ranges = masks.limit(_without_flat_parts(ranges, groups, operators))
    return {tensors[index]["name"]: limits for index, limits in ranges.items()}


def _without_flat_parts(ranges, groups, operators):
    """Return the ranges without values that give the same output of what alone reads
    them: an integer tensor clips them, and its steps become finer."""
    readers = {}
    for op in operators:
        for index in op["inputs"]:
            readers.setdefault(index, set()).add(op["op_name"])
    ranges = dict(ranges)
    for group in groups:
        names = set().union(*(readers.get(index, set()) for index in group))
        names -= set(SAME_SCALE)
        if len(names) != 1 or not names <= FLAT.keys():
            continue
        (name,) = names
        for index in group & ranges.keys():
            low, high = ranges[index]
            ranges[index] = (max(low, min(FLAT[name], high)), high)
    return ranges


def symmetric_right_operands(
    path, ranges: dict[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Give the right operand of each product of two activations zero point 0.

    Arguments:
        path: a float32 `.tflite` file.
        ranges: tensor name -> (min, max), from `measure_ranges`.

    Returns:
        The ranges; those of right operands, and of the tensors that share a scale with
        one, from -128 to 127 steps.
    """
    interpreter, _, tensors = open_preserving(path)
    operators = operators_of(interpreter)
    computed = {index for op in operators for index in op["outputs"]}
    products = [op for op in operators if op["op_name"] == "BATCH_MATMUL"]
    right = computed.intersection(op["inputs"][1] for op in products)
    ranges = dict(ranges)
    for group in same_scale_groups(interpreter, tensors):
        if group & right:
            for name in (tensors[index]["name"] for index in group & computed):
                ranges[name] = symmetric(ranges[name])
    return ranges


def symmetric(limits: tuple[float, float]) -> tuple[float, float]:
    """Widen a range to one of zero point 0: from -128 to 127 steps."""
    peak = max(map(abs, limits))
    return (-peak * 128 / 127, peak)


def _add(histogram, values, name):
    if not values.size:
        return
    try:
        histogram.add(values)
    except ValueError as error:
        raise ValueError(
            "`model` must give finite values on the calibration images. "
            f"{short_name(name)} has {error}"
        ) from error


def same_scale_groups(interpreter, indices):
    """Return sets of tensors joined by operators that only move values."""
    group = {index: {index} for index in indices}
    for op in operators_of(interpreter):
        if op["op_name"] not in SAME_SCALE:
            continue
        joined = set()
        for index in (*op["inputs"], *op["outputs"]):
            joined |= group.get(index, set())
        for index in joined:
            group[index] = joined
    return {id(members): members for members in group.values()}.values()

"""Trained ranges for the tensors of a `.tflite` file.

The unquantised layer and the float file compute the same values on the same images:
tensors with equal minimum, maximum, mean and standard deviation are the same.
"""

from collections.abc import Collection

import numpy as np

from ...evaluation.interpreter import open_preserving, operators_of, short_name
from ...graph.sparsity import VALUES
from ...plan import OpOverride
from ..calibration import same_scale_groups
from ..post_training import INT4_OPERATORS, output_pattern
from .layer import INT4

PROBES = 2  # images; each gives four numbers that must agree
# Relative to the largest number. Float32 in another order of operations differs by
# 1e-5, different tensors by 1e-1.
EQUAL = 1e-3
# Int8 operators whose output has the scale of their input.
INPUT_SCALE = ("REDUCE_MAX",)


def trained_ranges(
    path, layer, images, operators: Collection[str] | None = None
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Return trained ranges for the tensors of a file.

    Arguments:
        path: a float32 `.tflite` file with a float32 input and the layer's weights on
            their grids.
        layer: a `QuantizedViT`.
        images: (N, H, W, C), inputs of the file; N >= 1.
        operators: that are quantised; None for all.

    Returns:
        {tensor name: (min, max)}, and the names of the quantised activations that no
        activation of the layer equals: their ranges are measured on the first images.

    Raises:
        ValueError: less than half of the layer's activations were found in the file.
    """
    images = np.asarray(images[:PROBES], "float32")
    records = [layer.activations(image[None], snapped=True) for image in images]
    ours = np.stack([[_summary(x) for x, _ in record] for record in records], 1)
    limits = np.array([layer.limits(i) for i in range(len(ours))], "float32")
    interpreter, entry, tensors = open_preserving(path)
    theirs = {index: [] for index in tensors}
    for image in images:
        chunk = np.resize(image[None], entry["shape"])
        interpreter.set_tensor(entry["index"], chunk)
        interpreter.invoke()
        for index in tensors:
            values = interpreter.get_tensor(index)
            theirs[index].append(_summary(values) if values.size else (0, 0, 0, 0))
    found, measured = {}, {}
    for index, summary in theirs.items():
        gap = np.abs(ours - summary).max((1, 2)) / (np.abs(summary).max() + 1e-9)
        if gap.min() < EQUAL:
            found[index] = limits[gap.argmin()]
        measured[index] = np.array(summary)[:, 0].min(), np.array(summary)[:, 1].max()
    if len(found) < len(limits) / 2:
        raise ValueError(
            f"`model` must compute what its file does: only {len(found)} of "
            f"{len(limits)} activations were found in it"
        )
    ranges, own = {}, _with_own_range(interpreter, operators)
    unknown = []
    for group in same_scale_groups(interpreter, tensors):
        known = [found[i] for i in group if i in found] or [measured[i] for i in group]
        low, high = min(k[0] for k in known), max(k[1] for k in known)
        ranges |= {tensors[i]["name"]: (float(low), float(high)) for i in group}
        if found.keys().isdisjoint(group) and group & own:  # one, moved or not
            unknown.append(short_name(tensors[min(group & own)]["name"]))
    return ranges, unknown


def _with_own_range(interpreter, operators):
    """Return the computed tensors that the quantised file gives a scale of their own.

    If not all operators are quantised, they are the inputs and outputs of those.
    """
    tensors, computed = set(), set()
    for op in operators_of(interpreter):
        computed.update(op["outputs"])
        if operators is None and op["op_name"] not in INPUT_SCALE:
            tensors.update(op["outputs"])
        elif operators is not None and op["op_name"] in operators:
            tensors.update((op["inputs"][0], *op["outputs"]))
    return tensors & computed


def _summary(x):
    x = np.asarray(x, "float64")
    return x.min(), x.max(), x.mean(), x.std()


def weight_overrides(path, layer) -> list[OpOverride]:
    """Return overrides that store weights as they were trained: int4 for those on an
    int4 grid, one scale for clustered ones.

    Arguments:
        path: a float32 `.tflite` file.
        layer: the `QuantizedViT` that the file was made from.
    """
    interpreter, _, tensors = open_preserving(path)
    found = []
    for op in operators_of(interpreter):
        name = op["op_name"]
        if name not in INT4_OPERATORS:
            continue
        weights = interpreter.get_tensor(op["inputs"][1]).astype("float64")
        outputs = output_pattern(tensors[op["outputs"][0]]["name"])
        peaks = np.abs(weights).max(1, keepdims=True)
        levels = weights / np.where(peaks, peaks, 1) * INT4
        if np.abs(levels - np.round(levels)).max() < 1e-3:  # float32 has 1e-6
            found.append(OpOverride(name, outputs, weights="int4"))
        elif layer.values and len(np.unique(weights)) <= min(VALUES, weights.size // 4):
            found.append(OpOverride(name, outputs, granularity="TENSORWISE"))
    return found

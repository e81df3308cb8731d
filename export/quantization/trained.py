"""What `to_tflite` does with a model of `quantize_aware`."""

import collections
import json
import os
import re
import zipfile

import numpy as np

from ..targets import form_for, get_target
from .post_training import Rule

CLASS = "QuantizedModel"
GRID = 7  # greatest value of int4
# LiteRT computes int8 with int4 weights in these.
INT4_OPERATORS = ("FULLY_CONNECTED",)


def is_trained(model) -> bool:
    """Whether a model, or what a `.keras` file holds, is of `quantize_aware`; without
    loading TensorFlow."""
    if not isinstance(model, str | os.PathLike):
        return type(model).__name__ == CLASS
    try:
        with zipfile.ZipFile(model) as archive:
            return json.loads(archive.read("config.json")).get("class_name") == CLASS
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return False  # whoever opens it will say why


def opened(model):
    """The model, from its file if need be."""
    if isinstance(model, str | os.PathLike):
        from .aware import open_quantized

        return open_quantized(model)
    return model


def check_use(layer, scheme, target, heads_apart, otherwise=False):
    """Refuse another artefact than the one that was trained.

    Raises:
        ValueError: the scheme is not "int8", the target wants another graph, or ranges
            or bits are to be others than those that were trained.
    """
    if otherwise:
        raise ValueError(
            "`calibration_method`, `min_sqnr` and `accuracy_drop` are for quantisation "
            "after training; a model of quantize_aware is written as it was trained"
        )
    if scheme != "int8":
        raise ValueError(
            "`scheme` must be 'int8' for a model of quantize_aware; its `to_float()` "
            f"gives one for the others. Received: scheme={scheme!r}"
        )
    place = get_target(target) if target else None
    only = bool(place and place.int8_only)
    wanted = form_for("int8", target, heads_apart)
    if wanted != layer.form or only != layer.products_only:
        raise ValueError(
            "`target` must be one whose graph was trained: give quantize_aware the "
            f"same target and layer_norm. Received: target={target!r} ({wanted}), "
            f"trained: {layer.form}"
        )


def trained_graph(layer):
    """The `Graph` of the weights, on their grids, without quantised activations."""
    from ..graph.build import Graph
    from ..graph.inference_layer import InferenceViT

    inference = InferenceViT(layer.arrays(), layer.form, name="vit")
    inference.update()
    return Graph(inference, ("quantize_aware",), (_how_held(layer),))


def _how_held(layer) -> str:
    """What becomes of the kernels, for the report."""
    kinds = collections.Counter(
        (bits, "int4" if layer.is_int4(place) else "int8")
        for place, bits in layer.bits.items()
    )
    parts = [f"{n} kernels of {bits} bits as {t}" for (bits, t), n in kinds.items()]
    coarse = any(bits < 8 and held == "int8" for bits, held in kinds)
    reason = f"; LiteRT has int4 kernels of {', '.join(INT4_OPERATORS)} alone"
    return f"trained as integers: {', '.join(parts)}{reason if coarse else ''}"


def weight_rules(path, layer) -> list[Rule]:
    """How the file must hold weights so that what training made of them lasts: those on
    a grid of int4 as int4, clustered ones with one scale.

    Arguments:
        path: a float32 `.tflite` file.
        layer: the `QuantizedViT` that it is of.
    """
    from ..evaluation.tensor_errors import open_preserving
    from ..graph.sparsity import VALUES

    interpreter, _, tensors = open_preserving(path)
    found = []
    for op in interpreter._get_ops_details():
        if op["op_name"] not in INT4_OPERATORS:
            continue
        weights = interpreter.get_tensor(int(op["inputs"][1])).astype("float64")
        outputs = f"^{re.escape(tensors[int(op['outputs'][0])]['name'])};?$"
        peaks = np.abs(weights).max(1, keepdims=True)
        levels = weights / np.where(peaks, peaks, 1) * GRID
        if np.abs(levels - np.round(levels)).max() < 1e-3:  # float32 has 1e-6
            found.append(Rule(op["op_name"], outputs, weights=4))
        elif layer.values and len(np.unique(weights)) <= min(VALUES, weights.size // 4):
            found.append(Rule(op["op_name"], outputs, granularity="TENSORWISE"))
    return found

"""What `to_tflite` does with a model of `quantize_aware`."""

import numpy as np

from ..graph.build import Graph
from ..graph.emit import InferenceViT
from ..targets import form_for, get_target

GRID = 7  # greatest value of int4
# LiteRT computes int8 with int4 weights in these.
INT4_OPERATORS = ("FULLY_CONNECTED",)


def layer_of(model):
    """The `QuantizedViT` of a model, or None; loads no TensorFlow."""
    if type(model).__name__ != "QuantizedModel":
        return None
    return model.quantized


def check_use(layer, scheme, target, heads_apart):
    """Refuse another artefact than the one that was trained.

    Raises:
        ValueError: the scheme is not "int8", or the target wants another graph.
    """
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
            "`target` must be one whose graph was trained: give quantize_aware the same "
            f"target and layer_norm. Received: target={target!r} ({wanted}), trained: "
            f"{layer.form}"
        )


def trained_graph(layer) -> Graph:
    """The graph of the weights, on their grids, without quantised activations."""
    inference = InferenceViT(layer.arrays(), layer.form, name="vit")
    inference.update()
    bits = sorted(set(layer.bits.values()))
    note = f"trained as integers: weights of {' and '.join(map(str, bits))} bits"
    return Graph(inference, ("quantize_aware",), (note,))


def int4_patterns(path) -> dict[str, str]:
    """{operator: regular expression of its outputs} of weights that int4 holds exactly.

    Arguments:
        path: a float32 `.tflite` file.
    """
    import re

    from ..quantization.calibration import open_preserving

    interpreter, _, tensors = open_preserving(path)
    found = {}
    for op in interpreter._get_ops_details():
        if op["op_name"] not in INT4_OPERATORS:
            continue
        weights = interpreter.get_tensor(int(op["inputs"][1])).astype("float64")
        peaks = np.abs(weights).max(1, keepdims=True)
        levels = weights / np.where(peaks, peaks, 1) * GRID
        if np.abs(levels - np.round(levels)).max() < 1e-3:  # float32 has 1e-6
            name = tensors[int(op["outputs"][0])]["name"]
            found.setdefault(op["op_name"], []).append(re.escape(name))
    return {op: f"^({'|'.join(names)})" for op, names in found.items()}

"""A Keras 2 twin of a model, for TensorFlow Model Optimization's public functions.

Example:

    twin = export.to_tf_keras(model)
    wrapped = tfmot.sparsity.keras.prune_low_magnitude(twin, ...)   # and train
    export.from_tf_keras(wrapped, model)
"""

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from ...backend import require_tensorflow
from ...errors import missing
from ...graph.find_vit import check_no_decoder
from ..plain_blocks import PLAIN_TWIN, check_plain_blocks

if TYPE_CHECKING:
    from vit_keras import VisionTransformer


def to_tf_keras(model: "VisionTransformer") -> Any:  # a model of Keras 2, untyped
    """Convert a model to an equivalent functional tf_keras (Keras 2) model.

    Outputs are equal to 1e-5. Kernels are 2-D or convolutions, and attention consists
    of layers that take one tensor or one list. Layers are named by the path of their
    counterparts, as "encoderblock_0.attention.query". Dropout and stochastic depth are
    left out. `export.compression.keras2.layers.LAYERS` are its own layers, for
    `tfmot.quantization.keras.quantize_scope`.

    Arguments:
        model: from `vit_keras.create_model`, on the TensorFlow backend.

    Raises:
        ValueError: another model, or another backend.
        MissingDependency: the extra "qat" is not installed.
    """
    from vit_keras import VisionTransformer

    require_tensorflow("to_tf_keras")
    if not isinstance(model, VisionTransformer) or model.config is None:
        raise ValueError(
            "`model` must be a VisionTransformer of vit_keras, not one around it. "
            f"Received: {type(model).__name__}"
        )
    check_no_decoder("to_tf_keras", model)
    check_plain_blocks("to_tf_keras", model.config, PLAIN_TWIN)
    if importlib.util.find_spec("tf_keras") is None:
        raise missing("tf-keras", "qat")
    from .layers import build

    twin = build(model.config, model.task)
    for variable, array in _pairs(twin, model):
        variable.assign(np.reshape(np.asarray(array.value), variable.shape))
    return twin


def from_tf_keras(twin: Any, model: "VisionTransformer") -> "VisionTransformer":
    """Copy the weights of a twin, trained, wrapped or both, back to its model.

    Arguments:
        twin: from `to_tf_keras`, also after tfmot wrapped its layers (pruning,
            clustering, quantisation); quantisation ranges are not copied.
        model: the model that the twin was made from; it receives the weights.

    Returns:
        `model`.

    Raises:
        ValueError: a weight of the model is not in the twin, or of another shape.
    """
    for variable, array in _pairs(twin, model):
        array.assign(np.reshape(variable.numpy(), array.shape))
    return model


def _pairs(twin, model):
    """Return (twin's variable, model's variable) for every weight of the model."""
    found = {}
    for layer in twin.layers:
        while hasattr(layer, "layer"):  # a wrapper of tfmot
            layer = layer.layer
        for variable in layer.weights:
            name = variable.name.split(":")[0].split("/")[-1]
            found[f"{layer.name}/{name}"] = variable
    pairs = []
    for weight in model.weights:
        path, _, name = weight.path.rpartition("/")
        variable = found.get(f"{path.replace('/', '.')}/{name}")
        if variable is None or np.prod(variable.shape) != np.prod(weight.shape):
            shape = None if variable is None else tuple(variable.shape)
            raise ValueError(
                "`twin` must be made of `model`: the twin's weight for "
                f"'{weight.path}' {tuple(weight.shape)} has the shape {shape}"
            )
        pairs.append((variable, weight))
    return pairs

"""A model that ends at the size of its decoder's own outputs."""

from typing import Any

from vit_keras import VisionTransformer
from vit_keras.layers import Resize

from .find_vit import find_vit
from .source_model import nodes_of


def up_to_decoder(model: Any) -> Any:
    """Return the model without its layer `upsample`.

    Arguments:
        model: functional.

    Returns:
        A `VisionTransformer` to (N, h, w, C) at the decoder's own stride, of the same
        layers, those behind `upsample` included; None if `model` is none for the task
        "segment" or "depth".
    """
    if find_vit(model) is not model or model.task in ("classify", "features"):
        return None
    layers = {layer.name: layer for layer in model.layers}
    if not isinstance(layers.get("upsample"), Resize):
        return None
    x, behind = layers["upsample"].input, False
    for node in nodes_of(model):
        x = node.operation(x) if behind else x
        behind |= node.operation is layers["upsample"]
    settings = {"config": model.config, "task": model.task}
    return VisionTransformer(model.inputs[0], x, model.name, **settings)

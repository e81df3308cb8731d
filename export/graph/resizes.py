"""`vit_keras.layers.Resize` inside a model, as a target wants it written."""

import contextlib
from collections.abc import Iterator
from typing import Any

from vit_keras.layers import Resize


def resizes(model: Any) -> list[Resize]:
    """Return the layers of a model that resize maps."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, Resize)]


@contextlib.contextmanager
def resizes_for(model: Any, allowed: str) -> Iterator[None]:
    """Have every `Resize` of a model computed as a target wants it, for a while.

    Arguments:
        model: a Keras model.
        allowed: the factors of a RESIZE_BILINEAR, see `GraphOptions.resizes`.
    """
    layers = [(layer, layer.products) for layer in resizes(model)]
    try:
        for layer, _ in layers:
            layer.products = layer.align_corners or not _is_allowed(layer, allowed)
        yield
    finally:
        for layer, products in layers:
            layer.products = products


def _is_allowed(layer, allowed):
    if allowed != "powers_of_two":
        return allowed == "any"
    shapes = [call.input_tensors[0].shape[1:3] for call in layer._inbound_nodes]
    factors = {
        after / before
        for shape in shapes
        for before, after in zip(shape, layer.size, strict=True)
    }
    powers = all(f.is_integer() and int(f).bit_count() == 1 for f in factors)
    return powers and len(factors) == 1

"""`vit_keras.layers.Resize` inside a model, as a target wants it written."""

import contextlib
from collections.abc import Iterator
from typing import Any

from vit_keras.layers import Resize


@contextlib.contextmanager
def resizes_for(model: Any, allowed: str) -> Iterator[None]:
    """Have every `Resize` of a model computed as a target wants it, for a while.

    Arguments:
        model: a Keras model.
        allowed: the factors of a RESIZE_BILINEAR, see `GraphOptions.resizes`.
    """
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, Resize)]
    before = [layer.products for layer in layers]
    try:
        for layer in layers:
            layer.products = layer.align_corners or not _is_allowed(layer, allowed)
        yield
    finally:
        for layer, products in zip(layers, before, strict=True):
            layer.products = products


def _is_allowed(layer, allowed):
    if allowed == "any":
        return True
    factors = [
        after / before
        for call in layer._inbound_nodes
        for before, after in zip(
            call.input_tensors[0].shape[1:3], layer.size, strict=True
        )
    ]
    powers = all(f.is_integer() and int(f).bit_count() == 1 for f in factors)
    return allowed == "powers_of_two" and powers and len(set(factors)) == 1

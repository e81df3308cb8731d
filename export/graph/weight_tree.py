"""`Weights` as a tree of arrays: mapping, description as JSON, and reconstruction."""

import dataclasses
from typing import Any

from . import memory
from . import vit_weights as classes


def map_arrays(value, function, path="", consume=False):
    """Replace every array, variable or tensor of a structure, and return the result.

    Arguments:
        value: a `Weights` or a part of one.
        function: from the path, such as "blocks.0.dense1.kernel", and the array to its
            replacement.
        consume: set the fields of the given structure to None, and free each array
            after `function` has returned.
    """
    if hasattr(value, "shape"):
        return function(path, value)
    if isinstance(value, list | tuple):
        return type(value)(
            map_arrays(item, function, _join(path, i), consume)
            for i, item in enumerate(value)
        )
    if type(value).__module__ != classes.__name__:
        return value  # numbers, and the configuration
    changed = {}
    for name in (field.name for field in dataclasses.fields(value)):
        inner, current = _join(path, name), getattr(value, name)
        changed[name] = map_arrays(current, function, inner, consume)
        if consume and hasattr(current, "shape"):
            freed = getattr(current, "nbytes", 0)
            del current
            setattr(value, name, None)
            memory.trim(freed)
    return dataclasses.replace(value, **changed)


def outline(value) -> Any:
    """Describe a structure as plain data, with shapes instead of arrays."""
    if hasattr(value, "shape"):
        return {"array": list(value.shape)}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [outline(item) for item in value]}
    if not dataclasses.is_dataclass(value):
        return value
    fields = {
        f.name: outline(getattr(value, f.name)) for f in dataclasses.fields(value)
    }
    return {type(value).__name__: fields}


def filled(data) -> Any:
    """Build the structure that `outline` described, with zeros.

    Raises:
        ValueError: an unknown class is named.
    """
    import numpy as np

    from vit_keras import Preprocessing, ViTConfig

    if not isinstance(data, dict):
        return data
    ((kind, content),) = data.items()
    if kind == "array":
        return np.zeros(content)
    if kind in ("list", "tuple"):
        items = [filled(item) for item in content]
        return items if kind == "list" else tuple(items)
    known = {c.__name__: c for c in (Preprocessing, ViTConfig)}
    known |= {n: getattr(classes, n) for n in KINDS}
    if kind not in known:
        raise ValueError(
            f"`outline` must name one of {', '.join(known)}. Received: {kind}"
        )
    return known[kind](**{name: filled(value) for name, value in content.items()})


KINDS = ("Linear", "Norm", "Attention", "Block", "Reader", "Queries")
KINDS += ("Merge", "Weights")


def _join(path, name):
    return f"{path}.{name}" if path else str(name)

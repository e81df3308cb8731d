"""Selection of the kernels to prune or cluster."""

from typing import Any

import keras

from . import EXCLUDED


def kernels(model, exclude=EXCLUDED) -> dict[str, keras.Variable]:
    """Return {path: kernel} of every layer with a kernel, except for excluded layers.

    Arguments:
        model: a built Keras model.
        exclude: names of layers, at any depth.

    Raises:
        ValueError: no kernel is left, or no layer has an excluded name.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a Keras model. Received: {type(model).__name__}"
        )
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    found = {}
    for layer in model._flatten_layers():
        kernel: Any = getattr(layer, "kernel", None)
        if isinstance(kernel, keras.Variable) and len(kernel.shape) > 1:
            found[kernel.path] = kernel
    names = {part for path in found for part in path.split("/")[:-1]}
    unknown = set(exclude) - set(EXCLUDED) - names
    if unknown:
        raise ValueError(
            f"`exclude` must name layers with kernels: {', '.join(sorted(names))}. "
            f"Received: {', '.join(sorted(unknown))}"
        )
    kept = {p: k for p, k in found.items() if not set(p.split("/")) & set(exclude)}
    if not kept:
        raise ValueError("`model` must have kernels that are not excluded; it has none")
    return kept

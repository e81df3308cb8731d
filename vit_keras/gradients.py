"""Gradients of a function of Keras operations, by the engine of each backend.

The one file that may know all of them: each is imported where it is in use, when Keras
has already loaded it.
"""

from collections.abc import Callable
from typing import Any

import keras


def gradient_of(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Return a function that computes the gradient by the first argument.

    Arguments:
        function: from a list of float tensors, and any further tensors or lists of
            them, to a scalar tensor. It must be pure: variables enter as arguments.

    Returns:
        A function of the same arguments, to a list of tensors that are shaped like
        those of the first.

    Raises:
        ValueError: the backend computes no gradients.
    """
    backend = keras.backend.backend()
    if backend not in ENGINES:
        raise ValueError(
            f"gradients need one of the backends {', '.join(ENGINES)}. "
            f"Received: {backend}"
        )
    return ENGINES[backend](function)


def _by_tensorflow(function):
    import tensorflow as tf

    def gradient(inputs, *others):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            value = function(inputs, *others)
        return tape.gradient(value, inputs)

    return gradient


def _by_jax(function):
    import jax

    return jax.jit(jax.grad(function))


def _by_torch(function):
    import torch

    def gradient(inputs, *others):
        inputs = [tensor.detach().requires_grad_() for tensor in inputs]
        with torch.enable_grad():
            return list(torch.autograd.grad(function(inputs, *others), inputs))

    return gradient


ENGINES = {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}

"""Types of the arguments of layers, which are the same on every backend."""

from typing import Any, TypeAlias

Tensor: TypeAlias = Any  # of the backend, a `keras.KerasTensor`, or a NumPy array
Shape: TypeAlias = tuple[Any, ...]  # sizes; None where one is not known

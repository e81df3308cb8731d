"""Entries of checkpoints: named arrays that are read on access."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


class CheckpointError(ValueError):
    """A weights file cannot be read, or does not fit the model."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of a checkpoint, not yet read.

    Arguments:
        shape: its shape.
        dtype: its NumPy dtype; bfloat16 from `ml_dtypes`.
        read: returns the array, or raises a CheckpointError if the bytes are damaged.
    """

    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""
        return int(np.prod(self.shape, dtype="int64")) * np.dtype(self.dtype).itemsize

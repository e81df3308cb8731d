"""What every reader of a file gives: named arrays that are read when asked for."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


class CheckpointError(ValueError):
    """A weights file that cannot be read, or does not fit the model."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of a checkpoint, still on disk.

    Arguments:
        shape: its shape.
        dtype: its NumPy dtype; bfloat16 is that of `ml_dtypes`.
        read: returns the array; raises a CheckpointError if the bytes are damaged.
    """

    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""
        return int(np.prod(self.shape, dtype="int64")) * np.dtype(self.dtype).itemsize

"""Entries of checkpoints: named arrays that are read on access."""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np

# Above the compression of trained weights, far below that of zeros only; and arrays of
# zeros, as fresh biases are, of any size up to this one.
BOMB_RATIO, BOMB_ALLOWANCE = 20, 2**28
# Masks, and labels of one class of many, pack as zeros do: only what no packing gives
# is refused, such as members of a zip archive that are the same bytes.
DATA_RATIO = 1032  # of deflate at most


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


def refuse_bomb(
    path: str | os.PathLike[str], total: int, name: str = "it", ratio: int = BOMB_RATIO
) -> None:
    """Refuse a file that is far larger unpacked.

    Arguments:
        path: of the file.
        total: bytes that its arrays take in memory.
        name: of what is in it, for the message.
        ratio: of that to the file's size, that is still allowed.

    Raises:
        CheckpointError: it is more than that, and the allowance.
    """
    size = os.stat(path).st_size
    if total > ratio * size + BOMB_ALLOWANCE:
        raise CheckpointError(
            f"'{path}': {name} would unpack to {total:,} bytes, from {size:,}: refused"
        )


@contextlib.contextmanager
def errors_of(path, *kinds: type[BaseException]):
    """Raise a CheckpointError for errors of these kinds while a file is read."""
    try:
        yield
    except CheckpointError:
        raise
    except kinds as error:
        text = " ".join(str(error).split())
        raise CheckpointError(
            f"'{path}' is truncated, corrupt or of another format: {text}"
        ) from error

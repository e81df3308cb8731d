"""Reader of HDF5 files, as Keras writes them (`.h5`)."""

import json
import os
from collections.abc import Callable
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from ..entries import BOMB_ALLOWANCE, BOMB_RATIO, CheckpointError, Entry, errors_of

DAMAGED = (OSError, ValueError, KeyError, RuntimeError, TypeError)


def read_h5(
    path: str | os.PathLike[str], open_file: Callable[[Any], Any] = h5py.File
) -> dict[str, Entry]:
    """Read the data sets of an HDF5 file; data outside the file are refused.

    Arguments:
        path: of the file, or of the one that it is a part of.
        open_file: opens it as an `h5py.File`.

    Raises:
        CheckpointError: the file is damaged, or has data in other files.
    """
    found = {}

    def visit(name, item):  # h5py skips soft and external links here
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            if item.external or item.is_virtual:
                raise CheckpointError(f"'{path}': {name} is stored outside the file")
            if item.dtype.kind in "fiub" or item.dtype == ml_dtypes.bfloat16:
                found[name] = (item.shape, item.dtype)
                total = item.nbytes
                if total > BOMB_RATIO * os.stat(path).st_size + BOMB_ALLOWANCE:
                    raise CheckpointError(
                        f"'{path}': {name} would unpack to {total:,} bytes: refused"
                    )

    with errors_of(path, *DAMAGED), open_file(path) as file:
        file.visititems(visit)

    def entry(name, shape, dtype):
        def read():
            with errors_of(path, *DAMAGED), open_file(path) as file:
                return np.asarray(file[name])

        return Entry(tuple(shape), dtype, read)

    return {name: entry(name, *about) for name, about in found.items()}


def h5_settings(path: str | os.PathLike[str]) -> dict[str, dict]:
    """Return the model description that Keras stores in a whole model's file."""
    try:
        with h5py.File(path) as file:
            text: Any = file.attrs["model_config"]
            return {"model_config": json.loads(text)}
    except (KeyError, ValueError, TypeError, OSError, RuntimeError):
        return {}  # the file has weights only

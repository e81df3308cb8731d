"""Reader of NumPy's files, `.npz` and `.npy`, without pickles and bombs.

A size is checked against the file's before anything is allocated.
"""

import math
import os
import struct
import sys
import tokenize
import zipfile
import zlib
from typing import IO, Any

import ml_dtypes
import numpy as np

from ...text_files import check_regular
from ..entries import BOMB_RATIO, CheckpointError, Entry, errors_of, refuse_bomb

DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError)
DAMAGED += (ValueError, RuntimeError, TypeError, LookupError, OverflowError)
# NumPy's header is Python.
DAMAGED += (tokenize.TokenError, SyntaxError, RecursionError, MemoryError)


def read_npz(path: str | os.PathLike[str], ratio: int = BOMB_RATIO) -> dict[str, Entry]:
    """Read the arrays of a `.npz` file; raw 2-byte values are bfloat16.

    Arguments:
        path: of the file.
        ratio: of the arrays' size to the file's, that is allowed; `DATA_RATIO` for
            labels and masks.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, has pickles, or is far larger unpacked.
    """
    with errors_of(path, ValueError):
        check_regular(path)
    with errors_of(path, *DAMAGED), zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
        refuse_bomb(path, sum(m.file_size for m in members), ratio=ratio)
        return {m.filename[:-4]: _member(path, archive, m) for m in members}


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a `.npy` file.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or has pickles.
    """
    with errors_of(path, ValueError):
        check_regular(path)
    size = os.stat(path).st_size
    with errors_of(path, *DAMAGED), open(path, "rb") as file:
        _checked_header(path, file, size, more=True)
        file.seek(0)
        return _checked_text(np.lib.format.read_array(file, allow_pickle=False))


def _checked_header(
    path, file: IO[bytes], size, more: bool = False
) -> tuple[tuple[int, ...], Any]:
    """Read a header whose data are the rest of the file, or `more` follows them."""
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read_header(file)
    start, name = file.tell(), getattr(file, "name", path)
    if dtype.hasobject:
        raise CheckpointError(f"'{path}': {name} holds pickled objects")
    wanted = math.prod(shape) * dtype.itemsize
    end = start + wanted
    if end > size or (end < size and not more) or min(shape, default=0) < 0:
        raise CheckpointError(
            f"'{path}': {name} says {wanted:,} bytes of data and has {size - start:,}"
        )
    return tuple(shape), dtype


def _member(path, archive, member):
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CheckpointError(f"'{path}': {member.filename} is compressed otherwise")
    with archive.open(member) as file:
        shape, dtype = _checked_header(path, file, member.file_size)
    raw = dtype == np.dtype("V2")
    entry_dtype = np.dtype(ml_dtypes.bfloat16) if raw else dtype

    def read():
        with errors_of(path, *DAMAGED), zipfile.ZipFile(path) as archive:
            with archive.open(member) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            _checked_text(array)
        return array.view(entry_dtype) if raw else array

    return Entry(shape, entry_dtype, read)


def _checked_text(array):
    """Return an array, after checking that Python has the characters of its texts."""
    if array.dtype.kind == "U" and array.size:
        order = array.dtype.byteorder
        codes = np.frombuffer(array.tobytes(), np.dtype("u4").newbyteorder(order))
        if codes.max(initial=0) > sys.maxunicode:
            raise CheckpointError("it has texts of characters that there are not")
    return array

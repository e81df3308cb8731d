"""Reader of HDF5 files, as Keras writes them (`.h5`), and checks before Keras reads."""

import io
import mmap
import os
import struct
from collections.abc import Callable
from typing import Any

import h5py
import ml_dtypes

from ...text_files import parse_json
from ..entries import CheckpointError, Entry, errors_of, refuse_bomb

DAMAGED = (OSError, ValueError, LookupError, RuntimeError, TypeError, OverflowError)
DAMAGED += (MemoryError,)
DEEPEST = 100  # groups in groups; HDF5 takes minutes for thousands, Keras writes ten
HEAP = b"GCOL\1\0\0\0"  # begins a collection of the global heap, then its size


def read_h5(
    path: str | os.PathLike[str], open_file: Callable[[Any], Any] = h5py.File
) -> dict[str, Entry]:
    """Read the data sets of an HDF5 file; data outside the file are refused.

    Arguments:
        path: of the file, or of the one that it is a part of.
        open_file: opens it as an `h5py.File`.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, has data in other files, or is far larger
            unpacked.
    """
    found = {}
    refuse_endless_heaps(path)
    with errors_of(path, *DAMAGED), open_file(path) as file:
        for name, item in checked_datasets(path, file).items():
            if item.dtype.kind in "fiub" or item.dtype == ml_dtypes.bfloat16:
                found[name] = (tuple(item.shape), item.dtype)

    def entry(name, shape, dtype):
        def read():
            with errors_of(path, *DAMAGED), open_file(path) as file:
                return file[name][()]

        return Entry(shape, dtype, read)

    return {name: entry(name, *about) for name, about in found.items()}


def checked_datasets(path: str | os.PathLike[str], file: Any) -> dict[str, Any]:
    """Return the data sets of an open HDF5 file, by name, after checking all of it.

    Arguments:
        path: for messages, and for the size that the file has.
        file: an `h5py.File`.

    Raises:
        CheckpointError: something is in another file, far larger unpacked, or nested
            too deeply.
    """
    found, total = {}, 0

    def visit(name, item):
        nonlocal total
        if name.count("/") > DEEPEST:
            raise CheckpointError(f"'{path}': its groups are more than {DEEPEST} deep")
        if isinstance(item, h5py.Group):
            refuse_links(name, item)
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            if item.external or item.is_virtual:
                raise CheckpointError(f"'{path}': {name} is stored outside the file")
            found[name] = item
            total += item.nbytes
            refuse_bomb(path, total, name)

    def refuse_links(name, group):
        for key in group:
            if isinstance(group.get(key, getlink=True), h5py.ExternalLink):
                raise CheckpointError(
                    f"'{path}': {name.rstrip('/')}/{key} is in another file"
                )

    refuse_links("", file)
    file.visititems(visit)
    return found


def check_h5(path: str | os.PathLike[str]) -> None:
    """Check a file that Keras is to read, as `read_h5` does.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, has data in other files, or is far larger
            unpacked.
    """
    refuse_endless_heaps(path)
    with errors_of(path, *DAMAGED), h5py.File(path) as file:
        checked_datasets(path, file)


def refuse_endless_heaps(
    path: str | os.PathLike[str], content: bytes | None = None
) -> None:
    """Refuse a file in which HDF5 reads texts without end.

    HDF5 (1.14) goes from object to object of a collection by their sizes, and does not
    look whether it comes forward (`H5HG__cache_heap_deserialize`).

    Arguments:
        path: of an HDF5 file, or of an archive with one, uncompressed.
        content: of it, if it was packed in there.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: an object of a collection has no size, or goes beyond it.
    """
    if content is not None:
        _refuse_endless(path, content)
        return
    with open(path, "rb") as file:
        if file.seek(0, io.SEEK_END):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _refuse_endless(path, data)


def _refuse_endless(path, data):
    at = data.find(HEAP)
    while at >= 0:
        if not _ends(data, at):
            raise CheckpointError(
                f"'{path}' is truncated, corrupt or of another format: texts of"
                f" HDF5 at byte {at:,} have no end"
            )
        at = data.find(HEAP, at + 1)


def _ends(data, start):
    """Whether the objects of a collection are within it, one after another."""
    if start + 16 > len(data):
        return True  # HDF5 says that it is truncated
    (size,) = struct.unpack_from("<Q", data, start + 8)
    end, at = start + size, start + 16
    if end > len(data):
        return True
    while at + 16 <= end:
        number, _, _, length = struct.unpack_from("<HHIQ", data, at)
        step = 16 + -(-length // 8) * 8 if number else length  # of the free space: all
        if step < 16 or at + step > end:
            return False
        at += step
    return True


def h5_settings(path: str | os.PathLike[str]) -> dict[str, dict]:
    """Return the model description that Keras stores in a whole model's file."""
    try:
        with h5py.File(path) as file:
            text: Any = file.attrs["model_config"]
            return {"model_config": parse_json(text, "model_config")}
    except DAMAGED:
        return {}  # the file has weights only

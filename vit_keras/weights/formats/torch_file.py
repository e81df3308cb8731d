"""Reader of files of `torch.save` (`.pth`, `.pt`, `.bin`), without PyTorch.

Two layouts, both described by the source of `torch.serialization`: since PyTorch 1.6
a zip archive with a pickle (`data.pkl`) and one uncompressed member per storage;
before, a series of pickles followed by the storages. A tensor is a view (offset, size,
stride) of a storage, and tensors may share one.
"""

import functools
import io
import os
import struct
import zipfile
from collections.abc import Callable

from ..entries import CheckpointError, Entry
from .pickle_data import load
from .torch_tensors import (
    REBUILD,
    Storage,
    checked_entry,
    find_state_dict,
    naming,
    restore_storage,
)

MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the layout before PyTorch 1.6
MAX_PICKLE = 64 << 20  # bytes; a state dict of a thousand tensors takes 0.1 MiB

# Files often found instead of a checkpoint: error text -> test of the first bytes.
OTHER_FILES: dict[str, Callable[[bytes], bool]] = {
    "the file is empty": lambda head: not head,
    "it is a web page": lambda head: head.lstrip()[:1] == b"<",
    "it is a pointer of Git LFS": lambda head: head.startswith(b"version https://git"),
    "it is in PyTorch's old tar format; load and save it with PyTorch": (
        lambda head: head[257:262] == b"ustar"
    ),
}


def read_torch_file(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """Open a PyTorch checkpoint without running anything that it names.

    Arguments:
        path: a file of `torch.save`, with a state dict or a dict that has one under a
            name of `STATE_DICTS`.

    Returns:
        Name -> array, read on access, in the order of the file. A prefix "module."
        (DataParallel) of all names is removed. Values that are no tensors (epochs,
        settings, the optimizer) are skipped.

    Raises:
        CheckpointError: the file does not exist, is damaged, has another format, or
            has no state dict of dense tensors. `Entry.read` raises it too.
    """
    path = os.fspath(path)
    with naming(path), open(path, "rb") as file:
        head = file.read(512)
        for words, is_other in OTHER_FILES.items():
            if is_other(head):
                raise CheckpointError(words)
        file.seek(0)
        is_zip = head.startswith(b"PK\x03\x04")
        tree, locate = (_open_zip if is_zip else _open_legacy)(path, file)
        tensors = find_state_dict(tree)
        return {
            name: checked_entry(path, name, tensors[name], locate) for name in tensors
        }


def _open_zip(path, file):
    """Open the layout since PyTorch 1.6.

    Returns:
        The saved object, and a function from a storage to a function that reads its
        bytes.
    """
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        roots = [n.partition("/")[0] for n in names if _is_in_root(n, "data.pkl")]
        if any(_is_in_root(n, "constants.pkl") or "/code/" in n for n in names):
            raise CheckpointError(
                "it is a TorchScript program; save the model's state_dict() instead"
            )
        if len(roots) != 1:
            raise CheckpointError("it is a zip archive without one data.pkl")
        (root,) = roots
        if f"{root}/byteorder" in names:
            order = archive.read(_member(archive, f"{root}/byteorder", most=16))
            _check_byte_order(order == b"little")
        stream = io.BytesIO(archive.read(_member(archive, f"{root}/data.pkl")))
        members = {name: archive.getinfo(name) for name in names}
    storages = {}
    tree = load(stream, REBUILD, functools.partial(restore_storage, storages))

    def locate(storage):
        name = f"{root}/data/{storage.key}"
        _check_size(members.get(name), name, storage.nbytes)
        return functools.partial(_read_member, path, name, storage.nbytes)

    return tree, locate


def _is_in_root(name, what):
    return name.count("/") == 1 and name.endswith(f"/{what}")


def _member(archive, name, most=MAX_PICKLE):
    """Return the description of an archive member, if it is not too large."""
    member = archive.getinfo(name)
    if member.file_size > most:
        raise CheckpointError(f"{name} is far too large")
    _check_size(member, name, member.file_size)
    return member


def _check_size(member, name, nbytes):
    """Refuse a missing, compressed or differently sized member of a zip archive."""
    if member is None:
        raise CheckpointError(f"{name} is missing")
    if member.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(f"{name} is compressed, which PyTorch never does")
    if member.file_size != nbytes or member.compress_size != nbytes:
        raise CheckpointError(f"{name} has another size than its tensors need")


def _read_member(path, name, nbytes):
    with zipfile.ZipFile(path) as archive:
        _check_size(archive.getinfo(name), name, nbytes)
        return archive.read(name)  # verifies the checksum


def _open_legacy(path, file):
    """Open the layout before PyTorch 1.6; returns the same as `_open_zip`.

    It has five pickles (magic number, version, system, object, keys of the storages),
    then for each key the number of elements as int64, and the elements.
    """
    stream = io.BytesIO(file.read(MAX_PICKLE))
    storages: dict[str, Storage] = {}
    persistent = functools.partial(restore_storage, storages)
    magic = load(stream, REBUILD, persistent)
    if type(magic) is not int or magic != MAGIC:
        raise CheckpointError("it does not start with PyTorch's magic number")
    load(stream, REBUILD, persistent)  # the version, always 1001
    system = load(stream, REBUILD, persistent)
    _check_byte_order(isinstance(system, dict) and system.get("little_endian") is True)
    tree = load(stream, REBUILD, persistent)
    keys = load(stream, REBUILD, persistent)
    if not isinstance(keys, list):
        raise CheckpointError("its list of storages is missing")
    position, end = stream.tell(), os.fstat(file.fileno()).st_size
    positions = {}
    for key in keys:
        if type(key) is not str or key not in storages:  # its size is unknown
            raise CheckpointError("it holds a storage of an unknown type")
        file.seek(position)
        if file.read(8) != struct.pack("<q", storages[key].numel):
            raise CheckpointError("a storage has another size than its tensors need")
        positions[key] = position + 8
        position += 8 + storages[key].nbytes
        if position > end:
            raise CheckpointError("it is truncated")

    def locate(storage):
        if storage.key not in positions:
            raise CheckpointError("it lacks a storage that its tensors need")
        return functools.partial(
            _read_bytes, path, positions[storage.key], storage.nbytes
        )

    return tree, locate


def _read_bytes(path, position, nbytes):
    with open(path, "rb") as file:
        file.seek(position)
        data = file.read(nbytes)
    if len(data) != nbytes:
        raise CheckpointError("it is truncated")
    return data


def _check_byte_order(is_little):
    if not is_little:
        raise CheckpointError("it was written on a big-endian machine")

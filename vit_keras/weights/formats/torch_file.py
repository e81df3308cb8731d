"""Weights that `torch.save` wrote (`.pth`, `.pt`, `.bin`), read without PyTorch.

Two layouts, both described by the source of `torch.serialization`: since PyTorch 1.6
a zip archive with a pickle (`data.pkl`) and one uncompressed member per storage;
before, a row of pickles with the storages behind them. A tensor is a view (offset,
size, stride) of a storage, and tensors may share one.
"""

import contextlib
import dataclasses
import functools
import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from ..entries import CheckpointError, Entry
from .pickle_data import MAX_NAME, Unknown, load

# Where training scripts put the state dict, in the order in which it is looked for.
# The trained weights come first: "model" (DeiT, MAE), "state_dict" (timm, MoCo,
# Lightning), "model_state_dict" (PyTorch's tutorials). "teacher" is what DINO
# evaluates. An average of the weights ("model_ema") may lie beside the weights and is
# taken only when it is alone. "module" (DeepSpeed) is last, the least telling name.
STATE_DICTS = (
    "model",
    "state_dict",
    "model_state_dict",
    "teacher",
    "model_ema",
    "module",
)

DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "UntypedStorage": np.dtype("u1"),
}

MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the layout before PyTorch 1.6
MAX_PICKLE = 64 << 20  # bytes; a state dict of a thousand tensors takes 0.1 MiB
MAX_NUMBER = 1 << 48  # for sizes, offsets and strides
MAX_EXPANDED = 1 << 20  # elements of a tensor that repeats those of its storage
MAX_KEY = 64  # characters of a storage's key, which is a decimal number
MAX_RANK = 32

# What is often found in the place of a checkpoint: a test of its first bytes -> words.
OTHER_FILES: dict[str, Callable[[bytes], bool]] = {
    "the file is empty": lambda head: not head,
    "it is a web page": lambda head: head.lstrip()[:1] == b"<",
    "it is a pointer of Git LFS": lambda head: head.startswith(b"version https://git"),
    "it is in PyTorch's old tar format; load and save it with PyTorch": (
        lambda head: head[257:262] == b"ustar"
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Storage:
    dtype: np.dtype
    key: str
    numel: int

    @property
    def nbytes(self):
        return self.numel * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, slots=True)
class _Tensor:
    """As in the file; `_entry` checks it."""

    storage: Any
    offset: Any
    size: Any
    stride: Any
    metadata: Any


def read_torch_file(path: str | os.PathLike) -> dict[str, Entry]:
    """Open a PyTorch checkpoint without running anything that it names.

    Arguments:
        path: a file that `torch.save` wrote, of a state dict or of a dict that holds
            one under a name of `STATE_DICTS`.

    Returns:
        Name -> array, read only when asked for, in the order of the file. A prefix
        "module." (DataParallel) that all names share is removed. What is no tensor
        (epochs, settings, the optimizer) is left out.

    Raises:
        CheckpointError: there is no such file, it is damaged, it is no such file, or
            it holds no state dict of dense tensors. `Entry.read` raises it too.
    """
    path = os.fspath(path)
    with _naming(path), open(path, "rb") as file:
        head = file.read(512)
        for words, is_other in OTHER_FILES.items():
            if is_other(head):
                raise CheckpointError(words)
        file.seek(0)
        is_zip = head.startswith(b"PK\x03\x04")
        tree, locate = (_open_zip if is_zip else _open_legacy)(path, file)
        tensors = _state_dict(tree)
        return {name: _entry(path, name, tensors[name], locate) for name in tensors}


@contextlib.contextmanager
def _naming(path):
    """Turns what can go wrong with a file into one line that names it."""
    try:
        yield
    except (  # those of zipfile, struct, open and NumPy
        ValueError,
        TypeError,
        LookupError,
        OSError,
        EOFError,
        OverflowError,
        RuntimeError,
        struct.error,
        zipfile.BadZipFile,
    ) as error:
        detail = getattr(error, "strerror", None) or str(error) or "it is damaged"
        detail = " ".join(detail.split())[:300]  # it may quote the file
        raise CheckpointError(
            f"{path} can not be read as a PyTorch checkpoint: {detail}"
        ) from error


def _open_zip(path, file):
    """The layout since PyTorch 1.6.

    Returns:
        The saved object, and a function that turns a storage into a function that
        reads its bytes.
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
    tree = load(stream, REBUILD, functools.partial(_storage, storages))

    def locate(storage):
        name = f"{root}/data/{storage.key}"
        _check_size(members.get(name), name, storage.nbytes)
        return functools.partial(_read_member, path, name, storage.nbytes)

    return tree, locate


def _is_in_root(name, what):
    return name.count("/") == 1 and name.endswith(f"/{what}")


def _member(archive, name, most=MAX_PICKLE):
    """The description of a member of at most so many bytes."""
    member = archive.getinfo(name)
    if member.file_size > most:
        raise CheckpointError(f"{name} is far too large")
    _check_size(member, name, member.file_size)
    return member


def _check_size(member, name, nbytes):
    """Refuses a missing, compressed or differently sized member of a zip archive."""
    if member is None:
        raise CheckpointError(f"{name} is missing")
    if member.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(f"{name} is compressed, which PyTorch never does")
    if member.file_size != nbytes or member.compress_size != nbytes:
        raise CheckpointError(f"{name} has another size than its tensors need")


def _read_member(path, name, nbytes):
    with zipfile.ZipFile(path) as archive:
        _check_size(archive.getinfo(name), name, nbytes)
        return archive.read(name)  # which compares the checksum


def _open_legacy(path, file):
    """The layout before PyTorch 1.6: returns the same as `_open_zip`.

    Five pickles (magic number, version, system, object, keys of the storages), then
    for each key the number of elements as int64, and the elements.
    """
    stream = io.BytesIO(file.read(MAX_PICKLE))
    storages: dict[str, _Storage] = {}
    persistent = functools.partial(_storage, storages)
    magic = load(stream, REBUILD, persistent)
    if type(magic) is not int or magic != MAGIC:
        raise CheckpointError("it does not start with PyTorch's magic number")
    load(stream, REBUILD, persistent)  # the version, 1001 ever since
    system = load(stream, REBUILD, persistent)
    _check_byte_order(isinstance(system, dict) and system.get("little_endian") is True)
    tree = load(stream, REBUILD, persistent)
    keys = load(stream, REBUILD, persistent)
    if not isinstance(keys, list):
        raise CheckpointError("its list of storages is missing")
    position, end = stream.tell(), os.fstat(file.fileno()).st_size
    positions = {}
    for key in keys:
        if type(key) is not str or key not in storages:  # no way to skip it
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


def _storage(storages, identity):
    """What a persistent id stands for; a storage is noted in `storages`, too.

    Arguments:
        storages: key -> storage, to add to.
        identity: ("storage", type, key, device, number of elements), and in the old
            layout None, or what makes it a part of another storage (PyTorch < 0.4).
    """
    match identity:
        case ("storage", Unknown(name=name), str(key), _, int(numel), *rest) if (
            len(key) <= MAX_KEY and rest in ([], [None]) and _is_number(numel)
        ):
            package, _, kind = name.rpartition(".")
            if package.split(".")[0] == "torch" and kind in DTYPES:
                storage = _Storage(DTYPES[kind], key, numel)
                if storages.setdefault(key, storage) != storage:
                    raise CheckpointError("it describes one storage in two ways")
                return storage
            return Unknown(name)
    return Unknown("persistent id")


def _tensor(arguments):
    """Of (storage, offset, size, stride, requires_grad, hooks, metadata if any)."""
    storage, offset, size, stride, *rest = arguments
    return _Tensor(storage, offset, size, stride, metadata=rest[2:])


# Dotted name -> what stands for a call of it.
REBUILD: dict[str, Callable[[tuple], Any]] = {
    "collections.OrderedDict": lambda arguments: {},  # items follow one by one
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda arguments: arguments[0],
    "torch._utils._rebuild_parameter_with_state": lambda arguments: arguments[0],
}


def _state_dict(tree):
    """Name -> tensor of the state dict in a checkpoint."""
    candidates = [tree]
    if isinstance(tree, dict):
        candidates = [*(tree.get(name) for name in STATE_DICTS), tree]
    for candidate in candidates:
        if isinstance(candidate, dict):
            found = {n: v for n, v in candidate.items() if _is_tensor(v)}
            if found:
                break
    else:
        raise CheckpointError("it holds no state dict; save the model's state_dict()")
    shared = "module." if all(n.startswith("module.") for n in found) else ""
    return {name.removeprefix(shared): value for name, value in found.items()}


def _is_tensor(value):
    """Also of kinds that can not be read (sparse, quantized, ...), to refuse them."""
    rebuilt = type(value) is Unknown and value.name.startswith("torch.")
    return type(value) is _Tensor or (rebuilt and "._rebuild_" in value.name)


def _is_number(value):
    return type(value) is int and 0 <= value < MAX_NUMBER


def _entry(path, name, tensor, locate):
    """An entry whose shape and strides are known to stay inside the storage."""
    name = name[:MAX_NAME]  # a message has to end with the reason
    if type(tensor) is Unknown:
        raise CheckpointError(f"{name} is of an unsupported kind, {tensor.name}")
    storage, size, stride = tensor.storage, tensor.size, tensor.stride
    if type(storage) is Unknown:
        raise CheckpointError(f"{name} is of an unsupported type, {storage.name}")
    # Metadata says that the elements are to be negated or conjugated.
    if type(storage) is not _Storage or any(tensor.metadata):
        raise CheckpointError(f"{name} is of an unsupported kind")
    if not (
        type(size) is type(stride) is tuple
        and len(size) == len(stride) <= MAX_RANK
        and all(map(_is_number, (tensor.offset, *size, *stride)))
    ):
        raise CheckpointError(f"{name} has no proper shape, offset and strides")
    # Strides of 0 let a few bytes declare any size; and NumPy has limits for the
    # shape of an empty array, too.
    if math.prod(max(n, 1) for n in size) > max(storage.numel, MAX_EXPANDED):
        raise CheckpointError(f"{name} is larger than its storage")
    # The stride along an axis of one element is never used, and may be anything.
    steps = [step if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
    last = tensor.offset + sum((n - 1) * s for n, s in zip(size, steps, strict=True))
    if 0 not in size and last >= storage.numel:
        raise CheckpointError(f"{name} reaches beyond its storage")
    fetch, dtype = locate(storage), storage.dtype

    def read():
        with _naming(path):
            if 0 in size:
                return np.empty(size, dtype)
            strides = [step * dtype.itemsize for step in steps]
            start = tensor.offset * dtype.itemsize
            # Compares with the length of the buffer once more, unlike `as_strided`.
            return np.ndarray(size, dtype, fetch(), start, strides).copy()

    return Entry(size, dtype, read)

"""Conversion of tensors in a PyTorch pickle to checked entries."""

import contextlib
import dataclasses
import math
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from ..entries import CheckpointError, Entry
from .pickle_data import MAX_NAME, Unknown

# Keys of the state dict in checkpoints of training scripts, in order of preference.
# Trained weights come first: "model" (DeiT, MAE), "state_dict" (timm, MoCo, Lightning),
# "model_state_dict" (PyTorch's tutorials). "teacher" is what DINO evaluates. An average
# of the weights ("model_ema") may be stored beside the weights, and is used only if it
# is alone. "module" (DeepSpeed) is last, as the least specific name.
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

MAX_NUMBER = 1 << 48  # of sizes, offsets and strides
MAX_EXPANDED = 1 << 20  # elements of a tensor that repeats those of its storage
MAX_KEY = 64  # characters of a storage's key, a decimal number
MAX_RANK = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """A contiguous array in the file, of which tensors are views."""

    dtype: np.dtype
    key: str
    numel: int

    @property
    def nbytes(self):
        """Size in the file, in bytes."""
        return self.numel * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage, as in the file; not yet checked, see `checked_entry`."""

    storage: Any
    offset: Any
    size: Any
    stride: Any
    metadata: Any


@contextlib.contextmanager
def naming(path):
    """Convert errors of reading a file to a one-line CheckpointError with its path."""
    try:
        yield
    except (  # errors of zipfile, struct, open and NumPy
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
            f"{path} cannot be read as a PyTorch checkpoint: {detail}"
        ) from error


def restore_storage(storages, identity):
    """Return the value of a persistent id; a storage is also added to `storages`.

    Arguments:
        storages: key -> storage, to add to.
        identity: ("storage", type, key, device, number of elements), and in the old
            layout None, or its part of another storage (PyTorch < 0.4).
    """
    match identity:
        case ("storage", Unknown(name=name), str(key), _, int(numel), *rest) if (
            len(key) <= MAX_KEY and rest in ([], [None]) and _is_number(numel)
        ):
            package, _, kind = name.rpartition(".")
            if package.split(".")[0] == "torch" and kind in DTYPES:
                storage = Storage(DTYPES[kind], key, numel)
                if storages.setdefault(key, storage) != storage:
                    raise CheckpointError("it describes one storage in two ways")
                return storage
            return Unknown(name)
    return Unknown("persistent id")


def _tensor(arguments):
    """Build a tensor of (storage, offset, size, stride, requires_grad, hooks, ...)."""
    storage, offset, size, stride, *rest = arguments
    return Tensor(storage, offset, size, stride, metadata=rest[2:])


# Dotted name -> function that represents a call of it.
REBUILD: dict[str, Callable[[tuple], Any]] = {
    "collections.OrderedDict": lambda arguments: {},  # items follow one by one
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda arguments: arguments[0],
    "torch._utils._rebuild_parameter_with_state": lambda arguments: arguments[0],
}


def find_state_dict(tree):
    """Return name -> tensor of the state dict in a checkpoint."""
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
    """Return whether a value is a tensor, also of unsupported kinds, to refuse them."""
    rebuilt = type(value) is Unknown and value.name.startswith("torch.")
    return type(value) is Tensor or (rebuilt and "._rebuild_" in value.name)


def _is_number(value):
    return type(value) is int and 0 <= value < MAX_NUMBER


def checked_entry(path, name, tensor, locate):
    """Return an entry, after checking that shape and strides stay in the storage."""
    name = name[:MAX_NAME]  # keep messages short
    if type(tensor) is Unknown:
        raise CheckpointError(f"{name} is of an unsupported kind, {tensor.name}")
    storage, size, stride = tensor.storage, tensor.size, tensor.stride
    if type(storage) is Unknown:
        raise CheckpointError(f"{name} is of an unsupported type, {storage.name}")
    # Metadata marks elements as negated or conjugated.
    if type(storage) is not Storage or any(tensor.metadata):
        raise CheckpointError(f"{name} is of an unsupported kind")
    if not (
        type(size) is type(stride) is tuple
        and len(size) == len(stride) <= MAX_RANK
        and all(map(_is_number, (tensor.offset, *size, *stride)))
    ):
        raise CheckpointError(f"{name} has no proper shape, offset and strides")
    # Strides of 0 allow any size for a few bytes; NumPy also limits the shape of an
    # empty array.
    if math.prod(max(n, 1) for n in size) > max(storage.numel, MAX_EXPANDED):
        raise CheckpointError(f"{name} is larger than its storage")
    # The stride along an axis of one element is unused, and may have any value.
    steps = [step if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
    last = tensor.offset + sum((n - 1) * s for n, s in zip(size, steps, strict=True))
    if 0 not in size and last >= storage.numel:
        raise CheckpointError(f"{name} reaches beyond its storage")
    fetch, dtype = locate(storage), storage.dtype

    def read():
        with naming(path):
            if 0 in size:
                return np.empty(size, dtype)
            strides = [step * dtype.itemsize for step in steps]
            start = tensor.offset * dtype.itemsize
            # Checks the length of the buffer again, unlike `as_strided`.
            return np.ndarray(size, dtype, fetch(), start, strides).copy()

    return Entry(size, dtype, read)

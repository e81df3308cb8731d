"""Readers of weights files of all formats, which never run code from a file.

Names, shapes and dtypes are read at once, arrays on access.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping

import ml_dtypes
import numpy as np
import safetensors

from ...config import ViTConfig
from ...preprocessing import Preprocessing
from ...text_files import read_json
from ..entries import CheckpointError, Entry, errors_of
from .h5_file import h5_settings, read_h5
from .keras_archive import archive_settings, name_variables, read_archive
from .npz_file import read_npz
from .torch_file import read_torch_file

# JSON settings beside the weights.
SETTINGS = ("config.json", "preprocessor_config.json")
# Of the presets of keras-hub, with the weights of a head in a file of its own.
SETTINGS += ("task.json", "image_converter.json")
TASK_WEIGHTS = "task.weights.h5"
# Those of open_clip, whose files may lie beside the same model of transformers.
OPEN_CLIP, OPEN_CLIP_SETTINGS = "open_clip_", ("open_clip_config.json",)
# Files in a folder of Hugging Face, timm or keras-hub, in the order of preference.
IN_FOLDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.npz",
    "model.weights.h5",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_SAFETENSORS = {
    **{
        "F64": "float64",
        "F32": "float32",
        "F16": "float16",
        "BF16": ml_dtypes.bfloat16,
    },
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8"},
    **{"U8": "uint8", "BOOL": "bool"},
}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An open weights file.

    Arguments:
        path: of the file, or of the folder.
        entries: the arrays by name.
        settings: JSON files beside it, by file name.
        config: the configuration, if the file contains it.
        preprocessing: of the images, if it is known from elsewhere.
    """

    path: pathlib.Path
    entries: Mapping[str, Entry]
    settings: Mapping[str, dict] = dataclasses.field(default_factory=dict)
    config: ViTConfig | None = None
    preprocessing: Preprocessing | None = None


def open_checkpoint(path) -> Checkpoint:
    """Read the names and shapes in a file, the shards of an index, or a folder.

    Arguments:
        path: `.npz`, `.safetensors`, `.pth`, `.pt`, `.bin`, `.h5`, a `.keras` of
            keras-hub, an index of shards (`.index.json`), or a folder with one of
            these, as for `from_pretrained` and `from_preset`.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: another format, or a truncated, corrupt or oversized file.
    """
    path = given = pathlib.Path(path)
    if path.is_dir():
        found = [path / name for name in IN_FOLDER if (path / name).is_file()]
        if not found:
            raise CheckpointError(
                f"`weights` must be a file, or a folder that holds one of "
                f"{', '.join(IN_FOLDER)}. Received: '{path}'"
            )
        path = found[0]
    if not path.is_file():
        raise FileNotFoundError(
            f"`weights` must be an existing file. Received: weights='{path}'"
        )
    if path.name.endswith(".index.json"):
        entries = _read_index(path)
    else:
        entries = _reader(path)(path)
    if not entries:
        raise CheckpointError(f"'{path}' holds no arrays")
    names = OPEN_CLIP_SETTINGS if path.name.startswith(OPEN_CLIP) else SETTINGS
    beside = {name: path.with_name(name) for name in names}
    settings = {n: _read_json(f) for n, f in beside.items() if f.is_file()}
    if path.suffix == ".keras":
        settings = archive_settings(path)
    if READERS.get(path.suffix) is read_h5:
        settings |= h5_settings(path)
        if path.name == "model.weights.h5" and "task.json" in settings:
            entries = {**_read_task(path.with_name(TASK_WEIGHTS)), **entries}
    if path.suffix in (".keras", ".h5"):
        entries = name_variables(path, entries, settings)
    return Checkpoint(given, entries, settings)


def _read_task(path):
    return read_h5(path) if path.is_file() else {}


def _reader(path):
    if path.suffix not in READERS:
        raise CheckpointError(
            f"`weights` must end in one of {', '.join(READERS)}, or be a folder or an "
            f"index of shards. Received: '{path}'"
        )
    return READERS[path.suffix]


def _read_json(path):
    try:
        data = read_json(path)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"cannot read '{path}' as JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"'{path}' must hold a JSON object, not {type(data)}")
    return data


def _read_index(path):
    names = _read_json(path).get("weight_map")
    if not isinstance(names, dict):
        raise CheckpointError(f"'{path}' must have a `weight_map` of names to files")
    shards, entries = {}, {}
    for name, file in names.items():
        # Only file names beside the index, no paths elsewhere.
        if not isinstance(file, str) or pathlib.PurePath(file).name != (file or "."):
            raise CheckpointError(f"'{path}': {file!r} is no file name")
        if file not in shards:
            shard = path.with_name(file)
            if not os.path.isfile(shard):
                raise CheckpointError(f"'{path}' names a missing shard '{file[:80]}'")
            shards[file] = _reader(shard)(shard)
        if name not in shards[file]:
            raise CheckpointError(f"'{path}': shard '{file}' does not hold {name!r}")
        entries[name] = shards[file][name]
    return entries


def read_safetensors(path):
    """Read a `.safetensors` file; the library checks sizes against the file."""
    with errors_of(path, safetensors.SafetensorError, OSError, ValueError):
        with safetensors.safe_open(str(path), "numpy") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            about = {n: (tuple(s.get_shape()), s.get_dtype()) for n, s in parts.items()}

    def entry(name, shape, dtype):
        if dtype not in _SAFETENSORS:
            raise CheckpointError(
                f"'{path}': {name} has dtype {dtype}; quantised weights cannot be "
                f"loaded. Expected one of {', '.join(_SAFETENSORS)}"
            )

        def read():  # opened for each array: pages of an open file stay mapped
            with errors_of(path, safetensors.SafetensorError, OSError, ValueError):
                with safetensors.safe_open(str(path), "numpy") as file:
                    return file.get_tensor(name)

        return Entry(shape, np.dtype(_SAFETENSORS[dtype]), read)

    return {name: entry(name, *rest) for name, rest in about.items()}


READERS = {
    ".npz": read_npz,
    ".safetensors": read_safetensors,
    ".pth": read_torch_file,
    ".pt": read_torch_file,
    ".bin": read_torch_file,
    ".h5": read_h5,
    ".hdf5": read_h5,
    ".keras": read_archive,
}

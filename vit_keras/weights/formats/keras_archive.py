"""Reader of the `.keras` files of keras-hub's models, without keras-hub.

A `.keras` file is an archive of `config.json` and `model.weights.h5`, which Keras does
not compress.
"""

import contextlib
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping

import h5py

from ...text_files import parse_json
from ..entries import CheckpointError, Entry, errors_of, refuse_bomb
from .h5_file import DAMAGED, checked_datasets, read_h5, refuse_endless_heaps

WEIGHTS, CONFIG = "model.weights.h5", "config.json"
ARCHIVE = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error)
MAX_CONFIG = 64 << 20  # bytes; that of a model with a thousand layers takes 1 MiB
# Variables of keras-hub's embeddings, which Keras numbers. A model may lack those
# with "?".
EMBEDDINGS = {
    "dinov2_embedding": (
        *("cls_token", "mask_token?", "register_tokens?"),
        *("interpolated_position_embeddings", "position_embeddings"),
    ),
    "dinov3_embedding": ("cls_token", "mask_token?", "register_tokens?"),
}


class _Part(io.RawIOBase):
    """A part of a file, as a file of its own, so that it is not read as a whole."""

    def __init__(self, path, start, size):
        super().__init__()
        self._file, self._start, self._size, self._at = open(path, "rb"), start, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self._at

    def seek(self, offset, whence=io.SEEK_SET):
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(
            whence, self._size
        )
        return self._at

    def readinto(self, buffer):
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self._size - self._at)]
        self._file.seek(self._start + self._at)
        count = self._file.readinto(view)
        self._at += count
        return count

    def close(self):
        self._file.close()
        super().close()


def read_archive(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """Read the arrays in the `model.weights.h5` of a `.keras` file.

    Raises:
        CheckpointError: the archive is damaged, compressed, or has no such member.
    """
    return read_h5(path, _member_opener(path))


def check_archive(path: str | os.PathLike[str]) -> None:
    """Check a `.keras` file that Keras is to read: sizes, links, the description.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the archive is damaged, far larger unpacked, has data in other
            files, or no description.
    """
    os.stat(path)
    archive_settings(path)
    refuse_endless_heaps(path)
    with errors_of(path, *ARCHIVE, *DAMAGED):
        with zipfile.ZipFile(path) as archive:
            refuse_bomb(path, sum(m.file_size for m in archive.infolist()))
            packed = archive.getinfo(WEIGHTS).compress_type != zipfile.ZIP_STORED
            content = archive.read(WEIGHTS) if packed else b""
        if packed:  # by somebody, not by Keras, which opens it all the same
            refuse_endless_heaps(path, content)
            opened = h5py.File(io.BytesIO(content))
        else:
            opened = _member_opener(path)(path)
        with opened as file:
            checked_datasets(path, file)


def _member_opener(path):
    """Function that opens the weights in a `.keras` file as an `h5py.File`."""
    with errors_of(path, *ARCHIVE, *DAMAGED):
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(WEIGHTS)
        if member.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(
                f"'{path}': {WEIGHTS} is compressed, as Keras writes none"
            )
        with open(path, "rb") as file:  # name and extra field precede the data
            file.seek(member.header_offset + 26)
            start = file.tell() + 4 + sum(struct.unpack("<HH", file.read(4)))

    @contextlib.contextmanager
    def open_member(path):
        with _Part(path, start, member.file_size) as part, h5py.File(part) as file:
            yield file

    return open_member


def archive_settings(path: str | os.PathLike[str]) -> dict[str, dict]:
    """Return the description of the model in a `.keras` file.

    Raises:
        CheckpointError: the archive is damaged, or its description is.
    """
    with errors_of(path, *ARCHIVE, *DAMAGED), zipfile.ZipFile(path) as archive:
        if archive.getinfo(CONFIG).file_size > MAX_CONFIG:
            raise CheckpointError(f"'{path}': {CONFIG} has over {MAX_CONFIG:,} bytes")
        data = parse_json(archive.read(CONFIG), CONFIG)
        if not isinstance(data, dict):
            raise CheckpointError(f"'{path}': {CONFIG} must hold a JSON object")
        return {CONFIG: data}


def is_keras_hub(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a `.keras` of one of keras-hub's own models."""
    if not os.fspath(path).endswith(".keras") or not os.path.isfile(path):
        return False
    try:
        name = archive_settings(path)[CONFIG].get("registered_name")
    except CheckpointError:  # opening it as a model raises the error
        return False
    return isinstance(name, str) and name.startswith("keras_hub>")


def name_variables(
    path: str | os.PathLike[str],
    entries: Mapping[str, Entry],
    settings: Mapping[str, dict],
) -> dict[str, Entry]:
    """Give the numbered variables of keras-hub's embeddings their names.

    Arguments:
        path: of the file.
        entries: its arrays.
        settings: JSON files beside it, by name.

    Raises:
        CheckpointError: a variable may be the mask or a register, and nothing tells.
    """
    pattern = re.compile(rf"(.*\b(?:{'|'.join(EMBEDDINGS)}))/vars/(\d+)")
    hits = {name: hit for name in entries if (hit := pattern.fullmatch(name))}
    named = {name: name for name in entries}
    for layer in {hit[1] for hit in hits.values()}:
        own = sorted(
            (n for n in hits if hits[n][1] == layer), key=lambda n: int(hits[n][2])
        )
        names = list(EMBEDDINGS[layer.rpartition("/")[2]])
        if len(own) == len(names) - 1:  # one of both
            shape = entries[own[1]].shape
            mask = len(shape) == 2  # that of DINOv2
            if "position_embeddings" not in names and shape[1:2] == (1,):
                mask = _has_mask(path, settings)
            names.remove("register_tokens?" if mask else "mask_token?")
        elif len(own) == len(names) - 2:
            names = [name for name in names if not name.endswith("?")]
        if len(own) == len(names):
            for old, new in zip(own, names, strict=True):
                named[old] = f"{layer}/{new.rstrip('?')}"
    return {named[name]: entry for name, entry in entries.items()}


def _has_mask(path, settings):
    """Return whether an embedding with one more token has the mask, not a register."""
    used = settings.get(CONFIG, {}).get("config", {}).get("use_mask_token")
    if not isinstance(used, bool):
        raise CheckpointError(
            f"'{path}' has one token that may be the mask or a register, and only "
            f"`use_mask_token` in the {CONFIG} of keras-hub tells which"
        )
    return used

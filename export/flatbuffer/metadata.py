"""Reader of a `.tflite` file's metadata: name, licence, labels, input.

The model contains a flatbuffer (`metadata_schema.py`) named TFLITE_METADATA; files that
it refers to, such as the labels, are in a zip archive appended to the model.
"""

import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

from vit_keras.text_files import parse_json
from vit_keras.weights.entries import refuse_bomb

from ..errors import missing

ENTRY = "TFLITE_METADATA"
SEGMENTER = "SEGMENTER_METADATA"  # how MediaPipe makes masks of the outputs
RECORD = "export.json"  # of this package, in the archive: how the file was made
# What reading a damaged flatbuffer, or the archive behind it, may raise.
DAMAGED = (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError)
DAMAGED += (struct.error, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
# What a file says of an output of depths.
DEPTHS = {
    "metric": "distance at each pixel, in the unit of the training data",
    "inverse": "inverse distance at each pixel, up to a scale and a shift",
}


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the metadata inside a `.tflite` file, of this package or any other.

    Arguments:
        path: a `.tflite` file.

    Returns:
        The fields that are present, by the names of the published schema; "labels", a
        list of class names, if the output has a file of them; and "export", how
        `to_tflite` made the file. Empty if there is no metadata.

    Raises:
        ValueError: the file is no TFLite flatbuffer, or is damaged.
        FileNotFoundError: the file does not exist.
        MissingDependency: the extra "export" is not installed.
    """
    try:
        from .metadata_schema import unpack_table
    except ImportError as error:
        raise missing("flatbuffers") from error
    content = pathlib.Path(path).read_bytes()
    if content[4:8] != b"TFL3":
        raise ValueError(f"`path` must be a TFLite file. '{path}' is not")
    try:
        model = unpack_table(content, "Model")
        entries = {m["name"]: m["buffer"] for m in model.get("metadata", ())}
        if ENTRY not in entries:
            return {}
        found = unpack_table(model["buffers"][entries[ENTRY]]["data"], "ModelMetadata")
        for custom in _custom(found):
            data, known = custom["data"], custom["name"] == SEGMENTER
            table = "ImageSegmenterOptions"
            custom["data"] = unpack_table(data, table) if known else bytes(data)
        files = archived_files(path)
        labels = [label_names(entry, files) for entry in output_entries(found)[:1]]
        if labels and labels[0] is not None:
            found["labels"] = labels[0]
        if RECORD in files:
            found["export"] = parse_json(files[RECORD], RECORD)
            if not isinstance(found["export"], dict):
                raise ValueError(f"{RECORD} holds no object")
    except DAMAGED as error:
        raise ValueError(f"the metadata of '{path}' is damaged: {error!r}") from error
    return found


LABELLED = ("TENSOR_AXIS_LABELS", "TENSOR_VALUE_LABELS")  # many classes, or two


def output_entries(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what metadata say of each output of the file, in order."""
    graphs = metadata.get("subgraph_metadata", ())[:1]
    return [out for graph in graphs for out in graph.get("output_tensor_metadata", ())]


def label_names(entry: dict[str, Any], files: Mapping[str, bytes]) -> list[str] | None:
    """Return the class names that an output refers to, or None.

    Arguments:
        entry: of `output_entries`.
        files: of `archived_files`.

    Raises:
        LookupError: the file that it refers to is not there.
    """
    for file in entry.get("associated_files", ()):
        if file.get("type") in LABELLED:
            return files[file["name"]].decode().removesuffix("\n").split("\n")
    return None


def _custom(metadata):
    """The first subgraph's entries that are flatbuffers of another schema."""
    for graph in metadata.get("subgraph_metadata", ())[:1]:
        yield from graph.get("custom_metadata", ())


def archived_files(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """Return {name: content} of the files appended to a model."""
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        refuse_bomb(path, sum(entry.file_size for entry in archive.infolist()))
        return {name: archive.read(name) for name in archive.namelist()}

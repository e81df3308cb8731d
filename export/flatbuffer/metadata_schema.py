"""The published schema of TFLite metadata as data, with a reader and a writer.

Source: `mediapipe/tasks/metadata/metadata_schema.fbs` 1.5.0, reduced to fields that
1.0.0 had and images need. The only maintained package with this schema is MediaPipe
itself (500 MB), so the part in use is repeated here.
"""

import enum
import struct

import flatbuffers
import numpy as np
from flatbuffers import number_types as numbers
from flatbuffers.table import Table

IDENTIFIERS = {"ModelMetadata": b"M001", "ImageSegmenterOptions": b"V001"}


class AssociatedFileType(enum.IntEnum):
    UNKNOWN = 0
    DESCRIPTIONS = 1
    TENSOR_AXIS_LABELS = 2
    TENSOR_VALUE_LABELS = 3
    TENSOR_AXIS_SCORE_CALIBRATION = 4
    VOCABULARY = 5
    SCANN_INDEX_FILE = 6


class ColorSpaceType(enum.IntEnum):
    UNKNOWN = 0
    RGB = 1
    GRAYSCALE = 2


class Activation(enum.IntEnum):
    NONE = 0
    SIGMOID = 1
    SOFTMAX = 2


# Fields in the order of the schema, which numbers them in the file; unused last fields
# are left out. A kind is str, bytes, int (uint32), an enumeration (one byte), the name
# of a table, [kind] for a vector, a tuple of tables for a union (stored as two fields:
# type and table), or None for a field that is not read.
SCHEMA = {
    "ModelMetadata": {
        "name": str,
        "description": str,
        "version": str,
        "subgraph_metadata": ["SubGraphMetadata"],
        "author": str,
        "license": str,
        "associated_files": ["AssociatedFile"],
        "min_parser_version": str,
    },
    "SubGraphMetadata": {
        "name": str,
        "description": str,
        "input_tensor_metadata": ["TensorMetadata"],
        "output_tensor_metadata": ["TensorMetadata"],
        "associated_files": ["AssociatedFile"],
        "input_process_units": None,
        "output_process_units": None,
        "input_tensor_groups": None,
        "output_tensor_groups": None,
        "custom_metadata": ["CustomMetadata"],
    },
    "CustomMetadata": {"name": str, "data": bytes},
    # `image_segmenter_metadata_schema.fbs` beside it
    "ImageSegmenterOptions": {
        "activation": Activation,
        "min_parser_version": str,
    },
    "TensorMetadata": {
        "name": str,
        "description": str,
        "dimension_names": [str],
        "content": "Content",
        "process_units": ["ProcessUnit"],
        "stats": "Stats",
        "associated_files": ["AssociatedFile"],
    },
    "Content": {"content_properties": ("FeatureProperties", "ImageProperties")},
    "FeatureProperties": {},
    "ImageProperties": {"color_space": ColorSpaceType, "default_size": "ImageSize"},
    "ImageSize": {"width": int, "height": int},
    "ProcessUnit": {"options": ("NormalizationOptions",)},
    "NormalizationOptions": {"mean": [float], "std": [float]},
    "Stats": {"max": [float], "min": [float]},
    "AssociatedFile": {
        "name": str,
        "description": str,
        "type": AssociatedFileType,
        "locale": str,
        "version": str,
    },
    # of the model itself (`schema.fbs` of LiteRT): the path to the metadata
    "Model": {
        "version": None,
        "operator_codes": None,
        "subgraphs": None,
        "description": None,
        "buffers": ["Buffer"],
        "metadata_buffer": None,
        "metadata": ["Metadata"],
    },
    "Buffer": {"data": bytes},
    "Metadata": {"name": str, "buffer": int},
    # The same, to count its tables.
    "Structure": {
        "version": None,
        "operator_codes": ["Other"],
        "subgraphs": ["Graph"],
        "description": None,
        "buffers": ["Other"],
        "metadata_buffer": None,
        "metadata": ["Other"],
        "signature_defs": ["Signature"],
    },
    "Graph": {
        "tensors": ["Other"],
        "inputs": None,
        "outputs": None,
        "operators": ["Other"],
    },
    "Signature": {"inputs": ["Other"], "outputs": ["Other"]},
    "Other": {},
}


def pack_metadata(value: dict, table: str = "ModelMetadata") -> bytes:
    """Write a root table as a flatbuffer.

    Arguments:
        table: one of `IDENTIFIERS`.
        value: fields by their names in `SCHEMA`; a vector is a list, an enumeration
            the name of its member, a union `{table: fields}`.
    """
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, table, value), IDENTIFIERS[table])
    return bytes(builder.Output())


def unpack_table(content, table: str) -> dict:
    """Read the root table of a flatbuffer, in the form of `pack_metadata`; bytes are
    views of `content`.

    Arguments:
        content: bytes or a view of them.
        table: a name in `SCHEMA`.
    """
    (root,) = struct.unpack_from("<I", content)
    return _read(_Counted(content, root, [len(content)]), table)


class _Counted(Table):
    """A table, and how many more may be read: no more than the file has bytes.

    Offsets may lead to one table again and again, so that a few kB would be a billion.
    """

    __slots__ = ("left",)

    def __init__(self, content, position, left):
        super().__init__(content, position)
        self.left = left

    def count(self, number):
        """Count tables or values; refuse too many, and positions before the file."""
        self.left[0] -= number
        if self.left[0] < 0:
            raise ValueError("it has more tables than bytes")


def _write(builder, table, value):
    """Write a table and everything below it; return its offset."""
    slots, number = [], 0
    for name, kind in SCHEMA[table].items():
        if isinstance(kind, tuple):  # a union
            if name in value:
                ((member, fields),) = value[name].items()
                slots.append((number, numbers.Uint8Flags, kind.index(member) + 1))
                slots.append((number + 1, None, _write(builder, member, fields)))
            number += 2
            continue
        if name in value:
            slots.append((number, *_field(builder, kind, value[name])))
        number += 1
    builder.StartObject(number)
    for number, flags, stored in slots:
        if flags is None:
            builder.PrependUOffsetTRelativeSlot(number, stored, 0)
        else:
            builder.PrependSlot(flags, number, stored, 0)
    return builder.EndObject()


def _field(builder, kind, value):
    """Write a field; return (flags, number) of a scalar, else (None, offset)."""
    if kind is int:
        return numbers.Uint32Flags, value
    if kind is str:
        return None, builder.CreateString(value)
    if kind is bytes:
        builder.StartVector(1, len(value), 16)  # as a flatbuffer of its own needs it
        for byte in reversed(value):
            builder.PrependByte(byte)
        return None, builder.EndVector()
    if isinstance(kind, str):
        return None, _write(builder, kind, value)
    if not isinstance(kind, list):  # an enumeration
        return numbers.Int8Flags, int(kind[value])
    if kind == [float]:
        return None, builder.CreateNumpyVector(np.asarray(value, "float32"))
    offsets = [_field(builder, kind[0], item)[1] for item in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return None, builder.EndVector()


def _read(at: _Counted, table):
    """Read the fields of a table that are present."""
    at.count(1)
    found, number = {}, 0
    for name, kind in SCHEMA[table].items():
        offset = at.Offset(4 + 2 * number)
        number += 2 if isinstance(kind, tuple) else 1
        if not offset or kind is None:
            continue
        where = at.Pos + offset
        if isinstance(kind, tuple):
            which = at.Get(numbers.Uint8Flags, where) - 1
            value = at.Pos + at.Offset(2 + 2 * number)
            if which in range(len(kind)):  # others are later additions
                member = kind[which]
                found[name] = {member: _read(_table(at, value), member)}
        elif isinstance(kind, list):
            start, length = at.Vector(offset), at.VectorLen(offset)
            at.count(length)
            items = (_value(at, kind[0], start + 4 * i) for i in range(length))
            found[name] = list(items)
        else:
            found[name] = _value(at, kind, where)
    return found


def _value(at, kind, where):
    """Read one value of a field or of a vector, at a position."""
    if kind is int:
        return at.Get(numbers.Uint32Flags, where)
    if kind is float:
        return at.Get(numbers.Float32Flags, where)
    if kind is str:
        return at.String(where).decode()
    if kind is bytes:
        start = at.Indirect(where)
        length = at.Get(numbers.Uint32Flags, start)
        return memoryview(at.Bytes)[start + 4 : start + 4 + length]
    if isinstance(kind, str):
        return _read(_table(at, where), kind)
    return kind(at.Get(numbers.Int8Flags, where)).name


def _table(at, where):
    return _Counted(at.Bytes, at.Indirect(where), at.left)

"""Conversion between `.tflite` files and mutable Python objects."""

import numpy as np


def check_tables(content: bytes) -> None:
    """Check that a file is a model, with no more tables than it has bytes for.

    Raises:
        ValueError, struct.error, TypeError: it is none, or is damaged.
    """
    from .metadata_schema import unpack_table

    if content[4:8] != b"TFL3":
        raise ValueError("its identifier is not TFL3")
    unpack_table(content, "Structure")


def unpack(content):
    """Read the model in a file, as `schema.ModelT`.

    Arguments:
        content: bytes of the file.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    check_tables(content)
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for buffer in model.buffers:
        # Weights stored behind the flatbuffer come as bytes objects, which are packed
        # byte by byte: minutes for a ViT-B.
        if buffer.data is not None and not isinstance(buffer.data, np.ndarray):
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return model


def names_of(enumeration) -> dict[int, str]:
    """Return the names in an enumeration of the schema, such as `TensorType`."""
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}


def pack(model) -> bytes:
    """Serialise a model from `unpack`."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))

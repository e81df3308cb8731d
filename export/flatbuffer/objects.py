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


def check_signatures(content: bytes) -> None:
    """Check the indices in a model's signatures, which LiteRT follows as they are.

    Raises:
        ValueError, struct.error, TypeError: one is of nothing, or the file is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    check_tables(content)
    model = schema.Model.GetRootAs(content, 0)
    for number in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(number)
        if signature.SubgraphIndex() >= model.SubgraphsLength():
            raise ValueError("a signature is of a subgraph that is not there")
        most = model.Subgraphs(signature.SubgraphIndex()).TensorsLength()
        ends = [signature.Inputs(n) for n in range(signature.InputsLength())]
        ends += [signature.Outputs(n) for n in range(signature.OutputsLength())]
        if any(end.TensorIndex() >= most for end in ends):
            raise ValueError("a signature is of a tensor that is not there")


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

"""A `.tflite` file as Python objects that can be changed, and back."""

import numpy as np


def unpack(content):
    """The model in a file, as `schema.ModelT`.

    Arguments:
        content: bytes of the file.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for buffer in model.buffers:
        # Weights that lay behind the flatbuffer come as bytes, which are packed one by
        # one: minutes for a ViT-B.
        if buffer.data is not None and not isinstance(buffer.data, np.ndarray):
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return model


def pack(model) -> bytes:
    """The file of a model that `unpack` gave."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))

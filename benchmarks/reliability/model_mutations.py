"""Changes of models: objects of a `.tflite` file, messages of a SavedModel."""

import pathlib
import random
import struct
import tempfile
from typing import Any

from .byte_mutations import EDGES, of_bytes


def of_flatbuffer(data: bytes, draw: random.Random) -> bytes:
    """Change fields of a `.tflite` file's objects, and write it anew.

    What lies behind the flatbuffer, such as metadata files, is kept.
    """
    from export.flatbuffer.objects import pack, unpack

    model = unpack(data)
    nodes, waiting = [], [model]
    while waiting:
        node = waiting.pop()
        items = node if isinstance(node, list) else vars(node).values()
        inner = [v for v in items if isinstance(v, list) or hasattr(v, "__dict__")]
        waiting += [v for v in inner if not hasattr(v, "dtype")]
        nodes.append(node)
    for _ in range(draw.choice((1, 1, 2))):
        node = draw.choice([n for n in nodes if n and not isinstance(n, list)])
        name = draw.choice(list(vars(node)))
        value = getattr(node, name)
        if isinstance(value, bool | int):
            near = (value + 1, value - 1, draw.choice(EDGES) % 128)
            setattr(node, name, draw.choice((*near, draw.choice(EDGES))))
        elif value is not None and hasattr(value, "dtype") and len(value):
            value = value.copy()
            value.flat[draw.randrange(value.size)] = draw.choice(EDGES[:7])
            setattr(node, name, value[: draw.choice((1, len(value), len(value)))])
        elif isinstance(value, list) and value:
            value = list(value)
            way, at = draw.randrange(3), draw.randrange(len(value))
            if way == 0:
                del value[at]
            elif way == 1:
                value.append(value[at])
            elif isinstance(value[at], int):
                value[at] = draw.choice((*EDGES[:8], -5, 10_000, 2**31 - 1))
            setattr(node, name, value)
        else:
            setattr(node, name, None)
    return pack(model)


def of_saved_model(data: bytes, draw: random.Random) -> bytes:
    """Change fields of messages in a `saved_model.pb`."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString(data)
    for _ in range(draw.choice((1, 1, 3))):
        _change_message(model, draw)
    return model.SerializeToString()


def of_records(data: bytes, draw: random.Random) -> bytes:
    """Change the first record of a TFRecord file; lengths and checksums are right."""
    import tensorflow as tf

    from export.evaluation.tools.serving_requests import new_log

    (size,) = struct.unpack_from("<Q", data)
    log = new_log()
    log.ParseFromString(data[12 : 12 + size])
    _change_message(log, draw)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "records")
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(log.SerializeToString())
        return path.read_bytes() + data[16 + size :]


def _change_message(message: Any, draw: random.Random) -> None:
    """Change one field of a message, or of one inside."""
    while True:
        fields = message.ListFields()
        if not fields:
            return
        chosen: Any = draw.choice(fields)
        field, value = chosen
        many = _is_many(value)
        if many and hasattr(value, "keys"):
            key = draw.choice(sorted(value))
            if draw.random() < 0.1 or not hasattr(value[key], "ListFields"):
                del value[key]
                return
            message = value[key]
        elif many and len(value):
            at = draw.randrange(len(value))
            if draw.random() < 0.1:
                del value[at]
                return
            if not hasattr(value[at], "ListFields"):
                value[at] = _other(value[at], draw)
                return
            message = value[at]
        elif hasattr(value, "ListFields"):
            message = value
        else:
            setattr(message, field.name, _other(value, draw))
            return


def _is_many(value):
    return hasattr(value, "__len__") and not isinstance(value, str | bytes)


def _other(value, draw):
    if isinstance(value, str):
        words = ("", "a", value + "x", "ReadFile", "NoOp", "^" + value, value + ":9")
        return draw.choice(words)
    if isinstance(value, bytes):
        return of_bytes(value, draw)[: 1 << 20]
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return draw.choice((0.0, -1.0, float("nan"), float("inf")))
    return draw.choice((0, 1, 2, 3, 7, 19, 127, value + 1))

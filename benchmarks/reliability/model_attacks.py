"""Models made to harm: `.keras` files and `.tflite` files."""

import base64
import io
import json
import marshal
from collections.abc import Sequence

import flatbuffers
import h5py
import numpy as np

from . import seed_files as seeds
from .attacks import bomb, members_of, write, zipped
from .h5_attacks import largest

# --- .keras ---------------------------------------------------------------------------


def changed_keras(change):
    """A whole model, whose description is changed by a function of (dict, outside)."""

    def make(folder, outside):
        files = dict(seeds.keras_file())
        members = members_of(files["model.keras"])
        config = json.loads(members["config.json"])
        config = change(config, outside) or config
        members["config.json"] = json.dumps(config).encode()
        write({**files, "model.keras": zipped(members)}, folder)

    return make


def keras_members(change):
    """A whole model, whose members are changed by a function of (dict, outside)."""

    def make(folder, outside):
        files = dict(seeds.keras_file())
        members = members_of(files["model.keras"])
        change(members, outside)
        write({**files, "model.keras": zipped(members)}, folder)

    return make


def keras_bomb(name):
    """A model with a member that is unpacked to two gigabytes of zeros."""

    def make(folder, outside):
        files = dict(seeds.keras_file())
        members = members_of(files["model.keras"])
        write({k: v for k, v in files.items() if k != "model.keras"}, folder)
        bomb(folder / "model.keras", members, name, 2000)

    return make


def with_layer(layer):
    """A model in which a layer is another, by a function of the folder outside."""

    def change(config, outside):
        layers = config["config"]["layers"]
        new = layer(outside)
        layers[1] = {**layers[1], **new, "build_config": None}

    return changed_keras(change)


def code_of(outside):
    """A Lambda layer with the bytes of a function."""
    made = str(outside / "made")
    run = compile(f"lambda x: open({made!r}, 'w') and x", "x", "eval").co_consts[0]
    code = base64.b64encode(marshal.dumps(run)).decode()
    function = {"class_name": "__lambda__", "config": {"code": code, "defaults": None}}
    config = {"name": "x", "trainable": True, "dtype": "float32", "function": function}
    return {
        **{"module": "keras.layers", "class_name": "Lambda", "config": config},
        "registered_name": None,
    }


def call_of(module, name, config):
    """An object of any module, which Keras would import and call."""
    return lambda outside: {
        **{"module": module, "class_name": name, "registered_name": name},
        "config": {k: v.format(outside) for k, v in config.items()},
    }


KERAS_CALLS = {
    "os.system": call_of("os", "system", {"command": "touch {}/made"}),
    "subprocess.Popen": call_of("subprocess", "Popen", {"args": "touch {}/made"}),
    "pathlib.Path.touch": call_of("pathlib", "Path.touch", {"self": "{}/made"}),
    "a file's vocabulary": call_of(
        "keras.layers", "StringLookup", {"name": "x", "vocabulary": "{}/secret"}
    ),
    "a SavedModel in a layer": call_of(
        "keras.layers", "TFSMLayer", {"name": "x", "filepath": "{}/model"}
    ),
    "a download": call_of(
        "keras.utils", "get_file", {"fname": "{}/made", "origin": "file://{}/secret"}
    ),
}


def weights_of(change):
    """A model whose weights' file is changed by a function as in `h5_attacks.H5`."""

    def edit(members, outside):
        stream = io.BytesIO(members["model.weights.h5"])
        with h5py.File(stream, "r+") as opened:
            change(opened, largest(opened), outside)
        members["model.weights.h5"] = stream.getvalue()

    return keras_members(edit)


def slip(members, outside):
    """Members whose names lead out of a folder, and a link there."""
    members["../outside/made"] = b"x"
    members[f"{outside}/made"] = b"x"
    members["assets/../../outside/made"] = b"x"


# --- .tflite ---------------------------------------------------------------------


def changed_tflite(change):
    """A file whose objects are changed by a function."""

    def make(folder, outside):
        from export.flatbuffer.objects import pack, unpack

        files = dict(seeds.tflite())
        model = unpack(files["m.tflite"])
        change(model)
        write({**files, "m.tflite": pack(model)}, folder)

    return make


def custom_operator(model):
    """An operator that no runtime has."""
    code = model.operatorCodes[model.subgraphs[0].operators[0].opcodeIndex]
    code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, b"Evil"


def huge_input(model):
    """An input of 4 TB: the arena cannot be allocated."""
    graph = model.subgraphs[0]
    tensor = graph.tensors[graph.inputs[0]]
    tensor.shape = np.array([1, 1_000_000, 333_333, 3], "int32")
    tensor.shapeSignature = None


def endless_subgraph(model):
    """A loop whose condition and body are the graph itself."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = 119, 119, 1
    model.operatorCodes.append(code)
    op = schema.OperatorT()
    op.opcodeIndex = len(model.operatorCodes) - 1
    op.inputs, op.outputs = list(graph.inputs), list(graph.outputs)
    op.builtinOptionsType = schema.BuiltinOptions.WhileOptions
    op.builtinOptions = schema.WhileOptionsT()
    op.builtinOptions.condSubgraphIndex = op.builtinOptions.bodySubgraphIndex = 0
    graph.operators = [op]


def wrong_buffer(model):
    """A weight of a buffer that is shorter than its shape."""
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data) > 64:
            model.buffers[tensor.buffer].data = data[:4]


def far_tensor(model):
    """Operators of tensors that are not there."""
    for op in model.subgraphs[0].operators:
        op.inputs = [1_000_000 for _ in op.inputs]


def no_operators(model):
    """A file that has nothing of what it must have."""
    model.subgraphs, model.operatorCodes, model.buffers = [], [], []


def tree(fields: Sequence[int], width: int, identifier: bytes) -> bytes:
    """Return a flatbuffer of width ** len(fields) tables in a few kB.

    Each table has a vector, in the field of this number, of offsets that all lead to
    the same table.
    """
    builder = flatbuffers.Builder(1024)
    builder.StartObject(1)
    inner = builder.EndObject()
    for field in reversed(fields):
        builder.StartVector(4, width, 4)
        for _ in range(width):
            builder.PrependUOffsetTRelative(inner)
        vector = builder.EndVector()
        builder.StartObject(field + 1)
        builder.PrependUOffsetTRelativeSlot(field, vector, 0)
        inner = builder.EndObject()
    builder.Finish(inner, identifier)
    return bytes(builder.Output())


def metadata_tree(folder, outside):
    """Metadata of 12 kB that are a billion tables when they are followed."""
    from export.flatbuffer.objects import pack, unpack

    files = dict(seeds.tflite())
    model = unpack(files["m.tflite"])
    for row in model.metadata:
        if row.name in (b"TFLITE_METADATA", "TFLITE_METADATA"):
            data = tree((3, 3, 6), 1000, b"M001")
            model.buffers[row.buffer].data = np.frombuffer(data, np.uint8)
    write({**files, "m.tflite": pack(model)}, folder)


def model_tree(folder, outside):
    """A model of 240 kB with a billion tensors when they are followed."""
    write({**seeds.tflite(), "m.tflite": tree((2, 0), 30_000, b"TFL3")}, folder)


def metadata_bomb(folder, outside):
    """A labels' file behind the model that is unpacked to two gigabytes."""
    files = dict(seeds.tflite())
    write(files, folder)
    bomb(folder / "bomb.zip", {}, "labels.txt", 2000)
    with (folder / "m.tflite").open("ab") as file:
        file.write((folder / "bomb.zip").read_bytes())


TFLITE = (custom_operator, huge_input, endless_subgraph, wrong_buffer, far_tensor)
TFLITE += (no_operators,)


def first_line(function) -> str:
    """Return the first line of a function's documentation, as an attack's name."""
    return (function.__doc__ or "").strip().splitlines()[0].rstrip(".")

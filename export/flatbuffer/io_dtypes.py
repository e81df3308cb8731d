"""Input and output dtypes of a quantised file."""

import copy
from collections.abc import Mapping
from typing import Any

from .graph_editor import GraphEditor
from .objects import pack, unpack


def set_io_dtypes(content, input_dtype, output_dtype: str | Mapping[str, str]) -> bytes:
    """Replace the float input and outputs of a quantised file by integer ones.

    Arguments:
        content: bytes of the file.
        input_dtype, output_dtype: "uint8", "int8" or "float32"; of the outputs also
            {name in the signature: dtype}.
    """
    import tensorflow as tf
    from tensorflow.lite.python.util import modify_model_io_type

    if input_dtype != "float32":
        content, done = _dequantize_input(content, input_dtype)
        input_dtype = "float32" if done else input_dtype
    content = modify_model_io_type(content, tf.as_dtype(input_dtype), tf.float32)
    return _convert_outputs(bytes(content), output_dtype)


def _convert_outputs(content, dtypes) -> bytes:
    """Give outputs that end in DEQUANTIZE their dtypes; conversions go to the end."""
    graph, last = GraphEditor(content), []
    for place, name in enumerate(graph.output_names):
        output = int(graph.graph.outputs[place])
        op: Any = graph.producer(output)
        if graph.kind(op) != "DEQUANTIZE":
            continue
        inner = int(op.inputs[0])
        shared = not _read_integers(graph, output, inner)
        dtype = dtypes if isinstance(dtypes, str) else dtypes[name]
        if not shared:
            graph.graph.operators.remove(op)
        if dtype == "int8":
            graph.set_output(place, inner)
        elif dtype == "uint8":
            graph.set_output(place, _uint8(graph, inner, output))
            last.append(([inner], [graph.graph.outputs[place]], "QUANTIZE"))
        elif not shared:
            last.append(([inner], [output], "DEQUANTIZE"))
    for inputs, outputs, kind in last:
        graph.insert_before(None, kind, inputs, outputs)
    graph.remove_unread()
    return graph.content()


def _read_integers(graph, output, inner) -> bool:
    """Have integer operators that read an output read what it is dequantised from:
    litert-quantizer leaves them with the float. Return whether no others are left."""
    for op in graph.readers(output):
        if not any(graph.is_float(index) for index in op.outputs):
            op.inputs = [inner if index == output else index for index in op.inputs]
    return not graph.readers(output)


def _uint8(graph, inner, output) -> int:
    """A new uint8 tensor with the values of an int8 one, in place of an output."""
    old = graph.graph.tensors[output]
    index = graph.new_tensor(graph.shape(output), "uint8", old.name.decode())
    scale = copy.deepcopy(graph.graph.tensors[inner].quantization)
    scale.zeroPoint = [int(scale.zeroPoint[0]) + 128]
    graph.graph.tensors[index].quantization = scale
    return index


def _dequantize_input(content, dtype):
    """Add a DEQUANTIZE after the input of a file that starts in float arithmetic.

    Returns:
        The file, and whether it was changed.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(content)
    (graph,) = model.subgraphs
    entry, codes = int(graph.inputs[0]), schema.BuiltinOperator
    readers = [op for op in graph.operators if entry in op.inputs]
    kinds = {model.operatorCodes[op.opcodeIndex].builtinCode for op in readers}
    if codes.QUANTIZE in kinds:
        return content, False
    pixels, scale = copy.copy(graph.tensors[entry]), schema.QuantizationParametersT()
    scale.scale, scale.zeroPoint = [1.0], [-128 if dtype == "int8" else 0]
    pixels.quantization, pixels.type = scale, getattr(schema.TensorType, dtype.upper())
    graph.tensors[entry].name = pixels.name + b"_float"
    graph.tensors.append(pixels)
    graph.inputs = [len(graph.tensors) - 1]
    for signature in model.signatureDefs:
        for end in signature.inputs:
            end.tensorIndex = graph.inputs[0]
    code, op = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = codes.DEQUANTIZE
    code.version = 2 if dtype == "int8" else 1
    op.opcodeIndex, op.inputs = len(model.operatorCodes), graph.inputs
    op.outputs = [entry]
    model.operatorCodes.append(code)
    graph.operators.insert(0, op)
    return pack(model), True

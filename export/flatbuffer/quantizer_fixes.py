"""Fixes around litert-quantizer: unknown operators, versions, idle QUANTIZE."""

import numpy as np

from .objects import names_of, pack, unpack
from .op_versions import needed

# LiteRT computes these in int8, but litert-quantizer does not know them. Each goes by
# the name of another operator while it runs, which is quantised in the same way: a
# function of one value takes any scale to any scale, and a maximum keeps its scale.
_FUNCTIONS = ("HARD_SWISH", "RELU", "SQRT", "RSQRT")
OP_ALIASES = {
    "EXP": _FUNCTIONS,
    "LOG": _FUNCTIONS,
    "ABS": _FUNCTIONS,
    "LEAKY_RELU": _FUNCTIONS,
    "MINIMUM": ("MAXIMUM",),
    "REDUCE_MAX": ("REDUCE_MIN",),
}


def aliases_in(content) -> dict[str, str]:
    """For the operators in `OP_ALIASES` that a file has, the first free name.

    The file has none of these names, which could not be told apart afterwards. An
    operator for which none is left stays in float.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = names_of(schema.BuiltinOperator)
    taken = {names[code.builtinCode] for code in unpack(content).operatorCodes}
    found = {}
    for name, aliases in OP_ALIASES.items():
        free = [alias for alias in aliases if alias not in taken]
        if name in taken and free:
            found[name] = free[0]
            taken.add(free[0])
    return found


def replace_operators(content, names, version=1) -> bytes:
    """Replace operators by others with the same inputs and outputs.

    Arguments:
        content: bytes of a file.
        names: {operator: replacement}.
        version: of the new operators; 2 is int8.
    """
    from ai_edge_litert import schema_py_generated as schema

    if not names:
        return content
    model, codes = unpack(content), schema.BuiltinOperator
    new_codes = {getattr(codes, a): getattr(codes, b) for a, b in names.items()}
    for code in model.operatorCodes:
        if code.builtinCode in new_codes:
            code.builtinCode = new_codes[code.builtinCode]
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
    return pack(model)


def remove_idle_quantize(content):
    """Move weights inside the flatbuffer, and remove QUANTIZE without effect.

    litert-quantizer appends the weights of larger models behind the flatbuffer, where
    only LiteRT finds them. It also inserts a QUANTIZE before a concatenation even if
    type, scale and zero point are the same on both sides.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(content)
    (graph,) = model.subgraphs
    quantize = schema.BuiltinOperator.QUANTIZE

    def idle(op):
        if model.operatorCodes[op.opcodeIndex].builtinCode != quantize:
            return False
        a, b = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
        return (
            a.type == b.type
            and np.array_equal(a.quantization.scale, b.quantization.scale)
            and np.array_equal(a.quantization.zeroPoint, b.quantization.zeroPoint)
        )

    source = {op.outputs[0]: op.inputs[0] for op in graph.operators if idle(op)}
    graph.operators = [op for op in graph.operators if not idle(op)]
    for op in graph.operators:
        op.inputs = [source.get(index, index) for index in op.inputs]
    return pack(model)


def set_operator_versions(content):
    """Set operator codes and versions as the operators' types need them."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(content)
    (graph,) = model.subgraphs
    types = names_of(schema.TensorType)
    names = names_of(schema.BuiltinOperator)
    for code in model.operatorCodes:  # read by OpenVINO, and by runtimes before 2021
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    for op in graph.operators:  # litert-quantizer keeps the versions of the float file
        code = model.operatorCodes[op.opcodeIndex]
        inputs = [types[graph.tensors[i].type] for i in op.inputs if i >= 0]
        version, _ = needed(names[code.builtinCode], inputs) or (1, "")
        code.version = max(code.version, version)
    return pack(model)

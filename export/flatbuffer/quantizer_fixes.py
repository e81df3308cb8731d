"""What litert-quantizer does not know, or leaves undone, mended in the file."""

import numpy as np

from .objects import pack, unpack
from .op_versions import needed

# LiteRT computes these in int8, but litert-quantizer does not know them. It treats the
# operator on the right as the one on the left must be: EXP is a table from any scale to
# any scale, and a maximum has the scale of its input.
STAND_INS = {"EXP": "HARD_SWISH", "REDUCE_MAX": "REDUCE_MIN"}


def swap(content, names, version=None):
    """Replace operators by others of the same inputs and outputs.

    Arguments:
        content: of a file.
        names: {operator: what takes its place}.
        version: of the new operators, or None to keep it; 2 is int8.

    Raises:
        ValueError: the file holds both, and they could not be told apart afterwards.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(content)
    held = {code.builtinCode: code for code in model.operatorCodes}
    found = False
    for old, new in names.items():
        old_code, new_code = (getattr(schema.BuiltinOperator, n) for n in (old, new))
        if new_code in held and (old_code in held or version is None):
            raise ValueError(
                f"the model must not hold {new}, which stands in for {old}"
            )
        if old_code in held:
            found = True
            held[old_code].builtinCode = new_code
            held[old_code].deprecatedBuiltinCode = min(new_code, 127)
            held[old_code].version = version or 1
    if not found:
        return content
    return pack(model)


def tidy(content):
    """A file that every reader understands, without operators that change nothing.

    litert-quantizer appends the weights of larger models behind the flatbuffer, where
    only LiteRT looks for them; here they go back inside. It also puts a QUANTIZE before
    a concatenation where both sides have the same type, scale and zero point.
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


def complete(content):
    """Operator codes as the types of a file need them, for readers of every age."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(content)
    (graph,) = model.subgraphs
    types = {v: k for k, v in vars(schema.TensorType).items() if k[0] != "_"}
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if k[0] != "_"}
    for code in model.operatorCodes:  # where readers of before 2021 look, and OpenVINO
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    for op in graph.operators:  # the library leaves the versions of the float file
        code = model.operatorCodes[op.opcodeIndex]
        inputs = [types[graph.tensors[i].type] for i in op.inputs if i >= 0]
        version, _ = needed(names[code.builtinCode], inputs) or (1, "")
        code.version = max(code.version, version)
    return pack(model)

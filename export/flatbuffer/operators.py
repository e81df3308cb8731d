"""Operators of a `.tflite` file, and the first runtime that supports them all."""

import dataclasses
import pathlib
import struct

from ..errors import missing
from .objects import names_of
from .op_versions import needed, version_key


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of a file: its name and the types of its inputs and outputs."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_operators(path) -> list[Operator]:
    """Return the operators of the main subgraph, in order of execution.

    Types are those of `schema.fbs`, such as "FLOAT32" and "INT8".

    Raises:
        ValueError: the file is no TFLite flatbuffer.
        FileNotFoundError: the file does not exist.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise missing("ai-edge-litert") from error
    content = pathlib.Path(path).read_bytes()
    try:
        if content[4:8] != b"TFL3":
            raise ValueError("its identifier is not TFL3")
        model = schema.ModelT.InitFromPackedBuf(content, 0)
    except (ValueError, TypeError, IndexError, struct.error) as error:
        raise ValueError(
            f"`path` must be a whole TFLite file. '{path}' is not: {error}"
        ) from error
    if len(model.subgraphs or ()) != 1:
        raise ValueError(
            "`path` must be a file with one subgraph, without control flow. "
            f"'{path}' has {len(model.subgraphs or ())}"
        )
    names = names_of(schema.BuiltinOperator)
    types = names_of(schema.TensorType)
    graph, found = model.subgraphs[0], []
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name == "CUSTOM":
            name = f"CUSTOM:{code.customCode.decode()}"

        def kinds(indices):
            return tuple(types[graph.tensors[i].type] for i in indices if i >= 0)

        found.append(Operator(name, kinds(op.inputs), kinds(op.outputs)))
    return found


def minimum_runtime(found: list[Operator]) -> str:
    """Return the first TensorFlow Lite release that supports every operator of a file.

    Every LiteRT release, numbered from 1.0 again, supports what TensorFlow Lite 2.17
    did.
    """
    known = [row[1] for op in found if (row := needed(op.name, op.inputs)) is not None]
    return max(known, key=version_key, default="1.5")

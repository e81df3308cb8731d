"""Operators of a `.tflite` file, and the first runtime that supports them all."""

import dataclasses
import pathlib

import numpy as np

from ..errors import missing
from .metadata import DAMAGED
from .objects import check_tables, names_of
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
        ValueError: the file is no TFLite flatbuffer, is damaged, or has control flow.
        FileNotFoundError: the file does not exist.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise missing("ai-edge-litert") from error
    content = pathlib.Path(path).read_bytes()
    try:
        check_tables(content)
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        return _operators(model, schema)
    except DAMAGED as error:
        raise ValueError(
            f"`path` must be a whole TFLite file of one subgraph. '{path}' is not: "
            f"{error}"
        ) from error


def _operators(model, schema):
    if len(model.subgraphs or ()) != 1:
        raise ValueError(
            f"a file without control flow has one, it has {len(model.subgraphs or ())}"
        )
    names = names_of(schema.BuiltinOperator)
    types = names_of(schema.TensorType)
    graph, found = model.subgraphs[0], []
    _check_scales(graph)
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name == "CUSTOM":
            name = f"CUSTOM:{code.customCode.decode()}"

        def kinds(indices):
            given = () if indices is None else indices
            return tuple(types[graph.tensors[i].type] for i in given if i >= 0)

        found.append(Operator(name, kinds(op.inputs), kinds(op.outputs)))
    return found


def _check_scales(graph):
    """Refuse scales and outputs that LiteRT's kernels end the process at.

    Raises:
        ValueError: a scale is below 0 or no number, or an operator has no output.
    """
    for tensor in graph.tensors:
        scales = tensor.quantization and tensor.quantization.scale
        if scales is not None and len(scales):
            values = np.asarray(scales, "float32")
            if not (np.isfinite(values) & (values >= 0)).all():
                raise ValueError(f"{tensor.name!r} has a scale below 0, or none")
    for op in graph.operators:
        if op.outputs is not None and min(op.outputs, default=0) < 0:
            raise ValueError("an operator has an output that is none")


def minimum_runtime(found: list[Operator]) -> str:
    """Return the first TensorFlow Lite release that supports every operator of a file.

    Every LiteRT release, numbered from 1.0 again, supports what TensorFlow Lite 2.17
    did.
    """
    known = [row[1] for op in found if (row := needed(op.name, op.inputs)) is not None]
    return max(known, key=version_key, default="1.5")

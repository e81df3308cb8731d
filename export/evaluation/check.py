"""What is inside a `.tflite` file, and whether a target takes it."""

import collections
import dataclasses
import pathlib
import struct

from ..errors import missing
from ..targets import get_target
from . import runners

# Operators that keep state or leave the builtin set: a file must not hold them.
STATEFUL = ("READ_VARIABLE", "ASSIGN_VARIABLE", "VAR_HANDLE", "CALL_ONCE")


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of a file: its name and the types of its inputs and outputs."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def operators(path) -> list[Operator]:
    """The operators of the main subgraph, in order of execution.

    Types are those of `schema.fbs`, such as "FLOAT32" and "INT8".

    Raises:
        ValueError: the file is no TFLite flatbuffer.
        FileNotFoundError: there is no such file.
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
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if k[0] != "_"}
    types = {v: k for k, v in vars(schema.TensorType).items() if k[0] != "_"}
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


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """Whether a target takes a file.

    Attributes:
        target: name of the target.
        operators: how many of each operator the file has.
        problems: what the target refuses, one line each; empty is good.
    """

    target: str
    operators: dict[str, int]
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.problems

    def __str__(self):
        total = sum(self.operators.values())
        if self.passed:
            return f"{self.target}: all {total} operators accepted"
        return "\n".join([f"{self.target}: refused", *self.problems])


def check(path, target="npu") -> CheckReport:
    """Judge a file for a target.

    For "cpu" the real LiteRT interpreter must prepare it. For "npu" every tensor
    between input and output must be an integer one, with no change of representation
    (QUANTIZE, DEQUANTIZE) inside.

    Raises:
        ValueError: unknown target, or no TFLite file.
        FileNotFoundError: there is no such file.
    """
    rules, found, problems = get_target(target), operators(path), []
    counts = dict(collections.Counter(op.name for op in found))
    for name in counts:
        if name in STATEFUL or name.startswith("CUSTOM"):
            problems.append(f"{name} is not a stateless builtin operator")
    try:
        runners.new_interpreter(path)
    except ValueError as error:
        problems.append(str(error))
    if rules.integer_only:
        problems += float_islands(found)
    return CheckReport(target, counts, tuple(problems))


def float_islands(found) -> list[str]:
    """Operators inside an integer file that are float or convert, one line each.

    The first operator may quantise the input, the last dequantise the output.
    """
    inside = list(found)
    if inside and inside[0].name == "QUANTIZE":
        inside = inside[1:]
    if inside and inside[-1].name in ("DEQUANTIZE", "QUANTIZE"):
        inside = inside[:-1]
    lines = []
    for op in inside:
        floats = [t for t in (*op.inputs, *op.outputs) if t.startswith("FLOAT")]
        if floats or op.name in ("QUANTIZE", "DEQUANTIZE"):
            kinds = f"{', '.join(op.inputs)} -> {', '.join(op.outputs)}"
            lines.append(f"{op.name} ({kinds}) is not integer arithmetic")
    return lines

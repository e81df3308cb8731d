"""A `.tflite` file as NumPy arrays, read from its flatbuffer alone.

The schema is TensorFlow's; nothing of LiteRT's runtime or of `export` is used.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

DTYPES = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "INT4": np.int8,  # two in a byte, the lower half first
}
# Of the whole range of an integer tensor; INT4 is for weights alone.
LIMITS = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767)}


def rounded_away(values: np.ndarray) -> np.ndarray:
    """Whole numbers; halves go away from zero, as LiteRT has it."""
    return np.trunc(values + np.copysign(0.5, values))


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a file.

    Attributes:
        name, shape: as the file has them.
        kind: the name of its type in the schema, such as "INT8".
        scale: float64 that broadcasts to the tensor's values; None for no quantisation.
        zero: the zero point, likewise.
        stored: the values of a constant as they are stored; None for any other.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    scale: np.ndarray | None
    zero: np.ndarray | None
    stored: np.ndarray | None

    @property
    def is_quantised(self) -> bool:
        """Whether stored integers stand for real numbers."""
        return self.scale is not None and "FLOAT" not in self.kind

    def real(self, stored: np.ndarray) -> np.ndarray:
        """The numbers that stored values stand for; integers that count stay so."""
        if self.is_quantised:
            return (stored.astype("float64") - self.zero) * self.scale
        return stored.astype("float64") if "FLOAT" in self.kind else stored

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Real values as this tensor can hold them, as real values again."""
        return self.real(self.store(values))

    def store(self, values: np.ndarray) -> np.ndarray:
        """Real values as they are stored: halves are rounded away from zero."""
        if not self.is_quantised or self.kind not in LIMITS:
            return values.astype(DTYPES[self.kind])
        steps = rounded_away(values / self.scale) + self.zero
        return np.clip(steps, *LIMITS[self.kind]).astype(DTYPES[self.kind])


@dataclasses.dataclass(frozen=True)
class Op:
    """An operator: its name, numbers of tensors (-1 for none), options, and the
    activation that follows it in the same operator."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any
    activation: str


@dataclasses.dataclass(frozen=True)
class Tables:
    """Tensors, operators in order, and the ends: {name in the signature: tensor}."""

    tensors: list[Tensor]
    ops: list[Op]
    inputs: tuple[int, ...]
    outputs: dict[str, int]


def read_tables(path: Any) -> Tables:
    """Read a file of one subgraph.

    Raises:
        ValueError: it has several subgraphs, or a tensor of a type that is not known.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    content = pathlib.Path(path).read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    if len(model.subgraphs) != 1:
        raise ValueError(f"'{path}' has {len(model.subgraphs)} subgraphs in place of 1")
    kinds, names = (_words(e) for e in (schema.TensorType, schema.BuiltinOperator))
    fused = _words(schema.ActivationFunctionType)
    (graph,) = model.subgraphs
    tensors = []
    for number, found in enumerate(graph.tensors):
        tensors.append(_tensor(found, kinds[found.type], model, content, graph, number))
    ops = []
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        options = op.builtinOptions or op.builtinOptions2
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        inputs, outputs = (tuple(map(int, ends)) for ends in (op.inputs, op.outputs))
        after = fused[getattr(options, "fusedActivationFunction", 0)]
        ops.append(Op(name, inputs, outputs, options, after))
    ends = {graph.tensors[i].name.decode(): int(i) for i in graph.outputs}
    if len(model.signatureDefs or ()) == 1:
        signature = model.signatureDefs[0].outputs
        ends = {end.name.decode(): int(end.tensorIndex) for end in signature}
    return Tables(tensors, ops, tuple(map(int, graph.inputs)), ends)


def _words(enumeration):
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}


def _tensor(found, kind, model, content, graph, number):
    shape = () if found.shape is None else tuple(map(int, found.shape))
    if kind not in DTYPES:
        raise ValueError(f"tensor {number} has the type {kind}, which is not known")
    stored = _stored(model.buffers[found.buffer], content, kind, shape)
    scale, zero = _quantisation(found.quantization, shape, model, content, graph)
    return Tensor(found.name.decode(), shape, kind, scale, zero, stored)


def _bytes(buffer, content):
    if buffer.offset > 1:  # behind the flatbuffer
        return content[buffer.offset : buffer.offset + buffer.size]
    return b"" if buffer.data is None else bytes(bytearray(buffer.data))


def _stored(buffer, content, kind, shape):
    data = _bytes(buffer, content)
    if not data:
        return None
    values: Any = np.frombuffer(data, DTYPES[kind])
    if kind == "INT4":
        low, high = (values << 4).astype("int8") >> 4, values >> 4
        values = np.stack([low, high], -1).ravel()[: int(np.prod(shape))]
    return values.reshape(shape)


def _quantisation(found, shape, model, content, graph):
    """Scale and zero point, with the axes that they broadcast along."""
    block = getattr(found, "details", None)
    if block is not None and hasattr(block, "blockSize"):
        scales = graph.tensors[block.scales]
        data = _bytes(model.buffers[scales.buffer], content)
        values = np.frombuffer(data, np.float16).astype("float64")
        values = values.reshape(*shape[:-1], -1)  # blocks lie along the last axis
        return np.repeat(values, block.blockSize, -1), np.zeros(())
    if found is None or found.scale is None or not len(found.scale):
        return None, None
    ends = [1] * len(shape)
    if len(found.scale) > 1:
        ends[found.quantizedDimension] = len(found.scale)
    scale = np.asarray(found.scale, np.float32).astype("float64")
    zero = np.zeros(len(scale)) if found.zeroPoint is None else found.zeroPoint
    if len(scale) == 1:
        return scale.reshape(()), np.asarray(zero, "float64")[:1].reshape(())
    zero = np.broadcast_to(np.asarray(zero, "float64"), scale.shape)
    return scale.reshape(ends), zero.reshape(ends)

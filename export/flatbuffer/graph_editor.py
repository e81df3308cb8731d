"""The operators of a file, open to change."""

import copy
from typing import Any

import numpy as np

from .objects import names_of, pack, unpack

DTYPES = ("float32", "int32", "int64", "bool", "int8")  # of constants that are read


class GraphEditor:
    """The one subgraph of a `.tflite` file.

    Arguments:
        content: of the file.

    Attributes:
        model: the file as `schema.ModelT`.
        graph: its subgraph.
    """

    def __init__(self, content):
        from ai_edge_litert import schema_py_generated as schema

        self._schema: Any = schema
        self.model = unpack(content)
        (self.graph,) = self.model.subgraphs
        self._names = names_of(schema.BuiltinOperator)

    def copy(self) -> "GraphEditor":
        """An editor of its own, which shares only the values of constants."""
        other = copy.copy(self)
        other.model, other.graph = copy.copy(self.model), copy.copy(self.graph)
        other.model.subgraphs = [other.graph]
        other.model.buffers = list(self.model.buffers)
        other.model.operatorCodes = list(self.model.operatorCodes)
        other.model.signatureDefs = copy.deepcopy(self.model.signatureDefs)
        other.graph.operators = [copy.copy(op) for op in self.graph.operators]
        other.graph.tensors = [copy.copy(tensor) for tensor in self.graph.tensors]
        return other

    def kind(self, op) -> str:
        """The name of an operator in `schema.fbs`; "" for None."""
        if op is None:
            return ""
        return self._names[self.model.operatorCodes[op.opcodeIndex].builtinCode]

    @property
    def output_names(self) -> list[str]:
        """Of the outputs in order, by the signature, else by their tensors."""
        names = {i: self.graph.tensors[i].name for i in self.graph.outputs}
        for signature in self.model.signatureDefs or ():
            names |= {end.tensorIndex: end.name for end in signature.outputs}
        return [names[index].decode() for index in self.graph.outputs]

    def set_output(self, place, index):
        """Make a tensor the output at a place, of the signature, too."""
        old, outputs = self.graph.outputs[place], list(self.graph.outputs)
        outputs[place] = index
        for signature in self.model.signatureDefs or ():
            for end in signature.outputs:
                end.tensorIndex = index if end.tensorIndex == old else end.tensorIndex
        self.graph.outputs = outputs

    def order_outputs(self, names):
        """Put the outputs into the order of names."""
        index = dict(zip(self.output_names, self.graph.outputs, strict=True))
        self.graph.outputs = [index[name] for name in names]

    def producer(self, index):
        """The operator that computes a tensor; None for inputs and constants."""
        found = (op for op in self.graph.operators if index in op.outputs)
        return next(found, None)

    def readers(self, index) -> list[Any]:
        """The operators that read a tensor."""
        return [op for op in self.graph.operators if index in op.inputs]

    def shape(self, index) -> tuple[int, ...]:
        """Of a tensor."""
        shape = self.graph.tensors[index].shape
        return () if shape is None else tuple(int(n) for n in shape)

    def is_float(self, index) -> bool:
        """Whether a tensor is float32."""
        return self.graph.tensors[index].type == self._schema.TensorType.FLOAT32

    def is_constant(self, index) -> bool:
        """Whether the file holds a tensor's values."""
        data = self.model.buffers[self.graph.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def constant(self, index) -> np.ndarray | None:
        """The values of a constant tensor; None for one that is computed."""
        if not self.is_constant(index):
            return None
        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        types = {getattr(self._schema.TensorType, n.upper()): n for n in DTYPES}
        return np.frombuffer(bytes(data), types[tensor.type]).reshape(self.shape(index))

    def make_constant(self, index, values):
        """Turn a tensor into a constant of its own shape and dtype."""
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), "uint8")
        self.graph.tensors[index].buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)

    def new_tensor(self, shape, dtype, name) -> int:
        """The index of a new tensor."""
        tensor = self._schema.TensorT()
        tensor.shape, tensor.name = np.array(shape, "int32"), name.encode()
        tensor.type = getattr(self._schema.TensorType, dtype.upper())
        tensor.buffer = 0  # the empty one
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def set_scale(self, index, scale: float, zero_point: int):
        """Give a tensor of integers one scale and zero point."""
        row = self._schema.QuantizationParametersT()
        row.scale, row.zeroPoint = [scale], [zero_point]
        self.graph.tensors[index].quantization = row

    def new_constant(self, values: np.ndarray, name) -> int:
        """The index of a new constant."""
        index = self.new_tensor(values.shape, values.dtype.name, name)
        self.make_constant(index, values)
        return index

    def become(self, op, kind, inputs, options=""):
        """Make another operator of one, in its place and with its outputs.

        Arguments:
            kind: its name in `schema.fbs`, of version 1.
            inputs: indices of tensors.
            options: its table of options there, whose values are the default ones.
        """
        op.opcodeIndex, op.inputs = self._code(kind), inputs
        op.builtinOptions, op.builtinOptionsType = None, 0
        if options:
            op.builtinOptions = getattr(self._schema, f"{options}T")()
            op.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)

    def insert_before(self, op, kind, inputs, outputs, options=""):
        """A new operator in front of another, or at the end for None."""
        new = self._schema.OperatorT()
        new.outputs = outputs
        self.become(new, kind, inputs, options)
        operators = self.graph.operators
        operators.insert(len(operators) if op is None else operators.index(op), new)
        return new

    def redirect(self, old, new):
        """Have whoever reads one tensor read another."""
        for op in self.graph.operators:
            op.inputs = [new if index == old else index for index in op.inputs]

    def remove_unread(self):
        """Remove operators whose results nobody reads, and all tensors without use,
        which LiteRT has no memory for."""
        graph, kept = self.graph, []
        used = {int(index) for index in (*graph.inputs, *graph.outputs)}
        wanted = {int(index) for index in graph.outputs}
        for op in reversed(graph.operators):
            if wanted & {int(index) for index in op.outputs}:
                kept.append(op)
                wanted |= {int(index) for index in op.inputs if index >= 0}
                used |= {int(index) for index in op.outputs}
        graph.operators = kept[::-1]
        order = sorted(used | wanted)
        graph.tensors = [graph.tensors[index] for index in order]
        new = {-1: -1} | {index: number for number, index in enumerate(order)}
        for holder in (graph, *graph.operators):
            holder.inputs = [new[int(index)] for index in holder.inputs]
            holder.outputs = [new[int(index)] for index in holder.outputs]
        for signature in self.model.signatureDefs or ():
            for end in (*signature.inputs, *signature.outputs):
                end.tensorIndex = new[int(end.tensorIndex)]

    def drop_unread_constants(self):
        """Drop the values of constants without a tensor; others keep their places."""
        model = self.model
        used = {tensor.buffer for tensor in self.graph.tensors}
        used |= {entry.buffer for entry in model.metadata or ()}
        empty = self._schema.BufferT()
        model.buffers = [
            buffer if place in used else empty
            for place, buffer in enumerate(model.buffers)
        ]

    def content(self) -> bytes:
        """The file."""
        return pack(self.model)

    def _code(self, kind):
        wanted = getattr(self._schema.BuiltinOperator, kind)
        for index, code in enumerate(self.model.operatorCodes):
            if (code.builtinCode, code.version) == (wanted, 1):
                return index
        code = self._schema.OperatorCodeT()
        code.builtinCode, code.version = wanted, 1
        code.deprecatedBuiltinCode = min(wanted, 127)
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

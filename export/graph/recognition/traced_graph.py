"""A float `.tflite` file as a graph of which every part can be run.

A graph of tensors, by number, and operators between them, for one image.
"""

import collections
import dataclasses
from typing import Any

import numpy as np

from ...flatbuffer.objects import check_tables, names_of


class Unrecognised(ValueError):
    """No plain ViT is in a graph; the message is the reason, one line."""


@dataclasses.dataclass(frozen=True)
class TracedOp:
    """An operator.

    Attributes:
        name: in TFLite, such as "FULLY_CONNECTED"; of a custom one its code.
        inputs: numbers of tensors, -1 for one that is left out.
        outputs: numbers of tensors.
        options: as the flatbuffer has them.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = None


class TracedGraph:
    """The graph of a float `.tflite` file with one input and one output.

    What depends on constants alone is computed at once, and a fused activation is an
    operator of its own.

    Arguments:
        content: of the file; float32, or with float16 weights.

    Attributes:
        content: the same.
        input, output: numbers of the tensors.
        shapes: of all tensors, for one image.
        types: of all tensors, such as "float32".
        constants: {number of a tensor: its value}.
        ops: the operators that depend on the input, in the order they run.
        maker: {number of a tensor: the operator that gives it}.

    Raises:
        Unrecognised: it is a quantised file, or has several inputs or outputs.
    """

    def __init__(self, content: bytes):
        from ai_edge_litert import schema_py_generated as schema

        check_tables(content)
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        graph = model.subgraphs[0]
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            numbers = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
            raise Unrecognised(f"{numbers} where a ViT has one each")
        self.content = content
        self.input, self.output = int(graph.inputs[0]), int(graph.outputs[0])
        kinds = names_of(schema.TensorType)
        self.types = [kinds[t.type].lower() for t in graph.tensors]
        self.shapes = [
            tuple(int(n) for n in (() if t.shape is None else t.shape))
            for t in graph.tensors
        ]
        if any(_is_dynamic(tensor) for tensor in graph.tensors):
            self._measure_shapes()
        self.constants: dict[int, np.ndarray] = {}
        for number, tensor in enumerate(graph.tensors):
            value = _value(model.buffers[tensor.buffer], content, self.types[number])
            if value is not None:
                self.constants[number] = value.reshape(self.shapes[number])
        self.ops: list[TracedOp] = []
        names = names_of(schema.BuiltinOperator)
        fused = names_of(schema.ActivationFunctionType)
        for op in graph.operators:
            code = model.operatorCodes[op.opcodeIndex]
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            name = code.customCode.decode() if name == "CUSTOM" else name
            inputs, outputs = (tuple(map(int, v)) for v in (op.inputs, op.outputs))
            options = op.builtinOptions or op.builtinOptions2
            after = fused[getattr(options, "fusedActivationFunction", 0)]
            if after == "NONE":
                self._add(TracedOp(name, inputs, outputs, options))
                continue
            before = len(self.shapes)
            self.shapes.append(self.shapes[outputs[0]])
            self.types.append(self.types[outputs[0]])
            self._add(TracedOp(name, inputs, (before,), options))
            self._add(TracedOp(after, (before,), outputs))
        self.maker = {number: op for op in self.ops for number in op.outputs}
        read = {n for op in self.ops for n in op.inputs if n != self.input}
        if any(self._is_quantised(n) for n in read):
            raise Unrecognised("a quantised file; the float one is needed")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one image."""
        return self.shapes[self.input]

    def _is_quantised(self, number):
        return number >= 0 and self.types[number] in ("int8", "uint8", "int16", "int4")

    def _measure_shapes(self):
        """Those of one image, in a file that leaves the batch open."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(
            model_content=self.content,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=plain,
        )
        interpreter.allocate_tensors()
        interpreter.invoke()
        for detail in interpreter.get_tensor_details():
            if detail["index"] < len(self.shapes):
                self.shapes[detail["index"]] = tuple(int(n) for n in detail["shape"])

    def _add(self, op):
        if op.name == "SHAPE":  # the batch is fixed
            shape = self.shapes[op.inputs[0]]
            self.constants[op.outputs[0]] = np.array(shape, "int32")
        elif all(i < 0 or i in self.constants for i in op.inputs):
            if self._has_kernel(op):
                values = [None if i < 0 else self.constants[i] for i in op.inputs]
                results = self.run(op, values, "float32")
                for number, result in zip(op.outputs, results, strict=True):
                    self.constants[number] = np.asarray(result)
        else:
            self.ops.append(op)

    def _has_kernel(self, op):
        from .operator_kernels import KERNELS

        return op.name in KERNELS

    def moving(self, op: TracedOp) -> list[int]:
        """The inputs of an operator that depend on the image."""
        return [i for i in op.inputs if i >= 0 and i not in self.constants]

    def between(self, start: int, end: int) -> list[TracedOp]:
        """The operators on any way from one tensor to another, in order."""
        reached, forward = {start}, []
        for op in self.ops:
            if start not in op.outputs and not reached.isdisjoint(op.inputs):
                reached.update(op.outputs)
                forward.append(op)
        needed, found = {end}, []
        for op in reversed(forward):
            if not needed.isdisjoint(op.outputs):
                needed.update(i for i in op.inputs if i in reached and i != start)
                found.append(op)
        return found[::-1]

    def cuts(self, start: int, end: int) -> list[int]:
        """The tensors, in order, that every way from `start` to `end` goes through."""
        ops = self.between(start, end)
        uses = collections.Counter(i for op in ops for i in self.moving(op))
        live, found = {start: uses[start]}, [start]
        for op in ops:
            for number in op.inputs:
                if number in live:
                    live[number] -= 1
                    if not live[number]:
                        del live[number]
            live.update({o: uses[o] for o in op.outputs if uses[o] or o == end})
            if len(live) == 1:
                found.append(*live)
        return found

    def part(self, start: int, end: int):
        """The function from the value of one tensor to that of another, in float64.

        Returns:
            Function of an array with as many values as the tensor has for one image;
            it gives an array of the shape that the other has.
        """
        import tensorflow as tf

        function = self.function(start, end, "float64", keep=tf.convert_to_tensor)
        shape = self.shapes[start]
        return lambda x: np.asarray(function(np.asarray(x, "float64").reshape(shape)))

    def function(self, start, end, dtype="float32", batched=False, keep=np.asarray):
        """The same as operations of TensorFlow, to be called in any function.

        Arguments:
            start, end: numbers of tensors.
            dtype: to compute in.
            batched: whether there may be several images; see `shape_kernels`.
            keep: how to keep the weights between calls.
        """
        import tensorflow as tf

        ops = self.between(start, end)
        made = {start, *(o for op in ops for o in op.outputs)}
        read = {i for op in ops for i in op.inputs if i >= 0} - made
        constants: dict[int, Any] = {i: self.value(i, dtype) for i in read}
        for i, value in constants.items():
            if value.dtype.kind == "f":
                constants[i] = keep(value)

        def function(value):
            values = {**constants, start: tf.convert_to_tensor(value)}
            for op in ops:
                inputs = [values[i] if i >= 0 else None for i in op.inputs]
                results = self.run(op, inputs, dtype, batched)
                values.update(zip(op.outputs, results, strict=True))
            return values[end]

        return function

    def value(self, number: int, dtype="float64") -> np.ndarray:
        """Of a constant.

        Raises:
            Unrecognised: it depends on the image.
        """
        if number not in self.constants:
            raise Unrecognised("a piece of the graph that has several inputs")
        value = self.constants[number]
        floats = value.dtype.kind == "f"
        return value.astype(dtype, copy=False) if floats else value

    def run(self, op: TracedOp, values, dtype, batched=False) -> list:
        """The outputs of an operator.

        Raises:
            Unrecognised: its kind is unknown.
        """
        from .operator_kernels import KERNELS, Call

        if op.name not in KERNELS:
            raise Unrecognised(f"the operator {op.name}, which is not known")
        shapes = tuple(self.shapes[o] for o in op.outputs)
        if batched:
            shapes = tuple((-1, *shape[1:]) if shape else shape for shape in shapes)
        call = Call(
            options=op.options,
            input_shapes=tuple(self.shapes[i] if i >= 0 else () for i in op.inputs),
            shapes=shapes,
            dtype=dtype,
            types=tuple(self.types[o] for o in op.outputs),
            batched=batched,
        )
        result = KERNELS[op.name](call, *values)
        return list(result) if isinstance(result, list | tuple) else [result]


def _is_dynamic(tensor):
    signature = tensor.shapeSignature
    return signature is not None and -1 in list(signature)


def _value(buffer, content, kind):
    """A constant, as it lies in the file; None for what is computed."""
    data = buffer.data
    if data is None and buffer.offset > 1:  # behind the flatbuffer
        data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
    if data is None or not len(data) or kind in ("int4", "int2", "string"):
        return None
    return np.ascontiguousarray(data, np.uint8).view(kind)

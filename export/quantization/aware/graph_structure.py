"""Dependencies between ranges of activations: shared scales, constants, biases.

They are read from a trace of the graph, which works for all `GraphOptions`.
"""

import dataclasses
from typing import Any

import tensorflow as tf

# They reshape or move values, and so keep the scale.
MOVES = ("Reshape", "Transpose", "StridedSlice", "ConcatV2")
LINEAR = ("MatMul", "Conv2D")


@dataclasses.dataclass(frozen=True)
class Structure:
    """Relations between activations, numbered in order of computation.

    Attributes:
        fixed: for each, its range if that does not depend on the values, or None.
        groups: for each, the numbers of all that share its scale.
        constants: numbers of those that do not depend on the images.
        factors: {number of a product of two activations: their numbers}.
        biases: {path of a bias: (number of its layer's input, path of the kernel)}.
        shifts: {number of a sum with a constant: (number of the other addend,
            constant)}. Its range follows from the addend's: a separate one would clip
            differently, and `x + epsilon` cannot be told from `x` by its values.
    """

    fixed: list[Any]
    groups: list[set[int]]
    constants: set[int]
    factors: dict[int, tuple[int, int]]
    biases: dict[str, tuple[int, str]]
    shifts: dict[int, tuple[int, float]]


def traced(function, shape, record, weight_refs) -> Structure:
    """Read the structure from a trace of a function.

    Arguments:
        function: of a tensor of `shape`; a call fills `record` and `weight_refs`.
        shape: of its input.
        record: a list of (activation, fixed range or None).
        weight_refs: {tensor reference: path of the weight}.
    """
    tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec(shape))
    numbers = {x.ref(): i for i, (x, _) in enumerate(record)}
    groups = [{i} for i in range(len(record))]
    constants, factors, biases, shifts = set(), {}, {}, {}
    for i, (x, _) in enumerate(record):
        for j in _moved(x, numbers):
            groups[i] |= groups[j]
            for k in groups[i]:
                groups[k] = groups[i]
        if x.op.type == "BatchMatMulV2":
            factors[i] = tuple(_origins(factor, numbers)[0] for factor in x.op.inputs)
        if x.op.type == "AddV2" and x.op.inputs[0].ref() in numbers:
            constant = tf.get_static_value(x.op.inputs[1])
            if constant is not None and constant.ndim == 0:
                shifts[i] = numbers[x.op.inputs[0].ref()], float(constant)
        if x.op.type in ("AddV2", "BiasAdd"):
            product, bias = x.op.inputs
            while product.op.type in MOVES and product.ref() not in numbers:
                product = product.op.inputs[0]
            if product.op.type in LINEAR:
                read = _origins(product.op.inputs[0], numbers)
                kernels = _origins(product.op.inputs[1], weight_refs)
                paths = _origins(bias, weight_refs)
                for path, kernel in zip(paths, kernels, strict=True):
                    biases |= {path: (read[0], kernel)} if read else {}
                constants |= set() if read else {i}
    fixed = [limits for _, limits in record]
    return Structure(fixed, groups, constants, factors, biases, shifts)


def _origins(x, known) -> list:
    """Return the known tensors that a tensor consists of, moved but not changed."""
    return [known[x.ref()]] if x.ref() in known else _moved(x, known)


def _moved(x, known) -> list:
    """Return the same, without the tensor itself."""
    if x.op.type not in MOVES:
        return []
    sources = x.op.inputs[:-1] if x.op.type == "ConcatV2" else x.op.inputs[:1]
    return [origin for source in sources for origin in _origins(source, known)]

"""Exact changes of a converted float file, so that integers can compute it.

Our own graphs are written for integers. Those of other models hold operators that have
no integer kernel, in places where operators with one compute the same.
"""

from typing import Any

import numpy as np

from .graph_editor import GraphEditor

# Operators between a mask and a softmax, and which of their inputs are scores or masks.
SCORES = {
    "ADD": slice(0, 2),
    "SELECT": slice(1, 3),
    "SELECT_V2": slice(1, 3),
    "RESHAPE": slice(0, 1),
    "TRANSPOSE": slice(0, 1),
}


def fix_float(content) -> bytes | None:
    """Rewrite what has no integer kernel.

    Arguments:
        content: of a float32 `.tflite` file, whose tensors are finite.

    Returns:
        The new file; None if there is nothing to rewrite.
    """
    graph = GraphEditor(content)
    found = [rewrite(graph) for rewrite in (_finite, _softmax, _products)]
    if not any(found):
        return None
    graph.remove_unread()
    return graph.content()


def _finite(graph) -> int:
    """`where(is_finite(x), x, 0)` is x: the test of a log-sum-exp.

    The converter writes is_finite(x) as `x - x == 0`.
    """
    count = 0
    for op in graph.graph.operators:
        if graph.kind(op) not in ("SELECT", "SELECT_V2"):
            continue
        condition, chosen, _ = op.inputs
        equal = graph.producer(condition)
        if graph.kind(equal) != "EQUAL":
            continue
        difference = graph.producer(equal.inputs[0])
        zero = graph.constant(equal.inputs[1])
        if (
            graph.kind(difference) == "SUB"
            and list(difference.inputs) == [chosen, chosen]
            and zero is not None
            and not zero.any()
            and op.outputs[0] not in graph.graph.outputs
        ):
            graph.redirect(op.outputs[0], chosen)
            count += 1
    return count


def _softmax(graph) -> int:
    """`exp(x - logsumexp(x))` over the last axes is a softmax over one.

    Keras writes a softmax over several axes, such as that of attention over rows and
    columns, in this way.
    """
    count = 0
    for op in list(graph.graph.operators):
        found = _log_softmax(graph, op)
        if found is None:
            continue
        logits, axes = found
        shape = graph.shape(logits)
        first = len(shape) - len(axes)
        if axes != tuple(range(first, len(shape))):
            continue
        flat = (int(np.prod(shape[:first])), int(np.prod(shape[first:])))
        name = graph.graph.tensors[op.outputs[0]].name.decode()
        rows = _reshape(graph, op, logits, flat, f"{name}/rows")
        shares = graph.new_tensor(flat, "float32", f"{name}/softmax")
        softmax = graph.insert_before(op, "SOFTMAX", [rows], [shares], "SoftmaxOptions")
        softmax.builtinOptions.beta = 1.0
        sizes = graph.new_constant(np.array(shape, "int32"), f"{name}/shape")
        graph.become(op, "RESHAPE", [shares, sizes], "ReshapeOptions")
        op.builtinOptions.newShape = np.array(shape, "int32")
        count += 1
    return count


def _log_softmax(graph, op):
    """(x, axes) if an operator is `exp(x - (log(sum(exp(x - m), axes)) + m))` with
    m = max(x, axes), else None."""

    def operand(of, kind, number=0) -> Any:
        return None if graph.kind(of) != kind else graph.producer(of.inputs[number])

    outer = operand(op, "EXP")
    total = operand(outer, "SUB", 1)
    logarithm = operand(total, "ADD")
    summed = operand(logarithm, "LOG")
    inner = operand(operand(summed, "SUM"), "EXP")
    if graph.kind(inner) != "SUB":
        return None
    largest = graph.producer(inner.inputs[1])
    if graph.kind(largest) != "REDUCE_MAX":
        return None
    logits, axes = outer.inputs[0], graph.constant(summed.inputs[1])
    same = (
        logits == inner.inputs[0] == largest.inputs[0]
        and total.inputs[1] == largest.outputs[0]
        and np.array_equal(axes, graph.constant(largest.inputs[1]))
    )
    if axes is None or not same:
        return None
    rank = len(graph.shape(logits))
    return logits, tuple(sorted(int(axis) % rank for axis in axes.ravel()))


def _reshape(graph, op, index, shape, name):
    """The index of a tensor in another shape, computed in front of an operator."""
    new = graph.new_tensor(shape, "float32", name)
    sizes = graph.new_constant(np.array(shape, "int32"), f"{name}/shape")
    reshape = graph.insert_before(
        op, "RESHAPE", [index, sizes], [new], "ReshapeOptions"
    )
    reshape.builtinOptions.newShape = np.array(shape, "int32")
    return new


def _products(graph) -> int:
    """-x is x times -1, and a square is x times x."""
    minus, count = None, 0
    for op in graph.graph.operators:
        kind = graph.kind(op)
        if kind not in ("NEG", "SQUARE") or not graph.is_float(op.outputs[0]):
            continue
        source = other = op.inputs[0]
        if kind == "NEG":
            if minus is None:
                minus = graph.new_constant(np.array(-1, "float32"), "minus_one")
            other = minus
        graph.become(op, "MUL", [source, other], "MulOptions")
        count += 1
    return count


def clip_masks(content, ranges) -> bytes:
    """The file with the constants that are added to attention scores raised to the
    lower ends of their ranges: a quantiser takes their scales from their values.

    Arguments:
        content: of a float32 `.tflite` file.
        ranges: {name of a tensor: (min, max)}, without the values of masked scores.
    """
    graph, changed = GraphEditor(content), False
    for index, tensor in enumerate(graph.graph.tensors):
        low, _ = ranges.get(tensor.name.decode(), (-np.inf, np.inf))
        values = graph.constant(index) if graph.is_float(index) else None
        if values is None or not values.size or values.min() >= low:
            continue
        if _reaches_softmax(graph, index):
            graph.make_constant(index, np.maximum(values, np.float32(low)))
            changed = True
    return graph.content() if changed else content


def _reaches_softmax(graph, index) -> bool:
    """Whether all that reads a tensor adds it to what a softmax takes."""
    readers = [(graph.kind(op), op.outputs[0]) for op in graph.readers(index)]
    return bool(readers) and all(
        kind == "SOFTMAX" or (kind in SCORES and _reaches_softmax(graph, output))
        for kind, output in readers
    )

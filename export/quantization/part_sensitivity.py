"""How much each part of a file loses in int8, without a file for each.

The float graph is run with one part's tensors rounded to their int8 grids: activations
by QUANTIZE and DEQUANTIZE, kernels beforehand. It is cut in front of the part, and
starts from what the float file computes there.
"""

import math
import pathlib
from collections.abc import Sequence

import numpy as np

from ..evaluation.interpreter import new_interpreter, open_with_outputs, threads
from ..evaluation.parity import least_sqnr
from ..flatbuffer.graph_editor import GraphEditor
from ..progress import stage
from .calibration import SAME_SCALE
from .mixed_precision import Part

IMAGES = 8  # for the order of parts: each gives all values of the output
VALUES = 2**28  # of tensors where parts begin, 1 GiB; fewer images if these are large
# Operators with a scale per output channel: operator -> (input, axis of channels).
KERNELS = {
    "CONV_2D": (1, 0),
    "DEPTHWISE_CONV_2D": (1, 3),
    "FULLY_CONNECTED": (1, 0),
    "TRANSPOSE_CONV": (1, 0),
}
# Output ranges that LiteRT's int8 kernels fix, 256 steps.
FIXED = {
    "LOGISTIC": (0.0, 255 / 256),
    "SOFTMAX": (0.0, 255 / 256),
    "TANH": (-1.0, 127 / 128),
}
KEEP_SCALE = (*SAME_SCALE, "REDUCE_MAX")  # their output is on their input's grid


def sensitivity(path, ranges, images, parts: Sequence[Part]) -> dict[str, float]:
    """Estimate the SQNR in dB with one part in int8 and the rest in float, of several
    outputs the least.

    Estimated, since float kernels run on rounded values. Not in it are the roundings
    inside an int8 kernel: of its biases, sums and multipliers.

    Arguments:
        path: the float32 `.tflite` file.
        ranges: of its tensors.
        images: (N, H, W, C); the first few are used.
        parts: of `find_parts`.
    """
    whole = GraphEditor(pathlib.Path(path).read_bytes())
    cuts = {part.name: _first(whole, part) for part in parts}
    needed = {index for cut in cuts.values() for index in _inputs_of(whole, cut)}
    (entry,) = whole.graph.inputs
    each = sum(math.prod(whole.shape(index)) for index in needed)
    images = images[: max(1, min(IMAGES, whole.shape(entry)[0] * VALUES // each))]
    runs = _run_float(path, whole, needed, images)
    found = {}
    for number, part in enumerate(parts, 1):
        stage(f"sensitivity of part {number} of {len(parts)}")
        found[part.name] = _measure(whole, part, cuts[part.name], ranges, runs)
    return found


def round_kernels(content) -> bytes:
    """Return a float file whose kernels have the values that int8 can hold."""
    graph = GraphEditor(content)
    for op in graph.graph.operators:
        _round_kernel(graph, op)
    graph.drop_unread_constants()
    return graph.content()


def _first(graph, part):
    """The place of a part's first operator in the graph."""
    names = {name for _, name in part.operators}
    return next(
        place
        for place, op in enumerate(graph.graph.operators)
        if _name(graph, op.outputs[0]) in names
    )


def _inputs_of(graph, cut):
    """The computed tensors that the operators from a place on read from before."""
    operators = graph.graph.operators
    before = {int(i) for op in operators[:cut] for i in op.outputs}
    before |= {int(i) for i in graph.graph.inputs}
    return sorted({int(i) for op in operators[cut:] for i in op.inputs} & before)


def _run_float(path, graph, needed, images):
    """Per run of the float file {tensor: values} of these tensors and its outputs."""
    (entry,) = graph.graph.inputs
    computed = sorted(needed - {int(entry)})
    interpreter, batch = open_with_outputs(path, computed), graph.shape(entry)[0]
    runs = []
    for number in range(math.ceil(len(images) / batch)):
        chunk = np.asarray(images[number * batch : (number + 1) * batch], "float32")
        chunk = np.resize(chunk, graph.shape(entry))
        interpreter.set_tensor(entry, chunk)
        interpreter.invoke()
        tensors = {*computed, *map(int, graph.graph.outputs)}
        values = {index: interpreter.get_tensor(index) for index in tensors}
        runs.append({**values, int(entry): chunk})
    return runs


def _measure(whole, part, cut, ranges, runs):
    """Run the graph from a place on with a part's tensors rounded."""
    graph, inputs = whole.copy(), _inputs_of(whole, cut)
    operators = graph.graph.operators
    names = {name for _, name in part.operators}
    rounded = [op for op in operators if _name(graph, op.outputs[0]) in names]
    made = {int(index) for op in operators[cut:] for index in op.outputs}
    outputs = [int(i) for i in graph.graph.outputs if int(i) in made]
    graph.graph.operators = operators[cut:]
    graph.graph.inputs, graph.graph.outputs = inputs, outputs
    graph.model.signatureDefs = []
    on_grid: dict[int, int] = {}
    for op in rounded:
        _round_kernel(graph, op)
        _round_inputs(graph, op, ranges, on_grid)
        _round_output(graph, op, ranges, on_grid)
    graph.remove_unread()
    graph.drop_unread_constants()
    interpreter = new_interpreter(None, graph.content(), num_threads=threads())
    entries = [end["index"] for end in interpreter.get_input_details()]
    ends = [end["index"] for end in interpreter.get_output_details()]
    found = []
    for run in runs:
        for entry, index in zip(entries, inputs, strict=True):
            interpreter.set_tensor(entry, run[index])
        interpreter.invoke()
        found.append([interpreter.get_tensor(end) for end in ends])
    reference = [[run[index] for index in outputs] for run in runs]
    return least_sqnr(_by_place(reference), _by_place(found))


def _by_place(runs):
    """{place: values of all runs} of outputs."""
    joined = (np.concatenate(values) for values in zip(*runs, strict=True))
    return {str(place): values for place, values in enumerate(joined)}


def _round_kernel(graph, op):
    """Round an operator's kernel, with a scale per channel."""
    place, axis = KERNELS.get(graph.kind(op), (None, None))
    if place is None or not graph.is_float(op.inputs[place]):
        return
    values = graph.constant(op.inputs[place])
    if values is None:  # computed: an activation
        return
    others = tuple(other for other in range(values.ndim) if other != axis)
    peaks = np.abs(values).max(others, keepdims=True)
    scale = np.where(peaks, peaks, 1) / 127
    rounded = np.round(values / scale) * scale
    graph.make_constant(op.inputs[place], rounded.astype("float32"))


def _round_inputs(graph, op, ranges, on_grid):
    """Have an operator read its other inputs rounded, with one scale each."""
    inputs = [int(index) for index in op.inputs]
    for place, index in enumerate(inputs):
        # Kernels have scales of their own, and biases are of 32 bits.
        own = graph.kind(op) in KERNELS and graph.is_constant(index)
        if own or not graph.is_float(index) or _name(graph, index) not in ranges:
            continue
        if index not in on_grid:
            limits = ranges[_name(graph, index)]
            on_grid[index] = _rounded(graph, index, limits, op)
        inputs[place] = on_grid[index]
    op.inputs = inputs


def _round_output(graph, op, ranges, on_grid):
    """Round an operator's output for all that read it."""
    kind, output = graph.kind(op), int(op.outputs[0])
    limits = FIXED.get(kind, ranges.get(_name(graph, output)))
    on_grid[output] = output
    if kind in KEEP_SCALE or limits is None or not graph.is_float(output):
        return
    operators = graph.graph.operators
    following = next(iter(operators[operators.index(op) + 1 :]), None)
    exact = graph.new_tensor(graph.shape(output), "float32", "exact")
    op.outputs = [exact]
    _rounded(graph, exact, limits, following, output)


def _rounded(graph, index, limits, before, output=None):
    """A float tensor that has gone through int8, in front of an operator."""
    shape = graph.shape(index)
    output = graph.new_tensor(shape, "float32", "float") if output is None else output
    integers = graph.new_tensor(shape, "int8", "integers")
    graph.set_scale(integers, *_scale(*limits))
    graph.insert_before(before, "QUANTIZE", [index], [integers])
    graph.insert_before(before, "DEQUANTIZE", [integers], [output])
    return output


def _scale(low, high):
    """Scale and zero point of a range, which is widened to have zero in it."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    return scale, round(-128 - low / scale)


def _name(graph, index):
    return graph.graph.tensors[index].name.decode()

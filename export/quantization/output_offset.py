"""Outputs that lie far from zero, as those of a regression: 290 to 300.

The range of integers includes zero, so that int8 would have a handful of steps for
them. The offset therefore stays outside: the integers compute what is left without it,
and one addition in float at the end of the file puts it back.
"""

import dataclasses

import numpy as np

from ..flatbuffer.graph_editor import GraphEditor
from ..plan import ExportPlan, OpOverride
from .post_training import output_pattern

FAR = 8  # offset, in half ranges of the outputs: 4.5 of 255 steps would be left of 40
HEADROOM = 2  # of the range, which no longer has the room that zero gave it
MOVES = ("RESHAPE", "TRANSPOSE")  # leave each value as it is
# Operators whose constant is added to the output, and which of their inputs that is.
BIASES = {"FULLY_CONNECTED": (2,), "CONV_2D": (2,), "ADD": (1, 0)}


@dataclasses.dataclass(frozen=True)
class OffsetSplit:
    """Attributes:
    ranges: of the tensors of the file as it is now.
    output_dtypes: {name of an output: dtype} that the file must have.
    overrides: that keep the additions in float; none if there are none.
    notes: for the report.
    """

    ranges: dict[str, tuple[float, float]]
    output_dtypes: dict[str, str]
    overrides: tuple[OpOverride, ...] = ()
    notes: tuple[str, ...] = ()


def keep_offset(path, ranges, plan: ExportPlan) -> OffsetSplit:
    """Keep the offset of far outputs outside the integers, where the plan allows it.

    Arguments:
        path: of the float32 `.tflite` file, which is changed in place.
        ranges: {name of a tensor: (min, max)}.
        plan: of the file.
    """
    graph = GraphEditor(path.read_bytes())
    names = graph.output_names
    split = OffsetSplit(ranges, {name: plan.dtype_of(name) for name in names})
    if not plan.int8_scores:  # where matrix products give floats, so does the last
        for place, name in enumerate(names):
            split = _keep_one(graph, split, place, name, plan)
    if split.overrides:
        path.write_bytes(graph.content())
    return split


def _keep_one(graph, split, place, name, plan) -> OffsetSplit:
    """Keep the offset of one output outside, if it is far from zero."""
    tensor = graph.graph.tensors[graph.graph.outputs[place]].name.decode()
    low, high = split.ranges.get(tensor, (0.0, 0.0))
    offset, half = (low + high) / 2, (high - low) / 2
    if not 0 < FAR * half < abs(offset):
        return split
    which = (
        "the outputs" if len(split.output_dtypes) == 1 else f"the values of {name!r}"
    )
    values = f"{which} lie between {low:.4g} and {high:.4g}"
    if plan.may_end_in_float(name):
        found = _split(graph, split.ranges, offset, graph.graph.outputs[place])
        if found is not None:
            note = f"{values}: their offset is added in float, so the output is float32"
            return OffsetSplit(
                found[0],
                split.output_dtypes | {name: "float32"},
                (*split.overrides, *found[1]),
                (*split.notes, note),
            )
    note = (
        f"{values}, for which int8 has {255 * 2 * half / max(abs(low), abs(high)):.0f} "
        "steps: with output_dtype='float32', but for targets of integers only, their "
        "offset is added in float; or let the model give the difference from it"
    )
    return dataclasses.replace(split, notes=(*split.notes, note))


def _split(graph, ranges, offset, output):
    """Take the offset out of the last bias, and add it at the end.

    Returns:
        The ranges of the new file, and what keeps the addition in float; None if the
        file does not end in an operator with a bias, or reads the output, too.
    """
    tensors, moved, op = graph.graph.tensors, [], graph.producer(output)
    if graph.readers(output):
        return None
    while graph.kind(op) in MOVES and len(graph.readers(op.inputs[0])) == 1:
        moved.append(op.inputs[0])
        op = graph.producer(op.inputs[0])
    place = _bias(graph, op)
    if place is None:
        return None
    name = tensors[output].name.decode()
    bias = graph.constant(op.inputs[place])
    op.inputs = list(op.inputs)
    less = bias - np.float32(offset)
    op.inputs[place] = graph.new_constant(less, f"{name}/bias")
    rest = graph.new_tensor(graph.shape(output), "float32", f"{name}/without_offset")
    graph.producer(output).outputs = [rest]
    constant = graph.new_constant(np.array(offset, "float32"), f"{name}/offset")
    graph.insert_before(None, "ADD", [rest, constant], [output], "AddOptions")
    low, high = (HEADROOM * (value - offset) for value in ranges[name])
    ranges = ranges | {
        tensors[index].name.decode(): (low, high) for index in (rest, *moved)
    }
    in_float = OpOverride("ADD", output_pattern(name), activations="float32")
    return ranges, (in_float,)


def _bias(graph, op) -> int | None:
    """Which input of an operator is a constant that is added to its output."""
    for place in BIASES.get(graph.kind(op), ()):
        fused = op.builtinOptions.fusedActivationFunction
        known = len(op.inputs) > place and op.inputs[place] >= 0
        if known and not fused and graph.constant(op.inputs[place]) is not None:
            return place
    return None

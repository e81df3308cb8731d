"""Conversion of a traced function to a float `.tflite` file."""

import pathlib

from ..errors import UnsupportedOperators
from ..evaluation.check import STATEFUL
from ..flatbuffer.graph_editor import GraphEditor
from ..flatbuffer.operators import read_operators
from ..graph.float_file import float_file
from ..plan import ExportPlan

MAX_BYTES = 2**31  # flatbuffer offsets are signed 32-bit


def check_size(model, plan: ExportPlan):
    """Refuse a model too large for a `.tflite` file, before any work is done.

    Raises:
        ValueError: too many weights.
    """
    dtype = plan.float_weights
    size = model.count_params() * (2 if dtype == "float16" else 4)
    if size >= MAX_BYTES:
        raise ValueError(
            "`model` must fit into a flatbuffer, which holds less than 2.1 GB. "
            f"Received: {model.count_params():,} weights, {size / 1e9:.1f} GB in the "
            f"{dtype} file that scheme={plan.scheme!r} starts from. "
            "`export.to_saved_model` has no such limit"
        )


def convert(function, model, path, plan: ExportPlan, names=None):
    """Trace a function with a fixed batch and convert it to a float `.tflite` file.

    Arguments:
        function: from float32 pixels to the output, or to {name: output}, of a `Graph`.
        model: gives the input shape.
        path: of the file to write.
        plan: gives batch, weight dtype and input dtype.
        names: of the outputs, in the order that they shall have; None for one.

    Raises:
        UnsupportedOperators: some operators are not builtin, or keep state.
    """
    # A quantised input is exactly uint8 only if the float graph starts in float.
    dtype = "float32" if plan.calibrated else str(plan.input_dtype)
    shape = (plan.batch, *model.input_shape[1:])
    content = float_file(function, shape, dtype, plan.float_weights == "float16")
    if names is not None:
        graph = GraphEditor(content)
        graph.order_outputs(names)
        content = graph.content()
    pathlib.Path(path).write_bytes(content)
    stateful = {op.name for op in read_operators(path)} & set(STATEFUL)
    if stateful:
        raise UnsupportedOperators(
            f"the model must not keep state, but has {', '.join(sorted(stateful))}"
        )

"""Conversion of a traced function to a float `.tflite` file."""

import pathlib
import re
import tempfile

from ..backend import quietly
from ..errors import UnsupportedOperators
from ..evaluation.check import STATEFUL
from ..flatbuffer.operators import read_operators
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


def convert(function, model, path, plan: ExportPlan):
    """Trace a function with a fixed batch and convert it to a float `.tflite` file.

    Arguments:
        function: from float32 pixels to the output, of a `Graph`.
        model: gives the input shape.
        path: of the file to write.
        plan: gives batch, weight dtype and input dtype.

    Raises:
        UnsupportedOperators: some operators are not builtin, or keep state.
    """
    import keras
    import tensorflow as tf

    def serve(images):
        return {"output": function(tf.cast(images, "float32"))}

    # A quantised input is exactly uint8 only if the float graph starts in float.
    dtype = "float32" if plan.calibrated else plan.input_dtype
    shape = (plan.batch, *model.input_shape[1:])
    spec = tf.TensorSpec(shape, tf.as_dtype(dtype), name="images")
    # An unknown batch would leave shape arithmetic in the file that delegates refuse.
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serve", serve, input_signature=[spec])
    with tempfile.TemporaryDirectory() as folder:
        quietly(archive.write_out, folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if plan.float_weights == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            content = quietly(converter.convert)
        except Exception as error:  # ConverterError is private, a bare Exception
            unsupported = set(re.findall(r"'tf\.(\w+)' op is neither", str(error)))
            if not unsupported:
                raise
            raise UnsupportedOperators(
                "the model needs operators that are not builtin in TFLite: "
                f"{', '.join(sorted(unsupported))}"
            ) from error
    pathlib.Path(path).write_bytes(content)
    stateful = {op.name for op in read_operators(path)} & set(STATEFUL)
    if stateful:
        raise UnsupportedOperators(
            f"the model must not keep state, but has {', '.join(sorted(stateful))}"
        )

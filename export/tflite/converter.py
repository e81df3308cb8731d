"""From a function to a float `.tflite` file."""

import pathlib
import re
import tempfile

from .. import backend
from ..errors import UnsupportedOperators
from ..evaluation import check


def convert(function, model, path, scheme, batch, input_dtype):
    """Trace with a fixed batch and convert to a float `.tflite` file.

    Arguments:
        function: from float32 pixels to the output, of a `Graph`.
        model: whose input shape the file has.
        path: of the file.
        scheme: "float16" stores the weights so; all others float32.
        batch: number of images per run.
        input_dtype: of the file.

    Raises:
        UnsupportedOperators: some are not builtin, or keep state.
    """
    import keras
    import tensorflow as tf

    def serve(images):
        return {"output": function(tf.cast(images, "float32"))}

    shape = (batch, *model.input_shape[1:])
    spec = tf.TensorSpec(shape, tf.as_dtype(input_dtype), name="images")
    # An unknown batch would leave shape arithmetic in the file that delegates refuse.
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serve", serve, input_signature=[spec])
    with tempfile.TemporaryDirectory() as folder:
        backend.quietly(archive.write_out, folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if scheme == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            content = backend.quietly(converter.convert)
        except Exception as error:  # ConverterError is private, a bare Exception
            refused = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
            if not refused:
                raise
            raise UnsupportedOperators(
                "the model needs operators that are not builtin in TFLite: "
                f"{', '.join(refused)}"
            ) from error
    pathlib.Path(path).write_bytes(content)
    leftover = {op.name for op in check.operators(path)} & set(check.STATEFUL)
    if leftover:
        raise UnsupportedOperators(
            f"the file keeps state: {', '.join(sorted(leftover))}"
        )

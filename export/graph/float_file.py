"""A function as a float `.tflite` file, by TensorFlow's converter."""

import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import UnsupportedOperators
from ..progress import quietly


def float_file(
    function: Callable[[Any], Any],
    shape: Sequence[int],
    dtype: str = "float32",
    float16: bool = False,
) -> bytes:
    """Trace a function with a fixed batch and convert it.

    Arguments:
        function: from float32 images to the output, or to {name: output}.
        shape: (N, H, W, C) of the input.
        dtype: of the input.
        float16: store the weights in half precision.

    Returns:
        The file.

    Raises:
        UnsupportedOperators: some operators are not builtin.
    """
    import tensorflow as tf

    def serve(images):
        found = function(tf.cast(images, "float32"))
        return found if isinstance(found, dict) else {"output": found}

    # An unknown batch would leave shape arithmetic in the file that delegates refuse.
    spec = tf.TensorSpec(tuple(shape), tf.as_dtype(dtype), name="images")
    traced = tf.function(serve, input_signature=[spec], autograph=False)
    traced = traced.get_concrete_function()
    # Of one signature: Keras' archives have two, each traced and loaded again.
    module = tf.Module()
    module.captured = list(traced.graph.variables)
    with tempfile.TemporaryDirectory() as folder:
        signatures = {"serving_default": traced}
        quietly(tf.saved_model.save, module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if float16:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            return quietly(converter.convert)
        except Exception as error:  # ConverterError is private, a bare Exception
            unsupported = set(re.findall(r"'tf\.(\w+)' op is neither", str(error)))
            if not unsupported:
                raise
            raise UnsupportedOperators(
                "the model needs operators that are not builtin in TFLite: "
                f"{', '.join(sorted(unsupported))}"
            ) from error

"""Requests that TF Serving answers for itself before clients may ask.

The first run of each batch size plans memory and compiles kernels, which takes seconds.
"""

import pathlib
from typing import Any

from ..errors import missing
from .serving import EXAMPLE_KEY, SIGNATURES

FILE = "assets.extra/tf_serving_warmup_requests"
MOST = 1000  # records, more and the server does not load the model


def write_warmup(path, model_name, names, batch_sizes, server):
    """Write the file into a SavedModel directory: one record for each signature and
    batch size.

    Arguments:
        path: the directory.
        model_name: under which it is served.
        names: of its signatures.
        batch_sizes: integers >= 1.
        server: a `serving.Server`.

    Raises:
        ValueError: a batch size is no such number, or there are too many.
        MissingDependency: tensorflow-serving-api is not installed.
    """
    sizes = sorted(set(batch_sizes))
    if any(not isinstance(size, int) or size < 1 for size in sizes):
        raise ValueError(f"`warmup` must be integers >= 1. Received: {batch_sizes}")
    if len(sizes) * len(names) > MOST:
        raise ValueError(f"`warmup` must make at most {MOST} requests")
    import tensorflow as tf

    try:
        from tensorflow_serving.apis import prediction_log_pb2 as logs
    except ImportError as error:
        raise missing("tensorflow-serving-api", "serving") from error
    new: Any = getattr(logs, "PredictionLog")  # noqa: B009 (made at import)
    grey = tf.fill((*server.shape[:2], 3), tf.constant(128, tf.uint8))
    image = tf.io.encode_jpeg(grey).numpy()
    file = pathlib.Path(path) / FILE
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for name in names:
            for size in sizes:
                log = new()
                if name == "classify":
                    request = log.classify_log.request
                    for _ in range(size):
                        example = request.input.example_list.examples.add()
                        feature = example.features.feature[EXAMPLE_KEY]
                        feature.bytes_list.value.append(image)
                else:
                    request = log.predict_log.request
                    entry = request.inputs[SIGNATURES[name].input]
                    if SIGNATURES[name].encoded:
                        value = tf.make_tensor_proto([image] * size)
                    else:  # one number stands for all pixels
                        dtype = tf.as_dtype(server.dtype)
                        value = tf.make_tensor_proto(0, dtype, (size, *server.shape))
                    entry.CopyFrom(value)
                request.model_spec.name = model_name
                request.model_spec.signature_name = name
                writer.write(log.SerializeToString())

"""Warm-up requests, which TF Serving runs before it accepts requests.

The first run of each batch size plans memory and compiles kernels, which takes seconds.
"""

import pathlib

from ..evaluation.tools.serving_requests import EXAMPLE_KEY, WARMUP, new_log
from .signatures import SIGNATURES

MOST = 1000  # records; with more the server does not load the model


def check_batch_sizes(sizes) -> tuple[int, ...]:
    """Return the batch sizes sorted and without duplicates.

    Raises:
        ValueError: a size is no integer >= 1, or there would be too many requests.
        MissingDependency: tensorflow-serving-api is not installed.
    """
    sizes = tuple(sizes)
    if sizes:
        new_log()
    if any(not isinstance(size, int) or size < 1 for size in sizes):
        raise ValueError(f"`warmup` must be integers >= 1. Received: {sizes}")
    if len(set(sizes)) > MOST // len(SIGNATURES):
        raise ValueError(
            f"`warmup` must have at most {MOST // len(SIGNATURES)} sizes. "
            f"Received: {len(set(sizes))}"
        )
    return tuple(sorted(set(sizes)))


def write_warmup(path, model_name, names, sizes, server):
    """Write the warm-up file of a SavedModel directory: one record for each signature
    and batch size.

    Arguments:
        path: the directory.
        model_name: name under which it is served.
        names: of its signatures.
        sizes: from `check_batch_sizes`.
        server: a `signatures.Server`.
    """
    import tensorflow as tf

    grey = tf.fill((*server.shape[:2], 3), tf.constant(128, tf.uint8))
    image = tf.io.encode_jpeg(grey).numpy()
    file = pathlib.Path(path) / WARMUP
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for name in names:
            for size in sizes:
                log = new_log()
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
                    else:  # one number is broadcast to all pixels
                        dtype = tf.as_dtype(server.dtype)
                        value = tf.make_tensor_proto(0, dtype, (size, *server.shape))
                    entry.CopyFrom(value)
                request.model_spec.name = model_name
                request.model_spec.signature_name = name
                writer.write(log.SerializeToString())

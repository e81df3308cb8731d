"""Requests to TF Serving: examples of its classification API, and records of a warm-up
file."""

from typing import Any

import numpy as np

from ...errors import missing

EXAMPLE_KEY = "image/encoded"  # feature of a tf.Example, as in ImageNet's TFRecords
WARMUP = "assets.extra/tf_serving_warmup_requests"


def example(image, tf):
    """Return an encoded image as a serialised tf.Example."""
    made = tf.train.Example()
    made.features.feature[EXAMPLE_KEY].bytes_list.value.append(image)
    return made.SerializeToString()


def new_log():
    """Return an empty `PredictionLog`, a record of a warm-up file.

    Raises:
        MissingDependency: tensorflow-serving-api is not installed.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2 as logs
    except ImportError as error:
        raise missing("tensorflow-serving-api", "serving") from error
    kind: Any = getattr(logs, "PredictionLog")  # noqa: B009 (made at import)
    return kind()


def records(file, tf):
    """Yield (signature, input's name, value) of each record of a warm-up file.

    Arguments:
        file: a TFRecord of `PredictionLog`.
        tf: TensorFlow.

    Raises:
        MissingDependency: tensorflow-serving-api is not installed.
    """
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        log = new_log()
        log.ParseFromString(record)
        if log.WhichOneof("log_type") == "classify_log":
            request = log.classify_log.request
            examples = request.input.example_list.examples
            value = np.array([e.SerializeToString() for e in examples], object)
            yield request.model_spec.signature_name, "inputs", value
        else:
            request = log.predict_log.request
            for key, proto in request.inputs.items():
                yield request.model_spec.signature_name, key, tf.make_ndarray(proto)

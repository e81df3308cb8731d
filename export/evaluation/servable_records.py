"""The requests in a warm-up file of TF Serving."""

from typing import Any

import numpy as np

from ..errors import missing


def records(file, tf):
    """(signature, input's name, value) of each record.

    Arguments:
        file: a TFRecord of `PredictionLog`.
        tf: TensorFlow.

    Raises:
        MissingDependency: tensorflow-serving-api is not installed.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2 as logs
    except ImportError as error:
        raise missing("tensorflow-serving-api", "serving") from error
    new: Any = getattr(logs, "PredictionLog")  # noqa: B009 (made at import)
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        log = new.FromString(record)
        if log.WhichOneof("log_type") == "classify_log":
            request = log.classify_log.request
            examples = request.input.example_list.examples
            value = np.array([e.SerializeToString() for e in examples], object)
            yield request.model_spec.signature_name, "inputs", value
        else:
            request = log.predict_log.request
            for key, proto in request.inputs.items():
                yield request.model_spec.signature_name, key, tf.make_ndarray(proto)

"""From a trained Keras model to a proven artefact for a phone, browser, NPU or server.

    export.to_tflite(model, "m.tflite", scheme="int8", calibration=images)
    export.verify(model, "m.tflite", images)

Importing this package loads neither Keras nor TensorFlow; the functions do.
"""

from .compression import cluster as cluster
from .compression import prune as prune
from .compression import shrink as shrink
from .compression.keras2.twin import from_tf_keras as from_tf_keras
from .compression.keras2.twin import to_tf_keras as to_tf_keras
from .errors import MissingDependency as MissingDependency
from .errors import ParityError as ParityError
from .errors import UnsupportedOperators as UnsupportedOperators
from .evaluation.benchmark import benchmark as benchmark
from .evaluation.check import check as check
from .evaluation.comparison import compare as compare
from .evaluation.runners import load as load
from .evaluation.verify import verify as verify
from .flatbuffer.metadata import read_metadata as read_metadata
from .quantization.aware import open_quantized as open_quantized
from .quantization.aware import quantize_aware as quantize_aware
from .schemes import SCHEMES as SCHEMES
from .serving.saved_model import to_saved_model as to_saved_model
from .targets import TARGETS as TARGETS
from .tflite.layer_errors import verify_layers as verify_layers
from .tflite.writer import to_tflite as to_tflite

__all__ = [
    "MissingDependency",
    "ParityError",
    "SCHEMES",
    "TARGETS",
    "UnsupportedOperators",
    "benchmark",
    "check",
    "cluster",
    "compare",
    "from_tf_keras",
    "load",
    "open_quantized",
    "prune",
    "quantize_aware",
    "read_metadata",
    "shrink",
    "to_saved_model",
    "to_tf_keras",
    "to_tflite",
    "verify",
    "verify_layers",
]

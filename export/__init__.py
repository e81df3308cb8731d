"""From a trained Keras model to a proven artefact for a phone, browser, NPU or server.

    export.to_tflite(model, "m.tflite", scheme="int8", calibration=images)
    export.verify(model, "m.tflite", images)

Importing this package loads neither Keras nor TensorFlow; the functions do.
"""

from .errors import MissingDependency as MissingDependency
from .errors import ParityError as ParityError
from .errors import UnsupportedOperators as UnsupportedOperators
from .evaluation.benchmark import benchmark as benchmark
from .evaluation.canary import compare as compare
from .evaluation.check import check as check
from .evaluation.model_metadata import read_metadata as read_metadata
from .evaluation.runners import load as load
from .evaluation.verify import verify as verify
from .formats.diagnosis import verify_layers as verify_layers
from .formats.saved_model import to_saved_model as to_saved_model
from .formats.tflite import to_tflite as to_tflite
from .quantization.aware import open_quantized as open_quantized
from .quantization.aware import quantize_aware as quantize_aware
from .quantization.compression import cluster as cluster
from .quantization.compression import prune as prune
from .quantization.compression import shrink as shrink
from .quantization.tf_keras_twin import from_tf_keras as from_tf_keras
from .quantization.tf_keras_twin import to_tf_keras as to_tf_keras
from .schemes import SCHEMES as SCHEMES
from .targets import TARGETS as TARGETS

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

"""TensorFlow Model Optimization's quantizers on plain tensors.

They are made for variables of Keras 2, start from the range -6..6 and move it by a
thousandth per step. Given a range and `training=False`, they only quantise.
"""

import functools

from ...backend import keras_3_environment


@functools.cache
def range_quantizer():
    """Return a function of (x, low, high) for activations: 8 bits, zero on the grid."""
    return _with_range(_library().MovingAverageQuantizer(8, False, False, False))


@functools.cache
def kernel_quantizer(bits: int):
    """Return a function of (kernel (I, O), low (O,), high (O,)): symmetric,
    `2^bits - 1` values per channel."""
    return _with_range(_library().LastValueQuantizer(bits, True, True, True))


def _with_range(quantizer):
    def quantized(x, low, high):
        return quantizer(x, False, {"min_var": low, "max_var": high})

    return quantized


def _library():
    with keras_3_environment():
        import tensorflow_model_optimization as tfmot
    return tfmot.quantization.keras.quantizers

"""What the operators of a float `.tflite` file compute, in TensorFlow.

A kernel takes a `Call` and the values of the operator's inputs, None for those that are
left out, and gives the value of its output, or a list of several.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from .shape_kernels import SHAPE_KERNELS


@dataclasses.dataclass(frozen=True)
class Call:
    """One operator as a kernel sees it.

    Attributes:
        options: of the operator, as the flatbuffer has them.
        input_shapes: of the tensors in the file.
        shapes: of the outputs; with `batched` their first axis is -1.
        dtype: of what the file calls float32.
        types: of the outputs in the file.
        batched: whether there may be more images than in the file.
    """

    options: Any
    input_shapes: tuple[tuple[int, ...], ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    types: tuple[str, ...]
    batched: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the only output."""
        return self.shapes[0]

    @property
    def padding(self) -> str:
        """Of a convolution or pooling."""
        return "SAME" if self.options.padding == 0 else "VALID"

    @property
    def strides(self) -> tuple[int, int]:
        """Of a convolution or pooling: height, width."""
        return self.options.strideH, self.options.strideW


def _convolution(call, x, kernel, bias=None):
    o = call.options
    kernel = tf.transpose(kernel, (1, 2, 3, 0))
    dilations = (o.dilationHFactor, o.dilationWFactor)
    y = tf.nn.conv2d(x, kernel, call.strides, call.padding, dilations=dilations)
    return y if bias is None else y + bias


def _depthwise_convolution(call, x, kernel, bias=None):
    o = call.options
    kernel = tf.reshape(kernel, (*kernel.shape[1:3], x.shape[-1], -1))
    dilations = (o.dilationHFactor, o.dilationWFactor)
    strides = (1, *call.strides, 1)
    y = tf.nn.depthwise_conv2d(x, kernel, strides, call.padding, dilations=dilations)
    return y if bias is None else y + bias


def _fully_connected(call, x, kernel, bias=None):
    y = tf.matmul(tf.reshape(x, (-1, kernel.shape[1])), kernel, transpose_b=True)
    return tf.reshape(y if bias is None else y + bias, call.shape)


def _matmul(call, x, y):
    o = call.options
    return tf.matmul(x, y, transpose_a=o.adjX, transpose_b=o.adjY)


def _pool(kind):
    def kernel(call, x):
        window = (call.options.filterHeight, call.options.filterWidth)
        return tf.nn.pool(x, window, kind, call.strides, call.padding)

    return kernel


def _reduction(function):
    def kernel(call, x, axes):
        axes = tuple(np.ravel(axes).tolist())
        return function(x, axis=axes, keepdims=call.options.keepDims)

    return kernel


def _resize(method):
    def kernel(call, x, size):
        o = call.options
        y = method(
            images=x,
            size=size,
            align_corners=o.alignCorners,
            half_pixel_centers=o.halfPixelCenters,
        )
        return tf.cast(y, x.dtype)

    return kernel


def _cast(call, x):
    kind = call.types[0]
    return tf.cast(x, call.dtype if kind == "float32" else kind)


def _elementwise(function):
    return lambda call, *values: function(*values)


def _leaky_relu(call, x):
    return tf.nn.leaky_relu(x, call.options.alpha)


def _softmax(call, x):
    return tf.nn.softmax(x * tf.cast(call.options.beta, x.dtype))


def _gelu(call, x):
    return tf.nn.gelu(x, call.options.approximate)


def _of_pairs():
    """{name: function of two tensors}."""
    return {
        "ADD": lambda x, y: x + y,
        "SUB": lambda x, y: x - y,
        "MUL": lambda x, y: x * y,
        "DIV": lambda x, y: x / y,
        "FLOOR_DIV": lambda x, y: x // y,
        "SQUARED_DIFFERENCE": lambda x, y: (x - y) * (x - y),
        "POW": tf.pow,
        "MAXIMUM": tf.maximum,
        "MINIMUM": tf.minimum,
        "EQUAL": tf.equal,
        "NOT_EQUAL": tf.not_equal,
        "GREATER": tf.greater,
        "GREATER_EQUAL": tf.greater_equal,
        "LESS": tf.less,
        "LESS_EQUAL": tf.less_equal,
        "LOGICAL_AND": tf.logical_and,
        "LOGICAL_OR": tf.logical_or,
    }


def _of_one():
    """{name: function of one tensor}."""
    return {
        "NEG": tf.negative,
        "ABS": tf.abs,
        "SQUARE": lambda x: x * x,
        "SQRT": tf.sqrt,
        "RSQRT": tf.math.rsqrt,
        "EXP": tf.exp,
        "LOG": tf.math.log,
        "SIN": tf.sin,
        "COS": tf.cos,
        "ERF": tf.math.erf,
        "FlexErf": tf.math.erf,
        "LOGISTIC": tf.sigmoid,
        "TANH": tf.tanh,
        "ELU": tf.nn.elu,
        "RELU": tf.nn.relu,
        "RELU6": tf.nn.relu6,
        "RELU_N1_TO_1": lambda x: tf.clip_by_value(x, -1.0, 1.0),
        "HARD_SWISH": lambda x: x * tf.nn.relu6(x + 3) / 6,
        "LOGICAL_NOT": tf.logical_not,
        "DEQUANTIZE": lambda x: tf.cast(x, "float32"),
    }


REDUCTIONS = {
    "MEAN": tf.reduce_mean,
    "SUM": tf.reduce_sum,
    "REDUCE_MAX": tf.reduce_max,
    "REDUCE_MIN": tf.reduce_min,
    "REDUCE_PROD": tf.reduce_prod,
    "REDUCE_ANY": tf.reduce_any,
    "REDUCE_ALL": tf.reduce_all,
}

KERNELS = {
    **SHAPE_KERNELS,
    **{name: _reduction(function) for name, function in REDUCTIONS.items()},
    **{name: _elementwise(f) for name, f in (_of_one() | _of_pairs()).items()},
    "ADD_N": lambda call, *values: tf.add_n(values),
    "SELECT": lambda call, where, x, y: tf.where(where, x, y),
    "SELECT_V2": lambda call, where, x, y: tf.where(where, x, y),
    "CAST": _cast,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise_convolution,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matmul,
    "AVERAGE_POOL_2D": _pool("AVG"),
    "MAX_POOL_2D": _pool("MAX"),
    "RESIZE_BILINEAR": _resize(tf.raw_ops.ResizeBilinear),
    "RESIZE_NEAREST_NEIGHBOR": _resize(tf.raw_ops.ResizeNearestNeighbor),
    "LEAKY_RELU": _leaky_relu,
    "SOFTMAX": _softmax,
    "GELU": _gelu,
}

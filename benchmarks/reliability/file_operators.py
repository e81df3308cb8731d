"""What the operators of a `.tflite` file compute, in NumPy and float64.

From the operators' definition, not from any kernel: real numbers in, real numbers out.
A function takes an `Op`, the shapes of its outputs and the values of its inputs (None
for one that is left out), and gives a list of outputs.
"""

import math

import numpy as np

ERF = np.vectorize(math.erf, otypes=["float64"])


def fused(name, x):
    """The activation within an operator."""
    return {
        "NONE": lambda: x,
        "RELU": lambda: np.maximum(x, 0),
        "RELU6": lambda: np.clip(x, 0, 6),
        "RELU_N1_TO_1": lambda: np.clip(x, -1, 1),
        "TANH": lambda: np.tanh(x),
    }[name]()


def _windows(o, x, size, dilation=(1, 1), pad=0.0):
    """(N, h, w, kh, kw, C): what a window of `size` sees at each of its places."""
    stride = o.strideH, o.strideW
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    if o.padding == 0:  # SAME
        before = []
        for n, r, s in zip(x.shape[1:3], reach, stride, strict=True):
            total = max((-(-n // s) - 1) * s + r - n, 0)
            before.append((total // 2, total - total // 2))
        x = np.pad(x, ((0, 0), *before, (0, 0)), constant_values=pad)
    view = np.lib.stride_tricks.sliding_window_view(x, reach, (1, 2))
    view = view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
    return np.moveaxis(view, 3, -1)


def _dilation(o):
    return o.dilationHFactor, o.dilationWFactor


def _convolution(op, shapes, x, kernel, bias=None):
    windows = _windows(op.options, x, kernel.shape[1:3], _dilation(op.options))
    y = np.tensordot(windows, kernel, ((3, 4, 5), (1, 2, 3)))
    return [y if bias is None else y + bias]


def _depthwise(op, shapes, x, kernel, bias=None):
    windows = _windows(op.options, x, kernel.shape[1:3], _dilation(op.options))
    kernel = kernel.reshape(*kernel.shape[1:3], x.shape[-1], -1)
    y = np.einsum("nhwklc,klcm->nhwcm", windows, kernel)
    y = y.reshape(*y.shape[:3], -1)
    return [y if bias is None else y + bias]


def _transposed_convolution(op, shapes, size, kernel, x, bias=None):
    """Each value of `x` adds the kernel, times itself, to a window of the output."""
    o, (rows, columns) = op.options, kernel.shape[1:3]
    number, high, wide, channels = shapes[0]
    full = [
        (n - 1) * s + k
        for n, s, k in zip(
            x.shape[1:3], (o.strideH, o.strideW), (rows, columns), strict=True
        )
    ]
    y = np.zeros((number, max(full[0], high), max(full[1], wide), channels))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            part = np.einsum("nc,oklc->nklo", x[:, i, j], kernel)
            a, b = i * o.strideH, j * o.strideW
            y[:, a : a + rows, b : b + columns] += part
    top, left = ((max(f - n, 0)) // 2 for f, n in zip(full, (high, wide), strict=True))
    y = y[:, top : top + high, left : left + wide]
    return [y if bias is None else y + bias]


def _fully_connected(op, shapes, x, kernel, bias=None):
    y = x.reshape(-1, kernel.shape[-1]) @ kernel.T
    return [(y if bias is None else y + bias).reshape(shapes[0])]


def _matmul(op, shapes, x, y):
    x = np.swapaxes(x, -1, -2) if op.options.adjX else x
    return [x @ (np.swapaxes(y, -1, -2) if op.options.adjY else y)]


def _average(op, shapes, x):
    o = op.options
    size = o.filterHeight, o.filterWidth
    counted = _windows(o, np.ones_like(x), size).sum((3, 4))
    return [_windows(o, x, size).sum((3, 4)) / counted]


def _maximum_pool(op, shapes, x):
    o = op.options
    size = o.filterHeight, o.filterWidth
    return [_windows(o, x, size, pad=-np.inf).max((3, 4))]


def _softmax(op, shapes, x):
    e = np.exp(op.options.beta * (x - x.max(-1, keepdims=True)))
    return [e / e.sum(-1, keepdims=True)]


def _gelu(op, shapes, x):
    if op.options.approximate:
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return [0.5 * x * (1 + np.tanh(inner))]
    return [0.5 * x * (1 + ERF(x / math.sqrt(2)))]


def _reduction(function):
    def kernel(op, shapes, x, axes):
        axes = tuple(np.ravel(axes).tolist())
        return [function(x, axis=axes, keepdims=op.options.keepDims)]

    return kernel


def _positions(o, size, to):
    """Where each of `to` pixels lies among `size`."""
    places = np.arange(to, dtype="float64")
    if o.alignCorners and to > 1:
        return places * (size - 1) / (to - 1)
    if o.halfPixelCenters:
        return (places + 0.5) * size / to - 0.5
    return places * size / to


def _bilinear(op, shapes, x, size):
    for axis, to in zip((1, 2), np.ravel(size), strict=True):
        n = x.shape[axis]
        places = np.clip(_positions(op.options, n, int(to)), 0, n - 1)
        low = np.floor(places).astype(int)
        share = (places - low).reshape([-1 if a == axis else 1 for a in range(4)])
        high = np.minimum(low + 1, n - 1)
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return [x]


def _nearest(op, shapes, x, size):
    o = op.options
    for axis, to in zip((1, 2), np.ravel(size), strict=True):
        n = x.shape[axis]
        places = np.arange(to) + (0.5 if o.halfPixelCenters else 0)
        scale = (n - 1) / (to - 1) if o.alignCorners and to > 1 else n / to
        chosen = np.round(places * scale) if o.alignCorners else places * scale
        x = np.take(x, np.clip(np.floor(chosen).astype(int), 0, n - 1), axis)
    return [x]


def _each(function):
    return lambda op, shapes, *values: [function(*values)]


def _cast(op, shapes, x):
    return [x]  # numbers stay what they are; the tensor rounds them


def _leaky_relu(op, shapes, x):
    return [np.where(x > 0, x, op.options.alpha * x)]


def _argmax(op, shapes, x, axis):
    return [np.argmax(x, int(np.ravel(axis)[0]))]


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


ELEMENTS = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "POW": np.power,
    "SQUARED_DIFFERENCE": lambda x, y: (x - y) ** 2,
    "EQUAL": np.equal,
    "NOT_EQUAL": np.not_equal,
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "LOGICAL_AND": np.logical_and,
    "LOGICAL_OR": np.logical_or,
    "LOGICAL_NOT": np.logical_not,
    "SELECT": np.where,
    "SELECT_V2": np.where,
    "FLOOR": np.floor,
    "NEG": np.negative,
    "ABS": np.abs,
    "SQUARE": np.square,
    "SQRT": np.sqrt,
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "EXP": np.exp,
    "LOG": np.log,
    "SIN": np.sin,
    "COS": np.cos,
    "TANH": np.tanh,
    "LOGISTIC": _sigmoid,
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "QUANTIZE": lambda x: x,
    "DEQUANTIZE": lambda x: x,
}
REDUCTIONS = {
    "MEAN": np.mean,
    "SUM": np.sum,
    "REDUCE_MAX": np.max,
    "REDUCE_MIN": np.min,
    "REDUCE_PROD": np.prod,
    "REDUCE_ANY": np.any,
    "REDUCE_ALL": np.all,
}
OPERATORS = {
    **{name: _each(function) for name, function in ELEMENTS.items()},
    **{name: _reduction(function) for name, function in REDUCTIONS.items()},
    "CAST": _cast,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed_convolution,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matmul,
    "AVERAGE_POOL_2D": _average,
    "MAX_POOL_2D": _maximum_pool,
    "SOFTMAX": _softmax,
    "GELU": _gelu,
    "LEAKY_RELU": _leaky_relu,
    "ARG_MAX": _argmax,
    "RESIZE_BILINEAR": _bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _nearest,
}

"""The activation functions of an MLP, as an integer graph computes them."""

from keras import ops

# Ranges with which int8 kernels store what softmax, sigmoid and tanh give.
PROBABILITIES = (0.0, 255 / 256)
SIGNED = (-1.0, 127 / 128)


def activate(name: str, x, a=lambda x, fixed=None: x, gelu="builtin"):
    """An activation function.

    Arguments:
        name: one of `ACTIVATIONS`.
        x: any tensor.
        a: what every tensor of the graph goes through, `InferenceViT.activation`.
        gelu: how to write GELU, as in `GraphOptions`.
    """
    if name in ("gelu", "gelu_tanh") and gelu == "builtin":
        return a(ops.gelu(x, approximate=name == "gelu_tanh"))
    return ACTIVATIONS[name](x, a)


def _gelu(x, a):
    # Not in the order in which the converter would make it one operator again.
    inner = a(a(a(x * x) * 0.0356774081) + 0.7978845608)
    bell = a(ops.tanh(a(x * inner)), SIGNED)
    return a(a(x * 0.5) * a(bell + 1.0))


def _quick_gelu(x, a):
    return a(x * a(ops.sigmoid(a(x * 1.702)), PROBABILITIES))


def _silu(x, a):
    return a(x * a(ops.sigmoid(x), PROBABILITIES))


ACTIVATIONS = {
    "gelu": _gelu,
    "gelu_tanh": _gelu,
    "quick_gelu": _quick_gelu,
    "silu": _silu,
    "relu": lambda x, a: a(ops.relu(x)),
    "tanh": lambda x, a: a(ops.tanh(x), SIGNED),
}

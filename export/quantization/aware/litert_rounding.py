"""How LiteRT's int8 kernels round, in float64.

What is rounded to a grid in float32 falls to the wrong side of the middle between two
steps once in some thousand times, and every such step changes thousands of values
behind it: after a few blocks nothing of the file's rounding is left. In float64 it is
once in some million times, and most outputs are those of the file.
"""

import tensorflow as tf

LEAST = 1e-9  # width of a range, in the file
# Halves go up, or away from zero, and nothing else goes elsewhere.
UP, AWAY = 1e-9, 1 + 1e-12


def grid(low, high):
    """Scale and zero point of an activation, as the file holds them.

    Arguments:
        low, high: float32, with zero between them.

    Returns:
        The scale, exactly a float32, and the zero point, both float64.
    """
    scale = tf.maximum(high - low, LEAST) / 255
    zero = tf.round(-128 - low / scale)
    return tf.cast(scale, "float64"), tf.cast(zero, "float64")


@tf.custom_gradient
def rounded(x, scale, zero):
    """An activation on its grid; halves go up, as in XNNPACK's sums.

    Arguments:
        x: float64.
        scale, zero: of `grid`.
    """
    steps = tf.clip_by_value(tf.round(x / scale + UP), -128 - zero, 127 - zero)
    return steps * scale, lambda gradient: (gradient, None, None)


@tf.custom_gradient
def rounded_twice(x, scale, one, other):
    """A product of two activations, as it is before `rounded`. LiteRT's own kernel,
    unlike those of XNNPACK, multiplies the integers by an integer and shifts the result
    to the right, and rounds both times. XNNPACK takes the product if the second factor
    has its zero at 0.

    Arguments:
        x: float64.
        scale: of the product.
        one, other: (scale, zero) of the factors.
    """
    ratio = one[0] * other[0] / scale
    exponent = tf.floor(tf.math.log(ratio) / tf.math.log(tf.constant(2, x.dtype)))
    finer = 2 ** tf.maximum(-1 - exponent, 0)
    steps = tf.round(tf.round(x / scale * finer) / finer * AWAY)
    y = tf.where(tf.equal(other[1], 0), x, steps * scale)
    return y, lambda gradient: (gradient, *[None] * 5)


@tf.custom_gradient
def stored(weights, scale):
    """Weights as the file holds them, symmetric.

    Arguments:
        weights: (I, O), or biases (O,).
        scale: (O,) or ().
    """
    steps = tf.round(tf.math.divide_no_nan(weights, scale))
    return steps * scale, lambda gradient: (gradient, None)

"""Rounding of LiteRT's int8 kernels, in float64.

In float32, about one value in a thousand falls to the wrong side of the middle between
two steps, and each such step changes thousands of later values: after a few blocks the
roundings no longer agree with the file's. In float64 it is one in a million, and most
outputs equal those of the file.
"""

import tensorflow as tf

LEAST = 1e-9  # width of a range, in the file
# Halves go up, or away from zero; the offsets change no other rounding.
UP, AWAY = 1e-9, 1 + 1e-12


def grid(low, high):
    """Return scale and zero point of an activation, as the file stores them.

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
    """Round an activation to its grid; halves go up, as in XNNPACK's sums.

    Arguments:
        x: float64.
        scale, zero: from `grid`.
    """
    steps = tf.clip_by_value(tf.round(x / scale + UP), -128 - zero, 127 - zero)
    return steps * scale, lambda gradient: (gradient, None, None)


@tf.custom_gradient
def rounded_twice(x, scale, one, other):
    """Round a product of two activations as LiteRT does before `rounded`.

    LiteRT's own kernel, unlike XNNPACK's, multiplies the integers by an integer, shifts
    the result to the right, and rounds both times. XNNPACK computes the product if the
    second factor has zero point 0.

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
    """Round weights as the file stores them, symmetrically.

    Arguments:
        weights: (I, O), or biases (O,).
        scale: (O,) or ().
    """
    steps = tf.round(tf.math.divide_no_nan(weights, scale))
    return steps * scale, lambda gradient: (gradient, None)

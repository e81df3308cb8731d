"""`vit_keras.preprocessing.fit` in a TensorFlow graph, equal to the last bit.

Pillow resamples 8-bit images one axis after the other, with weights of 22 bits and
integer sums (`Resample.c`). Here the same sums are an exact product with a sparse
integer matrix; TensorFlow's own resizing differs by a grey level and more.
"""

import dataclasses
import math
from typing import Any

PRECISION = 22  # fractional bits of a weight


def _bilinear(x):
    return 1.0 - x


def _bicubic(x):
    import tensorflow as tf

    near = (1.5 * x - 2.5) * x * x + 1.0
    return tf.where(x < 1.0, near, -0.5 * (((x - 5.0) * x + 8.0) * x - 4.0))


def _lanczos(x):
    import tensorflow as tf

    def sinc(x):
        x = tf.maximum(x * math.pi, 1e-30)  # sin(0) / 0 is 1
        return tf.sin(x) / x

    return sinc(x) * sinc(x / 3.0)


# Filter function of the distance, and its support.
FILTERS = {
    "bilinear": (_bilinear, 1),
    "bicubic": (_bicubic, 2),
    "lanczos": (_lanczos, 3),
}


def fit(pixels, image_size, preprocessing):
    """Resize to cover the model's input, then crop its centre.

    Arguments:
        pixels: uint8 tensor (H, W, C).
        image_size: wanted (height, width).
        preprocessing: `interpolation` and `crop` are used.

    Returns:
        float32 tensor (height, width, C), whole numbers 0..255.
    """
    import tensorflow as tf

    sides = tf.shape(pixels)[:2]
    exact = tf.cast(sides, tf.float64)
    wanted = tf.constant(image_size, tf.float64)
    box = wanted / (tf.reduce_max(wanted / exact) / preprocessing.crop)
    start = tf.maximum((exact - box) / 2, 0.0)
    stop = tf.minimum(start + box, exact)
    # Pillow keeps a box in single precision.
    span = tf.cast(tf.cast(tf.stack([start, stop], 1), tf.float32), tf.float64)
    name = preprocessing.interpolation
    if name == "nearest":
        for axis, size in enumerate(image_size):
            indices = _centres(span[axis], size)
            pixels = tf.gather(pixels, tf.cast(indices, tf.int32), axis=axis)
        return _finished(pixels, image_size)
    rows, columns = (
        Taps.of(name, sides[axis], span[axis], size)
        for axis, size in enumerate(image_size)
    )
    # Only what the crop needs: the rest of a long image is not resampled.
    x = pixels[rows.first : rows.last, columns.first : columns.last]
    x = tf.cond(
        _rows_first(sides, image_size),
        lambda: _turned(columns.apply(_turned(rows.apply(x)))),
        lambda: rows.apply(_turned(columns.apply(_turned(x)))),
    )
    return _finished(x, image_size)


def _centres(span, size):
    """Return the centre of each output among the inputs, float64 (size,)."""
    import tensorflow as tf

    step = (span[1] - span[0]) / size
    return span[0] + (tf.range(size, dtype=tf.float64) + 0.5) * step


def _turned(x):
    import tensorflow as tf

    return tf.transpose(x, (1, 0, 2))


def _finished(x, image_size):
    import tensorflow as tf

    return tf.ensure_shape(tf.cast(x, tf.float32), (*image_size, None))


def _rows_first(sides, image_size):
    """Return whether Pillow resamples rows before columns: since release 13, if much
    more is lost in height. The two orders round differently."""
    import PIL
    import tensorflow as tf

    if int(PIL.__version__.partition(".")[0]) < 13:
        return tf.constant(False)
    lost = sides - tf.constant(image_size)
    return (lost[0] > 0) & (lost[0] > 2 * lost[1])


@dataclasses.dataclass(frozen=True)
class Taps:
    """Weights of one axis of a resampling.

    Attributes:
        matrix: sparse int32 (outputs, inputs from `first` to `last`).
        first, last: the range of inputs that are read.
    """

    matrix: Any
    first: Any
    last: Any

    @classmethod
    def of(cls, name, length, span, size) -> "Taps":
        """Compute Pillow's weights.

        Arguments:
            name: of the filter.
            length: number of inputs, int32 scalar.
            span: the range of inputs to resample, float64 (2,).
            size: number of outputs, an int.
        """
        import tensorflow as tf

        weigh, support = FILTERS[name]
        stretch = tf.maximum((span[1] - span[0]) / size, 1.0)
        centres, reach = _centres(span, size), support * stretch
        low = tf.maximum(tf.cast(centres - reach + 0.5, tf.int32), 0)
        high = tf.minimum(tf.cast(centres + reach + 0.5, tf.int32), length)
        indices = low[:, None] + tf.range(tf.reduce_max(high - low))
        inside = indices < high[:, None]
        distances = tf.cast(indices, tf.float64) + 0.5 - centres[:, None]
        weights = tf.where(inside, weigh(tf.abs(distances) / stretch), 0.0)
        weights /= tf.reduce_sum(weights, 1, keepdims=True)
        weights = tf.cast(tf.round(weights * 2**PRECISION), tf.int32)
        first, last = low[0], high[-1]
        taken = tf.where(inside)
        columns = tf.cast(tf.gather_nd(indices, taken) - first, tf.int64)
        matrix = tf.SparseTensor(
            tf.stack([taken[:, 0], columns], 1),
            tf.gather_nd(weights, taken),
            tf.cast(tf.stack([size, last - first]), tf.int64),
        )
        return cls(matrix, first, last)

    def apply(self, x):
        """Resample whole numbers (inputs, M, C) to int32 (outputs, M, C) in 0..255."""
        import tensorflow as tf

        _, others, channels = tf.unstack(tf.shape(x))
        flat = tf.reshape(tf.cast(x, tf.int32), (-1, others * channels))
        total = tf.sparse.sparse_dense_matmul(self.matrix, flat)
        total = tf.bitwise.right_shift(total + 2 ** (PRECISION - 1), PRECISION)
        return tf.reshape(tf.clip_by_value(total, 0, 255), (-1, others, channels))

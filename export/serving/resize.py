"""`vit_keras.preprocessing.fit` in a TensorFlow graph, equal to the last bit.

Pillow resamples 8-bit images one axis after the other, with weights of 22 bits and
integer sums (`Resample.c`). Here the same sums are an exact product with a sparse
integer matrix; TensorFlow's own resizing differs by a grey level and more.
"""

import dataclasses
import math
from typing import Any

PRECISION = 22  # fractional bits of a weight
STRIP = 2**20  # pixels that are worked on at a time


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
    """Bring an image to the model's input, as `vit_keras.preprocessing.fit` does.

    Arguments:
        pixels: uint8 tensor (H, W, C).
        image_size: wanted (height, width).
        preprocessing: `interpolation`, `crop` and `resize` are used, and the colour of
            the padding.

    Returns:
        float32 tensor (height, width, C), whole numbers 0..255.
    """
    import tensorflow as tf

    sides = tf.shape(pixels)[:2]
    exact = tf.cast(sides, tf.float64)
    wanted = tf.constant(image_size, tf.float64)
    box, sizes = exact * preprocessing.crop, list(image_size)
    if preprocessing.resize == "cover":
        box = wanted / (tf.reduce_max(wanted / exact) / preprocessing.crop)
    elif preprocessing.resize == "contain":
        sizes = _contained(sides, image_size)
    start = tf.maximum((exact - box) / 2, 0.0)
    stop = tf.minimum(start + box, exact)
    # Pillow keeps a box in single precision.
    span = tf.cast(tf.cast(tf.stack([start, stop], 1), tf.float32), tf.float64)
    x = _resampled(pixels, sides, span, sizes, preprocessing.interpolation)
    x = tf.cast(x, tf.float32)
    if preprocessing.resize == "contain":
        x = _padded(x, sizes, image_size, preprocessing.padding())
    return tf.ensure_shape(x, (*image_size, None))


def _resampled(pixels, sides, span, sizes, name):
    """Resample the part `span` of both axes to `sizes`."""
    import tensorflow as tf

    if name == "nearest":
        for axis, size in enumerate(sizes):
            indices = _centres(span[axis], size)
            pixels = tf.gather(pixels, tf.cast(indices, tf.int32), axis=axis)
        return pixels
    rows, columns = (
        Taps.of(name, sides[axis], span[axis], size) for axis, size in enumerate(sizes)
    )
    # Only what the crop needs: the rest of a long image is not resampled.
    x = pixels[rows.first : rows.last, columns.first : columns.last]

    # With rows first it is the turned image that has its columns resampled first.
    turned = _rows_first(sides, sizes)
    x = tf.cond(turned, lambda: _turned(x), lambda: x)
    first, second = tf.cond(
        turned,
        lambda: (rows.matrix, columns.matrix),
        lambda: (columns.matrix, rows.matrix),
    )
    x = in_strips(lambda strip: _turned(_product(first, _turned(strip))), x)
    x = _product(second, x)
    return tf.cond(turned, lambda: _turned(x), lambda: x)


def in_strips(function, x):
    """Apply a function of rows to an image (H, W, C), `STRIP` pixels at a time.

    A whole image as int32 takes four times the memory of what was decoded, and every
    further step as much again: 0.6 GB each for 50 megapixels.

    Arguments:
        function: from (rows, W, C) to uint8 (rows, ., .), each row by itself.
        x: the image, of at least one row.

    Returns:
        What `function` returns for the whole image.
    """
    import tensorflow as tf

    rows = tf.shape(x)[0]
    step = tf.maximum(STRIP // tf.maximum(tf.shape(x)[1], 1), 1)
    count = (rows + step - 1) // step
    parts = tf.TensorArray(tf.uint8, count, infer_shape=False)

    def one(i, parts):
        return i + 1, parts.write(i, function(x[i * step : (i + 1) * step]))

    _, parts = tf.while_loop(
        lambda i, _: i < count, one, (0, parts), parallel_iterations=1
    )
    return tf.ensure_shape(parts.concat(), (None, None, None))


def _contained(sides, image_size):
    """Return height and width of the whole image inside the input, two int32 scalars.

    The whole numbers of `vit_keras.preprocessing.placed_box`.
    """
    import tensorflow as tf

    rows, columns = tf.unstack(tf.cast(sides, tf.int64))
    height, width = image_size
    tall = (2 * rows * width + columns) // (2 * columns)
    wide = (2 * columns * height + rows) // (2 * rows)
    sizes = tf.clip_by_value([tall, wide], 1, [height, width])
    return tf.unstack(tf.cast(sizes, tf.int32))


def _padded(x, sizes, image_size, colour):
    """Put an image into the middle of one of a single colour."""
    import tensorflow as tf

    ends = []
    for size, whole in zip(sizes, image_size, strict=True):
        before = (whole - size) // 2
        ends.append([before, whole - size - before])
    colour = tf.constant(colour, tf.float32)
    return tf.pad(x - colour, [*ends, [0, 0]]) + colour


def _centres(span, size):
    """Return the centre of each output among the inputs, float64 (size,)."""
    import tensorflow as tf

    step = (span[1] - span[0]) / tf.cast(size, tf.float64)
    return span[0] + (tf.cast(tf.range(size), tf.float64) + 0.5) * step


def _turned(x):
    import tensorflow as tf

    return tf.transpose(x, (1, 0, 2))


def _product(matrix, x):
    """Resample whole numbers (inputs, M, C) by `Taps.matrix`; return uint8 (outputs,
    M, C)."""
    import tensorflow as tf

    _, others, channels = tf.unstack(tf.shape(x))
    flat = tf.reshape(tf.cast(x, tf.int32), (-1, others * channels))
    total = tf.sparse.sparse_dense_matmul(matrix, flat)
    total = tf.bitwise.right_shift(total + 2 ** (PRECISION - 1), PRECISION)
    total = tf.cast(tf.clip_by_value(total, 0, 255), tf.uint8)
    return tf.reshape(total, (-1, others, channels))


def _rows_first(sides, sizes):
    """Return whether Pillow resamples rows before columns: since release 13, if much
    more is lost in height. The two orders round differently."""
    import PIL
    import tensorflow as tf

    if int(PIL.__version__.partition(".")[0]) < 13:
        return tf.constant(False)
    lost = sides - tf.stack(sizes)
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
            size: number of outputs, an int or int32 scalar.
        """
        import tensorflow as tf

        weigh, support = FILTERS[name]
        stretch = tf.maximum((span[1] - span[0]) / tf.cast(size, tf.float64), 1.0)
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

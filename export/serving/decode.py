"""Decoding of images to pixels in a TensorFlow graph, on the server.

The result equals `vit_keras.preprocessing` within one grey level: same decoder
settings, EXIF orientation, crop or padding, and antialiased filter. An unreadable item
never makes the others of its batch fail.
"""

import dataclasses
from typing import Any

from .image_headers import (
    DEEP_GREY,
    IS_GIF,
    IS_JPEG,
    OTHER,
    PALETTE,
    first_frame,
    kind_of,
    orientation,
    palette_of,
    size_of,
)
from .resize import fit, in_strips

PARALLEL = 8  # images decoded at a time
# With an image over this part of `max_pixels`, a batch is decoded one image at a time:
# eight of them would take eight times the memory.
LARGE = 4


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of an encoded image, checked from its header before decoding.

    Arguments:
        max_bytes: encoded size.
        max_pixels: height times width, about 3 bytes each once decoded.
        max_aspect: long side over short side.

    Raises:
        ValueError: a limit is below 1.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    max_aspect: int = 50

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {value}")


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Decoding of encoded images to the model's raw pixels.

    Arguments:
        image_size: (height, width) of the model.
        preprocessing: `vit_keras.Preprocessing`; all but the normalisation is used.
        limits: images beyond them are refused.
        exif: whether the EXIF orientation is applied, as in evaluation.
    """

    image_size: tuple[int, int]
    preprocessing: Any
    limits: Limits = Limits()
    exif: bool = True

    def batch(self, items, decode=None, read=None):
        """Decode a batch.

        Arguments:
            items: string tensor (N,).
            decode: `self.decode`, or its traced graph, shared by several batches.
            read: function from one item to the encoded image in it, or None.

        Returns:
            (pixels float32 (N, H, W, C) in 0..255, valid bool (N,)). An unreadable item
            gives zeros and False.
        """
        import tensorflow as tf

        decode = decode or self.decode
        shape = (*self.image_size, len(self.preprocessing.mean))
        count, few = tf.size(items, tf.int64), tf.constant(1, tf.int64)

        def encoded(item):
            return item if read is None else read(item)

        def number_of_pixels(index, item):
            height, width = _sides(encoded(item))
            return height * width

        def one(index, item):
            return index, decode(encoded(item))

        # `ignore_errors` is the only way to catch an exception in a graph. A dropped
        # image is missing among the indices; the spare entry keeps the batch from being
        # empty. Images are decoded on the CPU, also on a machine with a GPU.
        with tf.device("/CPU:0"):
            data = tf.data.Dataset
            spare = data.from_tensors((count, tf.zeros(shape)))
            found = data.from_tensor_slices((tf.range(count), items))
            sizes = found.map(number_of_pixels).ignore_errors()
            sizes = sizes.concatenate(data.from_tensors(few)).batch(count + 1)
            largest = tf.reduce_max(sizes.get_single_element())
            large = largest > self.limits.max_pixels // LARGE
            at_once = tf.where(large, few, PARALLEL)
            found = found.map(one, num_parallel_calls=at_once).ignore_errors()
            found = found.concatenate(spare).batch(count + 1)
            indices, pixels = found.get_single_element()
            indices = indices[:, None]
            pixels = tf.scatter_nd(indices, pixels, tf.stack([count + 1, *shape]))
            hits = tf.ones_like(indices[:, 0], tf.int32)
            valid = tf.scatter_nd(indices, hits, [count + 1]) > 0
        return tf.ensure_shape(pixels[:-1], (None, *shape)), valid[:-1]

    def decode(self, item):
        """Decode one image, a string scalar, to float32 (H, W, C); errors are raised in
        the graph."""
        import tensorflow as tf

        kind = kind_of(item)
        with tf.control_dependencies([self._check(item, kind)]):
            item = tf.identity(item)

        def still(item):
            return tf.io.decode_image(item, 3, expand_animations=False)

        decoders = {
            OTHER: lambda: still(item),
            IS_GIF: lambda: still(first_frame(item)),
            # As Pillow: the accurate transform, not TensorFlow's fast one.
            IS_JPEG: lambda: tf.io.decode_jpeg(item, 3, dct_method="INTEGER_ACCURATE"),
            DEEP_GREY: lambda: _rounded(tf.io.decode_png(item, 1, tf.uint16)),
            PALETTE: lambda: _coloured(tf.io.decode_bmp(item), palette_of(item)),
        }
        pixels = tf.switch_case(kind, decoders)
        pixels = tf.ensure_shape(pixels, (None, None, 3))
        if len(self.preprocessing.mean) == 1:
            pixels = luma(pixels)
        if self.exif:
            pixels = turn(pixels, orientation(item))
        return fit(pixels, self.image_size, self.preprocessing)

    def _check(self, item, kind):
        """Return an operation that raises if an image is over a limit."""
        import tensorflow as tf

        height, width = _sides(item, kind)
        limits = self.limits
        good = tf.strings.length(item) <= limits.max_bytes
        good &= tf.minimum(height, width) >= 1
        good &= height * width <= limits.max_pixels
        longest, shortest = tf.maximum(height, width), tf.minimum(height, width)
        good &= longest <= shortest * limits.max_aspect
        return tf.debugging.assert_equal(good, True, "the image is over a limit")


def _sides(item, kind=None):
    """Return (height, width), int64 scalars, from the header of an encoded image."""
    import tensorflow as tf

    return tf.cond(
        (kind_of(item) if kind is None else kind) == IS_JPEG,
        lambda: tf.unstack(tf.io.extract_jpeg_shape(item, tf.int64)[:2], num=2),
        lambda: list(size_of(item)),
    )


def turn(pixels, value):
    """Apply an EXIF orientation to pixels (H, W, C)."""
    import tensorflow as tf

    def any_of(*values):
        return tf.reduce_any(value == tf.constant(values, tf.int64))

    steps = (
        (any_of(5, 6, 7, 8), lambda x: tf.transpose(x, (1, 0, 2))),
        (any_of(2, 3, 6, 7), lambda x: tf.reverse(x, (1,))),
        (any_of(3, 4, 7, 8), lambda x: tf.reverse(x, (0,))),
    )
    for wanted, step in steps:
        pixels = tf.cond(wanted, lambda s=step, x=pixels: s(x), lambda x=pixels: x)
    return pixels


def luma(pixels):
    """Convert RGB uint8 (H, W, 3) to grey (H, W, 1) by Pillow's ITU-R 601 integers."""
    import tensorflow as tf

    shares = tf.constant((19595, 38470, 7471), tf.int32)

    def mixed(rows):
        total = tf.reduce_sum(tf.cast(rows, tf.int32) * shares, -1, keepdims=True)
        return tf.cast((total + 2**15) // 2**16, tf.uint8)

    return tf.ensure_shape(in_strips(mixed, pixels), (None, None, 1))


def _rounded(grey):
    """Round uint16 (H, W, 1) to 8 bits, as three equal channels."""
    import tensorflow as tf

    # (grey + 128) // 257, in 16 bits: a photograph in 32 takes twice the memory.
    high, low = tf.bitwise.right_shift(grey, 8), tf.bitwise.bitwise_and(grey, 255)
    up, down = low > high + 128, high > low + 128
    high = high + tf.cast(up, tf.uint16) - tf.cast(down, tf.uint16)
    return tf.repeat(tf.cast(high, tf.uint8), 3, -1)


def _coloured(indices, palette):
    """Look up uint8 indices (H, W, 1) in a palette (n, 3), giving (H, W, 3)."""
    import tensorflow as tf

    return tf.gather(palette, tf.cast(indices[..., 0], tf.int32))

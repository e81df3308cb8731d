"""Encoded images to pixels, in a TensorFlow graph: what a server does before the model.

The result is that of `vit_keras.preprocessing` within one grey level: the same decoder
settings, EXIF orientation, centre crop and antialiased filter. An item that can not be
read never fails the others of its batch.
"""

import dataclasses
from typing import Any

from .serving_resize import fit

PARALLEL = 8  # images that are decoded at a time


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an encoded image may be; read from its header, before it is decoded.

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
class Header:
    """Where a format has its size.

    Arguments:
        at, magic: what stands at the start, and where.
        width, height: places of their bytes, the least significant first.
        shift: bits to drop from the height.
        bits: how many count.
        plus: added to both.
    """

    at: int
    magic: bytes
    width: tuple[int, ...]
    height: tuple[int, ...]
    shift: int = 0
    bits: int = 32
    plus: int = 0


# JPEG has its size behind a chain of segments; TensorFlow reads it.
JPEG = b"\xff\xd8\xff"
HEADERS = (
    Header(0, b"\x89PNG\r\n\x1a\n", (19, 18, 17, 16), (23, 22, 21, 20)),
    Header(0, b"GIF8", (6, 7), (8, 9)),
    Header(0, b"BM", (18, 19, 20, 21), (22, 23, 24, 25)),
    Header(12, b"VP8 ", (26, 27), (28, 29), bits=14),
    Header(12, b"VP8L", (21, 22, 23, 24), (21, 22, 23, 24), shift=14, bits=14, plus=1),
    Header(12, b"VP8X", (24, 25, 26), (27, 28, 29), bits=24, plus=1),
)
HEADER_BYTES = 32

# What comes right before the TIFF structure with the orientation.
EXIF_MARKS = (b"Exif\x00\x00", b"eXIf")  # JPEG and WebP, PNG
ORIENTATION = 0x0112


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Encoded images as the model's raw pixels.

    Arguments:
        image_size: (height, width) of the model.
        preprocessing: `vit_keras.Preprocessing`; filter, crop and channels are used.
        limits: what is refused.
        exif: whether the EXIF orientation is applied, as evaluation does.
    """

    image_size: tuple[int, int]
    preprocessing: Any
    limits: Limits = Limits()
    exif: bool = True

    def batch(self, items, decode=None, read=None):
        """Decode a batch.

        Arguments:
            items: string tensor (N,).
            decode: `self.decode`, or a graph of it that several batches share.
            read: function from one item to the encoded image in it, or None.

        Returns:
            (pixels float32 (N, H, W, C) in 0..255, valid bool (N,)). An item that can
            not be read gives zeros and False.
        """
        import tensorflow as tf

        decode = decode or self.decode
        shape = (*self.image_size, len(self.preprocessing.mean))
        count = tf.size(items, tf.int64)

        def one(index, item):
            return index, decode(item if read is None else read(item))

        # `ignore_errors` is the only way a graph can catch an exception. What is lost
        # is missing among the indices; the entry at the end keeps the batch from being
        # empty. Images are the CPU's work on a machine with a GPU, too.
        with tf.device("/CPU:0"):
            data = tf.data.Dataset
            spare = data.from_tensors((count, tf.zeros(shape)))
            found = data.from_tensor_slices((tf.range(count), items))
            found = found.map(one, num_parallel_calls=PARALLEL).ignore_errors()
            found = found.concatenate(spare).batch(count + 1)
            places, pixels = found.get_single_element()
            places = places[:, None]
            pixels = tf.scatter_nd(places, pixels, tf.stack([count + 1, *shape]))
            hits = tf.ones_like(places[:, 0], tf.int32)
            valid = tf.scatter_nd(places, hits, [count + 1]) > 0
        return tf.ensure_shape(pixels[:-1], (None, *shape)), valid[:-1]

    def decode(self, item):
        """One encoded image, a string scalar, to float32 (H, W, C); raises in the
        graph."""
        import tensorflow as tf

        jpeg = tf.strings.substr(item, 0, len(JPEG)) == JPEG
        with tf.control_dependencies([self._check(item, jpeg)]):
            item = tf.identity(item)
        # As Pillow: the accurate transform, not TensorFlow's fast one.
        pixels = tf.cond(
            jpeg,
            lambda: tf.io.decode_jpeg(item, 3, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_image(item, 3, expand_animations=False),
        )
        pixels = tf.ensure_shape(pixels, (None, None, 3))
        if len(self.preprocessing.mean) == 1:
            pixels = luma(pixels)
        if self.exif:
            pixels = turn(pixels, orientation(item))
        return fit(pixels, self.image_size, self.preprocessing)

    def _check(self, item, jpeg):
        """An operation that raises if an image is over a limit."""
        import tensorflow as tf

        height, width = tf.cond(
            jpeg,
            lambda: tf.unstack(tf.io.extract_jpeg_shape(item, tf.int64)[:2], num=2),
            lambda: list(size_of(item)),
        )
        limits = self.limits
        good = tf.strings.length(item) <= limits.max_bytes
        good &= tf.minimum(height, width) >= 1
        good &= height * width <= limits.max_pixels
        longest, shortest = tf.maximum(height, width), tf.minimum(height, width)
        good &= longest <= shortest * limits.max_aspect
        return tf.debugging.assert_equal(good, True, "the image is over a limit")


def size_of(item):
    """(height, width), int64 scalars, from the header of an image other than JPEG;
    (0, 0) for what is none of them."""
    import tensorflow as tf

    start = tf.strings.substr(item, 0, HEADER_BYTES)
    padded = tf.strings.join([start, b"\x00" * HEADER_BYTES])
    raw = tf.io.decode_raw(tf.strings.substr(padded, 0, HEADER_BYTES), tf.uint8)
    raw = tf.cast(raw, tf.int64)
    height = width = tf.constant(0, tf.int64)
    for row in HEADERS:

        def number(places, shift, row=row):
            value = sum(raw[place] * 256**i for i, place in enumerate(places))
            value = (value // 2**shift) % 2**row.bits + row.plus
            # A BMP whose rows go down has a negative height.
            return tf.minimum(value, 2**32 - value)

        here = tf.strings.substr(padded, row.at, len(row.magic)) == row.magic
        height = tf.where(here, number(row.height, row.shift), height)
        width = tf.where(here, number(row.width, 0), width)
    return height, width


def orientation(item):
    """The EXIF orientation of an encoded image, int64 scalar 1..8; 1 if it has none."""
    import tensorflow as tf

    tail = tf.constant(b"")
    for mark in EXIF_MARKS:
        parts = tf.strings.split(item, mark, maxsplit=1)
        tail = tf.cond(tf.size(parts) > 1, lambda p=parts: p[1], lambda t=tail: t)
    start = tf.strings.join([tf.strings.substr(tail, 0, 2**16), b"\x00" * 16])
    raw = tf.cast(tf.io.decode_raw(start, tf.uint8), tf.int64)
    little = raw[0] == ord("I")

    def number(two):  # (..., 2) bytes
        low, high = two[..., 0], two[..., 1]
        return tf.where(little, low + 256 * high, 256 * low + high)

    words = number(tf.reshape(raw[4:8], (2, 2)))
    at = words[0] + 2**16 * words[1]
    at = tf.where(little, at, words[1] + 2**16 * words[0])
    at = tf.minimum(at, tf.size(raw, tf.int64) - 2)
    count = number(raw[at : at + 2])
    table = raw[at + 2 : at + 2 + 12 * count]
    table = tf.reshape(table[: tf.size(table) // 12 * 12], (-1, 12))
    mine = tf.boolean_mask(table, number(table[:, :2]) == ORIENTATION)
    value = tf.concat([number(mine[:, 8:10]), [1]], 0)[0]
    known = tf.strings.substr(tail, 0, 2)
    good = ((known == b"II") | (known == b"MM")) & (value >= 1) & (value <= 8)
    return tf.where(good, value, 1)


def turn(pixels, value):
    """Pixels (H, W, C) as their EXIF orientation wants them."""
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
    """RGB uint8 (H, W, 3) to grey (H, W, 1) with Pillow's integers (ITU-R 601)."""
    import tensorflow as tf

    shares = tf.constant((19595, 38470, 7471), tf.int32)
    total = tf.reduce_sum(tf.cast(pixels, tf.int32) * shares, -1, keepdims=True)
    return tf.cast((total + 2**15) // 2**16, tf.uint8)

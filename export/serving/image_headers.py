"""Readers of encoded images' headers, in a TensorFlow graph."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Header:
    """Position of the image size in a format's header.

    Arguments:
        at, magic: position and value of the format's signature.
        width, height: offsets of their bytes, the least significant first.
        shift: bits to drop from the height.
        bits: number of bits used.
        plus: added to both.
    """

    at: int
    magic: bytes
    width: tuple[int, ...]
    height: tuple[int, ...]
    shift: int = 0
    bits: int = 32
    plus: int = 0


# JPEG has its size behind a chain of segments; TensorFlow's own function reads it.
JPEG, PNG, BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
GIF = b"GIF8"
HEADERS = (
    Header(0, PNG, (19, 18, 17, 16), (23, 22, 21, 20)),
    Header(0, GIF, (6, 7), (8, 9)),
    Header(0, BMP, (18, 19, 20, 21), (22, 23, 24, 25)),
    Header(12, b"VP8 ", (26, 27), (28, 29), bits=14),
    Header(12, b"VP8L", (21, 22, 23, 24), (21, 22, 23, 24), shift=14, bits=14, plus=1),
    Header(12, b"VP8X", (24, 25, 26), (27, 28, 29), bits=24, plus=1),
)
HEADER_BYTES = 32

# Bytes right before the TIFF structure with the orientation.
EXIF_MARKS = (b"Exif\x00\x00", b"eXIf")  # JPEG and WebP, PNG
ORIENTATION = 0x0112

# Kinds of images that need different decoders.
OTHER, IS_JPEG, DEEP_GREY, PALETTE, IS_GIF = range(5)

# Blocks of a GIF by their first byte, and how many of their parts are read: a file of
# the largest size has fewer, at 255 bytes each.
EXTENSION, FRAME, END = 0x21, 0x2C, b";"
MOST_PARTS = 150_000


def kind_of(item):
    """Return which of the kinds an encoded image is, as int32 scalar."""
    import tensorflow as tf

    def has(at, text):
        return tf.strings.substr(item, at, len(text)) == text

    kind = tf.where(has(0, JPEG), IS_JPEG, OTHER)
    kind = tf.where(has(0, GIF), IS_GIF, kind)
    # DEEP_GREY: one channel of 16 bits; PALETTE: 8 bits per pixel.
    kind = tf.where(has(0, PNG) & has(24, b"\x10\x00"), DEEP_GREY, kind)
    return tf.where(has(0, BMP) & has(28, b"\x08\x00"), PALETTE, kind)


def palette_of(item):
    """Return the colours of an 8-bit BMP, uint8 (n, 3). Compressed pixels, which
    TensorFlow does not detect, raise in the graph."""
    import tensorflow as tf

    def number(at):
        return tf.io.decode_raw(tf.strings.substr(item, at, 4), tf.int32)[0]

    packed = tf.debugging.assert_equal(number(30), 0, "the pixels are compressed")
    with tf.control_dependencies([packed]):
        raw = tf.strings.substr(item, 14 + number(14), 4 * 256)
    raw = tf.io.decode_raw(raw, tf.uint8)
    return tf.reshape(raw[: tf.size(raw) // 4 * 4], (-1, 4))[:, 2::-1]


def size_of(item):
    """Return (height, width), int64 scalars, from the header of an image other than
    JPEG; (0, 0) for unknown formats."""
    import tensorflow as tf

    start = tf.strings.substr(item, 0, HEADER_BYTES)
    padded = tf.strings.join([start, b"\x00" * HEADER_BYTES])
    raw = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int64)
    places = [[_four(row.height), _four(row.width)] for row in HEADERS]
    sides = tf.reduce_sum(tf.gather(raw, places) * 256 ** np.arange(4), -1)
    sides //= [[2**row.shift, 1] for row in HEADERS]
    sides = sides % [[2**row.bits] for row in HEADERS] + [[row.plus] for row in HEADERS]
    # A BMP stored from the top down has a negative height.
    sides = tf.minimum(sides, 2**32 - sides)
    at, lengths = zip(*((row.at, len(row.magic)) for row in HEADERS), strict=True)
    starts = tf.strings.substr(tf.fill([len(HEADERS)], padded), at, lengths)
    here = starts == [row.magic for row in HEADERS]
    # A GIF can have what looks like the header of a WebP: the larger one counts.
    found = tf.reduce_max(tf.where(here[:, None], sides, 0), 0)
    return found[0], found[1]


def _four(offsets):
    """Offsets of four bytes, those that lack behind the header, where it is zero."""
    return [*offsets, *[HEADER_BYTES] * (4 - len(offsets))]


def first_frame(item):
    """Return a GIF without all that follows its first frame.

    TensorFlow's decoder reads every frame into memory before it drops all but one: a
    file of a megabyte can hold hundreds that fill the screen. A frame larger than the
    screen, whose memory no limit knows, and a file of unusually short blocks raise in
    the graph.
    """
    import tensorflow as tf

    content = tf.io.decode_raw(tf.strings.join([item, b"\x00" * 16]), tf.uint8)
    raw = tf.cast(content, tf.int32)
    last = tf.size(raw) - 10

    def colours(flags):  # bytes of a colour table
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def behind_parts(at, left):  # parts begin with their length; one of 0 ends them
        return tf.while_loop(
            lambda at, left: (raw[tf.minimum(at, last)] > 0) & (left > 0),
            lambda at, left: (at + 1 + raw[at], left - 1),
            (at, left),
            parallel_iterations=1,
        )

    def step(at, left):
        at, left = behind_parts(at + 2, left)
        return at + 1, left - 1

    at, left = tf.while_loop(
        lambda at, left: (raw[tf.minimum(at, last)] == EXTENSION) & (left > 0),
        step,
        (13 + colours(raw[10]), tf.constant(MOST_PARTS)),
        parallel_iterations=1,
    )
    # A frame: its place and size, flags, colours, and a byte before its parts.
    at = tf.minimum(at, last)
    head = raw[at : at + 10]
    width, height = (head[i] + 256 * head[i + 1] for i in (5, 7))
    at, left = behind_parts(at + 11 + colours(head[9]), left)
    inside = (height <= raw[8] + 256 * raw[9]) & (width <= raw[6] + 256 * raw[7])
    good = (head[0] == FRAME) & inside & (left > 0)
    whole = tf.debugging.assert_equal(good, True, "the GIF's first frame is not right")
    with tf.control_dependencies([whole]):
        return tf.strings.join([tf.strings.substr(item, 0, at + 1), END])


def orientation(item):
    """Return the EXIF orientation of an image, int64 scalar 1..8; 1 if it has none."""
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

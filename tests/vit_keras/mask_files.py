"""Small files of images and masks, for the tests of data with a class at each pixel."""

import json
import struct
import zlib

import numpy as np
from PIL import Image

from tests.shapes import shapes

SIZE = (16, 24)
NAMES = ["background", "circle", "square", "triangle"]
COLORS = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]


def save(path, pixels, palette=None):
    """Write an array as the file type of the path; a palette makes it mode P."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
        return path
    image = Image.fromarray(np.asarray(pixels))
    if palette is not None:
        image.putpalette(np.asarray(palette, "uint8").tobytes())
    image.save(path)
    return path


def pair(image, mask, seed):
    """Write an image of shapes and its mask; return the mask."""
    images, masks = shapes(1, SIZE, seed=seed)
    save(image, images[0])
    save(mask, masks[0])
    return masks[0]


def pairs(root, images="images/{}.png", masks="masks/{}.png", number=4, seed=0):
    """Write several pairs; the patterns get the number of each. Return the masks."""
    return [
        pair(root / images.format(i), root / masks.format(i), seed + i)
        for i in range(number)
    ]


def classes(root, content, name="classes.json"):
    text = content if isinstance(content, str) else json.dumps(content)
    (root / name).write_text(text)


def packed(pixels, bits):
    """Return the rows of pixels of some bits each, uint8 (H, bytes)."""
    spread = (pixels[..., None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(spread.reshape(len(pixels), -1).astype("uint8"), axis=1)


def png(path, pixels, bits):
    """Write grey of 1, 2 or 4 bits, or RGB of 16, which Pillow only reads."""
    height, width = pixels.shape[:2]
    raw = b"".join(b"\0" + row.tobytes() for row in packed(pixels, bits))
    kind = 2 if pixels.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in (
        (b"IHDR", header),
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    ):
        checked = kind + body
        content += struct.pack(">I", len(body)) + checked
        content += struct.pack(">I", zlib.crc32(checked))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def grey_tiff(path, pixels, bits):
    """Write grey of few bits, which Pillow only reads."""
    (height, width), raw = pixels.shape, packed(pixels, bits).tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1}
    tags |= {278: height, 279: len(raw)}
    content = b"II*\0" + struct.pack("<I", 8 + len(raw)) + raw
    content += struct.pack("<H", len(tags))
    for tag, value in tags.items():
        content += struct.pack("<HHII", tag, 4, 1, value)
    path.write_bytes(content + bytes(4))

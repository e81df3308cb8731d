"""What clients send: images of many sizes and formats, and what is no image."""

import dataclasses
import io
import struct
import zlib

import numpy as np
from PIL import Image

SIZES = (  # (width, height): from an icon to a photograph that is decoded alone
    *((16, 16), (32, 90), (64, 64), (150, 100), (224, 224), (320, 240), (37, 501)),
    *((640, 480), (480, 640), (1024, 768), (1600, 1200)),
)
PHOTOGRAPH = (4608, 3456)  # 16 megapixels
FORMATS = (
    ("JPEG", {"quality": 90}),
    ("PNG", {}),
    ("WEBP", {"quality": 80}),
    ("GIF", {}),
    ("BMP", {}),
)
HEAVY = 33 * 2**20  # bytes, over the limit of one image


@dataclasses.dataclass(frozen=True)
class Item:
    """Something that a client sends as an image.

    Attributes:
        name: what it is.
        content: its bytes.
        valid: whether it is an image that is served.
        rare: whether it is sent now and then only, because it is large.
    """

    name: str
    content: bytes
    valid: bool = True
    rare: bool = False


def items(largest: int = 1600) -> list[Item]:
    """All items; of the ordinary ones those with sides of at most `largest`."""
    found = []
    for seed, size in enumerate(s for s in SIZES if max(s) <= largest):
        for kind, options in FORMATS:
            name = f"{kind} {size[0]}x{size[1]}"
            content = _encoded(_picture(*size, seed), kind, **options)
            found.append(Item(name, content))
    return [*found, *_corrupt(), *_large()]


def _picture(width, height, seed):
    """Colours that change slowly, with a little noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 255, (6, 8, 3)).astype("uint8")
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noise = generator.normal(0, 4, (height, width, 1))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype("uint8"))


def _encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _corrupt():
    picture = _picture(320, 240, 99)
    jpeg, png = _encoded(picture, "JPEG"), _encoded(picture, "PNG")
    broken = bytearray(png)
    broken[len(png) // 2] ^= 255
    return [
        Item(f"corrupt: {name}", content, valid=False)
        for name, content in (
            ("empty", b""),
            ("text", b"not an image"),
            ("half a JPEG", jpeg[: len(jpeg) // 2]),
            ("JPEG without its end", jpeg[:-2]),
            ("half a PNG", png[: len(png) // 2]),
            ("a byte of a PNG", bytes(broken)),
            ("half a WebP", _encoded(picture, "WEBP")[:900]),
            ("half a GIF", _encoded(picture, "GIF")[:900]),
            ("TIFF", _encoded(picture, "TIFF")),
            ("PNG that says 30000x30000", _png_that_says(30_000, 30_000)),
            ("PNG that says 9000x9000", _png_that_says(9000, 9000)),
        )
    ]


def _large():
    picture = _picture(*PHOTOGRAPH, 7)
    jpeg = _encoded(picture, "JPEG", quality=85)
    black = _encoded(Image.new("RGB", (7000, 7000)), "PNG")
    return [
        Item("photograph of 16 megapixels", jpeg, rare=True),
        Item("49 megapixels in a PNG of 100 KB", black, rare=True),
        Item("33 MB", jpeg + bytes(HEAVY - len(jpeg)), valid=False, rare=True),
    ]


def _png_that_says(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    found = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000)))):
        check = struct.pack(">I", zlib.crc32(name + content))
        found += struct.pack(">I", len(content)) + name + content + check
    return found

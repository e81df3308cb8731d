"""Encoded images, good and bad, as clients send them."""

import base64
import io
import struct
import zlib

import numpy as np
from PIL import Image, features

from vit_keras.preprocessing import load_image


def picture(width=70, height=50, seed=0):
    """A smooth photograph-like image with noise and edges."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    base = np.stack([rows * 3, columns * 2, rows + columns], -1) % 256
    noise = generator.normal(0, 12, base.shape)
    return Image.fromarray((base + noise).clip(0, 255).astype("uint8"))


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def oriented(value, kind="JPEG"):
    exif = Image.Exif()
    exif[0x0112] = value
    return encoded(picture(), kind, exif=exif)


def png_of(width, height):
    """A PNG whose header promises a size, with little behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000))):
        crc = struct.pack(">I", zlib.crc32(name + content))
        chunks += struct.pack(">I", len(content)) + name + content + crc
    return b"\x89PNG\r\n\x1a\n" + chunks


def resized(jpeg, width, height):
    """A JPEG whose header promises another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def like_webp(gif, width, height):
    """A large GIF that has a small size where WebP has it, behind WebP's signature."""
    found = bytearray(gif)
    found[6:10] = struct.pack("<HH", width, height)
    found[12:16], found[26:30] = b"VP8 ", struct.pack("<HH", 70, 50)
    return bytes(found)


def good_items():
    """What evaluation reads as well, by name."""
    rgb, other = picture(), picture(seed=1)
    grey16 = Image.fromarray((np.arange(3500).reshape(50, 70) * 18).astype("uint16"))
    return {
        "jpeg": encoded(rgb, quality=90),
        "progressive": encoded(rgb, progressive=True, quality=80),
        "4:4:4": encoded(rgb, subsampling=0),
        "grey jpeg": encoded(rgb.convert("L")),
        "cmyk": encoded(rgb.convert("CMYK")),
        "png": encoded(rgb, "PNG"),
        "alpha": encoded(rgb.convert("RGBA"), "PNG"),
        "palette": encoded(rgb.quantize(16), "PNG"),
        "transparent palette": encoded(rgb.quantize(16), "PNG", transparency=3),
        "grey png": encoded(rgb.convert("L"), "PNG"),
        "grey and alpha": encoded(rgb.convert("LA"), "PNG"),
        "one bit": encoded(rgb.convert("1"), "PNG"),
        "16 bits": encoded(grey16, "PNG"),
        "animated png": encoded(rgb, "PNG", save_all=True, append_images=[other]),
        "gif": encoded(rgb.quantize(64), "GIF"),
        "animated": encoded(
            rgb.quantize(64),
            "GIF",
            save_all=True,
            append_images=[other.quantize(64)],
        ),
        "bmp": encoded(rgb, "BMP"),
        "grey bmp": encoded(rgb.convert("L"), "BMP"),
        "palette bmp": encoded(rgb.quantize(16), "BMP"),
        "alpha bmp": encoded(rgb.convert("RGBA"), "BMP"),
        "webp": encoded(rgb, "WEBP", lossless=True),
        "lossy webp": encoded(rgb, "WEBP", quality=80),
        "alpha webp": encoded(rgb.convert("RGBA"), "WEBP", lossless=True),
        "odd sides": encoded(picture(71, 53)),
        "more behind it": encoded(rgb) + b"junk",
        "one pixel": encoded(picture(1, 1), "PNG"),
        "large": encoded(picture(900, 700)),
        **{f"orientation {i}": oriented(i) for i in range(1, 9)},
        "orientation of a png": oriented(6, "PNG"),
    }


def bad_items():
    """What is damaged, too large or of another format, by name."""
    rgb = picture()
    jpeg, png = encoded(rgb), encoded(rgb, "PNG")
    broken = bytearray(png)
    broken[60] ^= 255
    packed = bytearray(encoded(rgb.quantize(16), "BMP"))
    packed[30] = 1  # run lengths, which TensorFlow would read as pixels
    found = {
        "empty": b"",
        "zero bytes": b"\0" * 1000,
        "junk": b"not an image",
        "base64": base64.b64encode(jpeg),
        "truncated jpeg": jpeg[: len(jpeg) // 2],
        "jpeg header": jpeg[:4],
        "jpeg without end": jpeg[:-2],
        "jpeg without tables": jpeg.replace(b"\xff\xdb", b"\xff\xef"),
        "large jpeg": resized(jpeg, 9000, 9000),
        "truncated png": png[: len(png) // 2],
        "broken png": bytes(broken),
        "png signature": png[:8],
        "truncated gif": encoded(rgb.quantize(16), "GIF")[:1000],
        "truncated webp": encoded(rgb, "WEBP")[:500],
        "truncated bmp": encoded(rgb, "BMP")[:500],
        "packed bmp": bytes(packed),
        "tiff": encoded(rgb, "TIFF"),
        "animated webp": encoded(
            rgb, "WEBP", save_all=True, append_images=[picture(seed=1)]
        ),
        "huge png": png_of(30000, 30000),
        "large png": png_of(9000, 9000),
        "strip": encoded(picture(20000, 1), "PNG"),
        "huge bmp": b"BM" + b"\0" * 16 + struct.pack("<ii", 50000, 50000) + b"\0" * 99,
        "huge gif": b"GIF89a" + struct.pack("<HH", 65000, 65000) + b"\0" * 99,
        "gif like webp": like_webp(encoded(rgb.quantize(16), "GIF"), 9000, 9000),
        "huge webp": b"RIFF\0\0\0\0WEBPVP8X"
        + b"\x0a\0\0\0\0\0\0\0"
        + b"\xff\xff\x00" * 2
        + b"\0" * 99,
        "text": "ein Bild".encode("utf-16"),
    }
    if features.check("avif"):
        found["avif"] = encoded(rgb, "AVIF")
    return found


def evaluated(item, size, rules):
    """The pixels that evaluation sees of an encoded image."""
    return load_image(item, size, rules)

"""Files made to harm whoever reads them: bombs, code, ways to other files, loops.

Each function writes files into a folder, for a reader of `READERS`. Beside the folder
is another, `outside`, with files that must be neither read nor changed; a file `made`
there shows that code ran.
"""

import copy
import io
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from . import seed_files as seeds
from .seed_files import write

BRACKETS = b"[" * 100_000 + b"]" * 100_000
OBJECTS = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


class Attack(NamedTuple):
    """An attack.

    Attributes:
        name: what it tries.
        reader: a name in `READERS`.
        make: function of the folder and of the one outside.
        refused: whether it must be refused; else reading it may do no harm.
    """

    name: str
    reader: str
    make: Callable[[pathlib.Path, pathlib.Path], object]
    refused: bool = True


def zeros(megabytes: int) -> tuple[bytes, int]:
    """Return (a raw deflate stream of zeros, their checksum)."""
    piece = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(megabytes):
        crc = zlib.crc32(piece, crc)
    return one * megabytes + packer.flush(), crc


def bomb(path: pathlib.Path, members: dict[str, bytes], name: str, megabytes: int):
    """Write a zip archive with a member that is unpacked to zeros.

    Arguments:
        members: the others; the one of this name begins the large one.
    """
    start = members.pop(name, b"")
    packed, _ = zeros(megabytes)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH) + packed
    crc, piece = zlib.crc32(start), bytes(1 << 20)
    for _ in range(megabytes):
        crc = zlib.crc32(piece, crc)
    size, at = len(start) + (megabytes << 20), 0
    with path.open("wb") as file:
        raw = name.encode()
        sizes = (crc, len(packed), size, len(raw))
        file.write(struct.pack("<IHHHHHIIIHH", 0x4034B50, 20, 0, 8, 0, 0, *sizes, 0))
        file.write(raw + packed)
        central = struct.pack(
            "<IHHHHHHIIIHHHHHII",
            0x2014B50,
            20,
            20,
            0,
            8,
            0,
            0,
            *sizes,
            0,
            0,
            0,
            0,
            0,
            at,
        )
        at = file.tell()
        file.write(central + raw)
        file.write(
            struct.pack("<IHHHHIIH", 0x6054B50, 0, 0, 1, 1, file.tell() - at, at, 0)
        )
    with zipfile.ZipFile(path, "a") as archive:
        for other, content in members.items():
            archive.writestr(other, content)


def same_bytes(path: pathlib.Path, members: dict[str, bytes], times: int):
    """Write a zip archive with an array of zeros, and its bytes under more names."""
    path.write_bytes(zipped(members))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.npy", npy_header("(1048576,)", "'|u1'") + bytes(1 << 20))
        for number in range(1, times):
            other = copy.copy(archive.getinfo("0.npy"))
            other.filename = f"{number}.npy"
            archive.filelist.append(other)


def members_of(content: bytes) -> dict[str, bytes]:
    """Return {name: content} of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npy_header(shape: str, descr: str = "'<f4'") -> bytes:
    """Return the header of an `.npy` file of any shape and dtype."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


class Runs:
    """Pickles as a call that creates a file."""

    def __init__(self, outside: pathlib.Path):
        self.command = f"touch {outside / 'made'}"

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def npz(name: str, member: str, content: Callable[[pathlib.Path], bytes]):
    """An archive of NumPy with one array, by a function of the folder outside."""
    return lambda folder, outside: (folder / name).write_bytes(
        zipped({member: content(outside)})
    )


def file(name: str, content: bytes | Callable[[pathlib.Path], bytes]):
    """One file, by its content or a function of the folder outside."""

    def make(folder, outside):
        data = content if isinstance(content, bytes) else content(outside)
        write({name: data}, folder)

    return make


def beside(files: Callable[[], seeds.Files], name: str, content):
    """Whole files, of which one is replaced."""

    def make(folder, outside):
        data = content if isinstance(content, bytes) else content(outside)
        write({**files(), name: data}, folder)

    return make


def sparse(name: str, gigabytes: int = 10, start: bytes = b""):
    """A file of one line, which takes no room on the disk."""

    def make(folder, outside):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(start)
        with path.open("r+b") as stream:
            stream.truncate(gigabytes << 30)

    return make


# --- Pictures --------------------------------------------------------------------


def picture(kind: str, side: int, mode: str = "RGB", **how) -> bytes:
    """Return an image of one colour."""
    stream = io.BytesIO()
    Image.new(mode, (side, side)).save(stream, kind, **how)
    return stream.getvalue()


def png_of(width: int, height: int, content: bytes = b"") -> bytes:
    """Return a PNG whose header promises a size, with little behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for name, data in ((b"IHDR", header), (b"IDAT", content), (b"IEND", b"")):
        crc = struct.pack(">I", zlib.crc32(name + data))
        chunks += struct.pack(">I", len(data)) + name + data + crc
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_zeros(outside) -> bytes:
    """A PNG of 169 million black pixels in half a megabyte."""
    packed, _ = zeros(508)
    body = b"\x78\xda" + packed + b"\0\0\0\0"
    return png_of(13_000, 13_000, body)


def postscript(outside) -> bytes:
    """A program, which Ghostscript would run to draw it."""
    made = outside / "made"
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n"
        + f"({made}) (w) file closefile\n".encode()
        + b"showpage\n%%EOF\n"
    )


def symlink(name: str, target: str):
    """A link out of the folder, under the name of the file."""

    def make(folder, outside):
        (outside / target).write_bytes(b"root:x:0:0\n" * 5)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(outside / target)

    return make

"""Changes of files, as a broken disk, another writer or an attacker would make them.

Bytes are changed anywhere, and by what a file is made of: members of a zip archive with
right checksums, values of JSON, lines of text, words of a header, objects of a
flatbuffer or protocol buffer. Each function takes a `random.Random`, so that a seed
gives the same file again.
"""

import io
import json
import pathlib
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

from .byte_mutations import EDGES, damage, of_bytes
from .model_mutations import of_flatbuffer, of_records, of_saved_model

# What may stand in JSON, also what Python alone reads and writes.
VALUES = (
    *("null", "true", "false", "0", "-1", "1", "2.5", "1e999", "-1e999", "NaN"),
    *('""', '"a"', '"\\u0000"', '"\\ud800"', "[]", "{}", "[0]", '{"a": 1}'),
    *("9" * 30, "9" * 5000, "1e-400", '"' + "x" * 5000 + '"', "[" * 2000 + "]" * 2000),
    *('"../../etc/passwd"', '"/etc/passwd"', "[[]]", "[null]", "[1, 2, 3, 4, 5]"),
)
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[][{},:]')
PIECES = (b"\0", b"\xff", b"\r", b"\n\n", b"\t", b",", b";", b"|", b":", b'"', b"#")
PIECES += (b"\xef\xbb\xbf", b"\xc3", b"-1", b"1e999", b"nan", b"../", b"x" * 10_000)


def mutate(data: bytes, kind: str, draw: random.Random) -> bytes:
    """Return a changed file.

    Arguments:
        data: the file, or one that was changed before.
        kind: what it is made of, a name in `KINDS`; "bytes" for anything.
        draw: all that is random.
    """
    if kind != "bytes" and draw.random() < 0.75:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return KINDS[kind](data, draw)
        except Exception:  # so damaged by now that nothing of its kind is found in it
            pass
    return of_bytes(data, draw)


def of_json(data: bytes, draw: random.Random) -> bytes:
    """Replace values and keys, repeat them, or nest them deeply."""
    places = [m.span() for m in TOKEN.finditer(data)]
    start, end = draw.choice(places)
    old = data[start:end]
    new = draw.choice((draw.choice(VALUES), str(draw.choice(EDGES)))).encode()
    way = draw.randrange(6)
    if way == 0:
        new = old + b", " + old
    elif way == 1:
        new = b""
    elif way == 2:  # a key or value that stands elsewhere in the file
        other = draw.choice(places)
        new = data[other[0] : other[1]]
    elif way == 3 and old in b"{[":  # a whole value of another type
        value = json.loads(data)
        node, key = _inner(value, draw)
        node[key] = json.loads(draw.choice(VALUES))
        return json.dumps(value).encode("utf-8", "surrogatepass")
    elif way == 4 and old == b"{":  # a key twice
        new = b'{"' + draw.choice(list(json.loads(data))).encode() + b'": null,'
    return data[:start] + new + data[end:]


def _inner(value: Any, draw: random.Random) -> tuple[Any, Any]:
    """A random (container, key) in plain data."""
    found, waiting = [], [value]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                waiting.append(node[key])
    return draw.choice(found)


def of_text(data: bytes, draw: random.Random) -> bytes:
    """Change lines: remove, repeat, exchange, or put something into one."""
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    way = draw.randrange(5)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines[at:at] = [lines[at]] * draw.choice((1, 2, 300))
    elif way == 2:
        other = draw.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        place = draw.randrange(len(lines[at]) + 1)
        new = draw.choice((*PIECES, str(draw.choice(EDGES)).encode()))
        lines[at] = lines[at][:place] + new + lines[at][place + way - 3 :]
    return b"\n".join(lines)


def of_json_lines(data: bytes, draw: random.Random) -> bytes:
    """Change one line as JSON, or the lines."""
    if draw.random() < 0.4:
        return of_text(data, draw)
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    lines[at] = of_json(lines[at], draw)
    return b"\n".join(lines)


def of_npy(data: bytes, draw: random.Random) -> bytes:
    """Change the header, a text of Python, and give it the length that it says."""
    size = struct.unpack_from("<H", data, 8)[0]
    header, rest = data[10 : 10 + size].rstrip(), data[10 + size :]
    ways = (b"(2,", b"(-1,", b"(1000000000000,", b"()", b"O", b"V2", b"<U4", b"<f9")
    ways += (b"True", b"'", b"(" * 300, b"<M8[s]", b"|S0", b"0x10", b"[('a','O')]")
    words = [m.span() for m in re.finditer(rb"\([^)]*\)|'[^']*'|\w+", header)]
    start, end = draw.choice(words)
    header = header[:start] + draw.choice(ways) + header[end:] + b"\n"
    return data[:8] + struct.pack("<H", len(header)) + header + rest


def of_safetensors(data: bytes, draw: random.Random) -> bytes:
    """Change the header as JSON, and give it the length that it says."""
    (size,) = struct.unpack_from("<Q", data)
    header = of_json(data[8 : 8 + size], draw)
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def of_zip(data: bytes, draw: random.Random) -> bytes:
    """Change one member, its name, or how it is stored; checksums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [[m.filename, archive.read(m)] for m in archive.infolist()]
    at, way = draw.randrange(len(members)), draw.randrange(8)
    name, content = members[at]
    how = zipfile.ZIP_STORED
    if way == 0:
        del members[at]
    elif way == 1:
        members.append([name, mutate(content, member_kind(name), draw)])
    elif way == 2:
        other = draw.choice(members)[0]
        members[at][0] = draw.choice((f"../{name}", f"/{name}", name + "\0", other))
    elif way == 3:
        how = draw.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    else:
        members[at][1] = mutate(content, member_kind(name), draw)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def member_kind(name: str) -> str:
    """What a member of an archive is made of, by its name."""
    kinds = {".json": "json", ".npy": "npy", ".txt": "text", ".pkl": "pickle"}
    return kinds.get(pathlib.PurePath(name).suffix, "bytes")


# Whole opcodes, and arguments of those that build tensors.
OPCODES = tuple(
    bytes([byte]) for byte in b"()]}.0125NRabesltuQ\x81\x85\x86\x87\x88\x94"
)
OPCODES += (b"K\x03", b"h\x00", b"q\x00", b"X\x01\0\0\0a", b"cos\nsystem\n")
OPCODES += (b"M\xff\xff", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f")


def of_pickle(data: bytes, draw: random.Random) -> bytes:
    """Put opcodes in, at the places of others."""
    return damage(
        data, [(draw.random(), draw.randrange(3), draw.choice(OPCODES)) for _ in "ab"]
    )


KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": of_json,
    "json_lines": of_json_lines,
    "text": of_text,
    "npy": of_npy,
    "safetensors": of_safetensors,
    "zip": of_zip,
    "pickle": of_pickle,
    "flatbuffer": of_flatbuffer,
    "saved_model": of_saved_model,
    "records": of_records,
}

"""Changes of bytes anywhere in a file."""

import random
from collections.abc import Sequence

# Numbers at which sizes, offsets, counts and signs go wrong.
EDGES = (0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 65535, 65536, 2**24)
EDGES += (2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, -(2**63))


def damage(data: bytes, cuts: Sequence[tuple[float, int, bytes]]) -> bytes:
    """Replace bytes: cuts are (place in [0, 1), number removed, what comes there)."""
    changed = bytearray(data)
    for place, removed, new in cuts:
        at = int(place * len(changed))
        changed[at : at + removed] = new
    return bytes(changed)


def of_bytes(data: bytes, draw: random.Random) -> bytes:
    """Change bytes: one to four times, anywhere or near the ends."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        place = draw.choice((draw.random(), draw.random() ** 8, 1 - draw.random() ** 8))
        place = min(place, 1 - 1e-9)
        at = int(place * len(data))
        way = draw.randrange(7)
        if way == 0:
            data = data[:at]
        elif way == 1:  # a flipped bit
            byte = data[at : at + 1] or b"\0"
            data = damage(data, [(place, 1, bytes([byte[0] ^ 1 << draw.randrange(8)]))])
        elif way == 2:  # a number: a length, an offset
            size = draw.choice((1, 2, 4, 8))
            number = draw.choice(EDGES) % 256**size
            new = number.to_bytes(size, draw.choice(("little", "big")))
            data = damage(data, [(place, size, new)])
        elif way == 3:
            data = damage(data, [(place, draw.randrange(64), b"")])
        elif way == 4:
            data = damage(data, [(place, 0, data[at : at + draw.randrange(1, 64)])])
        elif way == 5:
            new = draw.randbytes(draw.randrange(1, 9))
            data = damage(data, [(place, draw.randrange(9), new)])
        else:
            size = draw.choice((4, 16, 256))
            data = damage(data, [(place, size, draw.choice((b"\0", b"\xff")) * size)])
    return data

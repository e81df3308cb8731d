"""Text and JSON of a user's files, of a bounded size and depth."""

import json
import os
import stat
from typing import Any

# Bytes. ImageNet's 1000 names are 30 kB, COCO's masks of 118,000 images 450 MB.
MOST, MOST_OF_DATA = 1 << 26, 1 << 31
MOST_BITS = 64  # of whole numbers in JSON; Python's own have no limit


def read_text(path: str | os.PathLike[str], most: int = MOST) -> str:
    """Read a text file in UTF-8, with or without a mark of it at the start.

    Arguments:
        path: of the file.
        most: largest size in bytes.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is larger, or no text in UTF-8.
    """
    check_size(path, most)
    content = bytearray()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):  # what is no regular file has no size
            content += piece
            if len(content) > most:
                raise ValueError(
                    f"'{path}' must have at most {most:,} bytes. It has more"
                )
    try:
        text = content.decode("utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")  # as Python's files do
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' must be text in UTF-8: {error}") from error


def read_json(
    path: str | os.PathLike[str], most: int = MOST, most_bits: int = MOST_BITS
) -> Any:
    """Read a JSON file.

    Arguments:
        path, most: as for `read_text`.
        most_bits: of whole numbers.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is no JSON in UTF-8, is larger, nested too deeply, or has whole
            numbers of more bits.
    """
    return parse_json(read_text(path, most), f"'{path}'", most_bits)


def parse_json(text: str | bytes, name: str, most_bits: int = MOST_BITS) -> Any:
    """Parse JSON; raises a ValueError with the name of the source, as `read_json`."""

    def whole_number(digits):
        number = int(digits)
        if number.bit_length() > most_bits:
            raise ValueError(f"a number of {len(digits)} digits")
        return number

    try:
        return json.loads(text, parse_int=whole_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON that can be read: {error}") from error


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what is no file in a folder of files: a pipe blocks whoever opens it.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is a pipe, a device, a socket or a folder.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"'{path}' is no regular file")


def check_size(path: str | os.PathLike[str], most: int) -> None:
    """Refuse a file above a size.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is larger.
    """
    size = os.stat(path).st_size
    if size > most:
        raise ValueError(f"'{path}' must have at most {most:,} bytes. It has {size:,}")

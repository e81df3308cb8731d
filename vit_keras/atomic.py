"""Files that appear whole or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

PREFIX = ".partial-"


@contextlib.contextmanager
def staged(path) -> Iterator[pathlib.Path]:
    """A path to write to, which becomes `path` at the end of the block.

    It lies beside `path` and has its suffix. If the block raises, nothing of it stays,
    and what was at `path` before is untouched.
    """
    path = pathlib.Path(path)
    beside = path.with_name(f"{PREFIX}{os.getpid()}-{path.name}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def leftovers(folder) -> list[pathlib.Path]:
    """Files in a folder that a killed process did not get to finish."""
    return sorted(pathlib.Path(folder).glob(f"{PREFIX}*"))

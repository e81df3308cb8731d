"""Files and folders that appear whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

PREFIX = ".partial-"


@contextlib.contextmanager
def workspace(path) -> Iterator[pathlib.Path]:
    """A path of the same name on the same disk, in a folder that is removed at the end.

    Raises:
        FileNotFoundError: the folder of `path` does not exist.
        OSError: the folder cannot be written to.
    """
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder '{path.parent}' does not exist")
    work = tempfile.mkdtemp(prefix=f"{PREFIX}{path.name}.", dir=path.parent)
    try:
        yield pathlib.Path(work, path.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def publishing(path) -> Iterator[pathlib.Path]:
    """A path to write to, which becomes `path` at the end of the block.

    If the block raises, nothing of it stays, and what was at `path` before is
    untouched.
    """
    path = pathlib.Path(path)
    with workspace(path) as work:
        yield work
        if path.is_dir() and work.is_dir():  # only an empty folder can be replaced
            shutil.rmtree(path)
        os.replace(work, path)


def remove(path: pathlib.Path):
    """Remove a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def leftovers(folder) -> list[pathlib.Path]:
    """What a killed process did not get to finish in a folder."""
    return sorted(pathlib.Path(folder).glob(f"{PREFIX}*"))

"""Files and folders that appear whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

PREFIX = ".partial-"


@contextlib.contextmanager
def workspace(path, folder: bool = False) -> Iterator[pathlib.Path]:
    """A path of the same name on the same disk, in a folder that is removed at the end.

    Arguments:
        path: where the result will stand in the end.
        folder: whether that is a folder, not a file.

    Raises:
        FileNotFoundError: the folder of `path` does not exist.
        NotADirectoryError, IsADirectoryError: a file is where a folder should be, or a
            folder where a file should be.
        OSError: the folder cannot be written to, or the name is too long for it.
    """
    path = pathlib.Path(path)
    if path.parent.is_file():
        raise NotADirectoryError(f"'{path.parent}' is a file, not a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder '{path.parent}' does not exist")
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)  # refuses a name that is too long
    if path.is_dir() and not folder:
        raise IsADirectoryError(f"'{path}' is a folder; name a file in it")
    if path.is_file() and folder:
        raise NotADirectoryError(f"'{path}' is a file; name a folder")
    work = tempfile.mkdtemp(prefix=f"{PREFIX}{path.name[:64]}.", dir=path.parent)
    try:
        yield pathlib.Path(work, path.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def publishing(path, folder: bool = False) -> Iterator[pathlib.Path]:
    """A path to write to, which becomes `path` at the end of the block.

    If the block raises, nothing of it stays, and what was at `path` before is
    untouched. Arguments and errors are those of `workspace`.
    """
    path = pathlib.Path(path)
    with workspace(path, folder) as work:
        yield work
        if folder and path.is_dir():  # only an empty folder can be replaced
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

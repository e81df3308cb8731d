"""Atomic writing of files and folders, and locks of folders."""

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

PREFIX = ".partial-"
LOCK = ".lock"  # name of the file that `lock` is for


@contextlib.contextmanager
def workspace(path, folder: bool = False) -> Iterator[pathlib.Path]:
    """Yield a path of the same name and disk, in a folder that is removed at the end.

    Arguments:
        path: final path of the result.
        folder: whether the result is a folder, not a file.

    Raises:
        FileNotFoundError: the folder of `path` does not exist.
        NotADirectoryError, IsADirectoryError: there is a file instead of a folder, or a
            folder instead of a file.
        OSError: the folder cannot be written to, or the name is too long for it.
    """
    path = pathlib.Path(path)
    if path.parent.is_file():
        raise NotADirectoryError(f"'{path.parent}' is a file, not a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder '{path.parent}' does not exist")
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)  # raises if the name is too long
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
    """Yield a path to write to, which is renamed to `path` at the end of the block.

    If the block raises, its files are removed, and `path` stays unchanged. Arguments
    and errors are those of `workspace`.
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
    """Return unfinished files and folders of killed processes in a folder."""
    return sorted(pathlib.Path(folder).glob(f"{PREFIX}*"))


def lock(file: IO) -> bool:
    """Lock an open file until it is closed, or the process ends, even killed.

    Returns:
        Whether it is locked now; no, if it is open elsewhere, and locked.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX, Windows
        return False
    return True

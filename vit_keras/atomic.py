"""Atomic writing of files and folders, and locks of folders."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO

PREFIX = ".partial-"
LOCK = ".lock"  # name of the file that `lock` is for


@contextlib.contextmanager
def workspace(path, folder: bool = False) -> Iterator[pathlib.Path]:
    """Yield a path of the same name and disk, in a folder that is removed at the end.

    What killed processes have left beside it is removed first.

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
    remove_leftovers(path.parent)
    work, held = _locked_folder(path)
    try:
        yield work / path.name
    finally:
        held.close()
        shutil.rmtree(work, ignore_errors=True)


def _locked_folder(path):
    """Make a hidden folder beside a path, and lock it for this process.

    Returns:
        (its path, the open file that holds the lock).
    """
    while True:
        prefix = f"{PREFIX}{path.name[:64]}."
        work = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        try:
            held = (work / LOCK).open("xb")
        except FileNotFoundError:  # taken for a leftover before it was locked
            continue
        except OSError:
            shutil.rmtree(work, ignore_errors=True)
            raise
        with contextlib.suppress(OSError):  # a disk without locks
            lock(held)
        if (work / LOCK).exists():
            return work, held
        held.close()


@contextlib.contextmanager
def publishing(path, folder: bool = False) -> Iterator[pathlib.Path]:
    """Yield a path to write to, which is renamed to `path` at the end of the block.

    If the block raises, its files are removed, and `path` stays unchanged. Arguments
    and errors are those of `workspace`.
    """
    path = pathlib.Path(path)
    with workspace(path, folder) as work:
        yield work
        if folder and path.is_dir():
            _replace_folder(work, path)
        else:
            os.replace(work, path)


# Flags of the calls that exchange two names in one step, and what they are called.
EXCHANGE = {"linux": ("renameat2", (-100, -100), 2), "darwin": ("renamex_np", (), 2)}


def _replace_folder(work, path):
    """Replace a folder by another, which no call but an exchange does in one step.

    The old one is then where the new one was. Where the system, or the disk, exchanges
    nothing, it is moved there first, and back if the new one cannot take its name.
    """
    if _exchange(os.fsencode(work), os.fsencode(path)):
        return
    aside = work.with_name(f"{work.name}.old")
    os.replace(path, aside)
    try:
        os.replace(work, path)
    except BaseException:
        os.replace(aside, path)
        raise


def _exchange(a: bytes, b: bytes) -> bool:
    """Exchange two names; return whether it was done."""
    name, folders, flag = EXCHANGE.get(sys.platform, ("", (), 0))
    call = getattr(ctypes.CDLL(None), name, None) if name else None
    if call is None:
        return False
    names = (*folders[:1], a, *folders[1:], b)  # names in the working directory
    return call(*names, flag) == 0


def publish_together(works: Mapping[pathlib.Path, pathlib.Path]) -> None:
    """Rename files that belong together, so that those of two runs never are side by
    side, wherever the process is killed and if two processes do it at once.

    Arguments:
        works: {final path: file or folder in a `workspace`}. The older ones under the
            names of all but the first are gone before the first appears; they are put
            back if it cannot.

    Raises:
        OSError: a file cannot be renamed.
    """
    (first, work), *others = works.items()
    aside = {path: part.with_name(f"{part.name}.old") for path, part in others}
    with _alone_in(first.parent):
        try:
            for path, old in aside.items():
                with contextlib.suppress(FileNotFoundError):
                    os.replace(path, old)
            os.replace(work, first)
        except BaseException:
            for path, old in aside.items():
                with contextlib.suppress(OSError):
                    os.replace(old, path)
            raise
        for path, part in others:
            os.replace(part, path)


@contextlib.contextmanager
def _alone_in(folder):
    """Wait until no other process renames files together in a folder.

    It is the folder that is locked, which needs no file; Windows cannot.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a disk without locks
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def remove(path: pathlib.Path):
    """Remove a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder) -> None:
    """Remove a folder's unfinished files of killed processes; those of living ones are
    locked."""
    for name in os.listdir(folder):  # of many files, while each of them is written
        if name.startswith(PREFIX):
            with contextlib.suppress(OSError):  # not to be removed, or gone by now
                _remove_leftover(pathlib.Path(folder, name))


def _remove_leftover(part):
    try:
        with (part / LOCK).open("r+b") as file:
            if not lock(file):
                return
            remove(part)  # before it is free
    except (FileNotFoundError, NotADirectoryError):
        # Without a lock it is of an earlier release, or made in this moment: empty.
        if part.is_dir() and not any(part.iterdir()):
            part.rmdir()
        elif not (part / LOCK).exists():
            remove(part)
    else:
        remove(part)  # Windows removes no folder with an open file


def check_writable(out: pathlib.Path) -> None:
    """Create a folder of results, test writing, and delete leftovers of a killed run.

    Raises:
        OSError: it cannot be created or written to.
    """
    _make_writable(out)
    remove_leftovers(out)


def _make_writable(out):
    probe = out / ".probe"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"`out` must be a folder that can be written to: {error}"
        ) from error


@contextlib.contextmanager
def sole_writer(out: pathlib.Path, what: str) -> Iterator[None]:
    """Hold a folder of results for one process: two would go on from each other's.

    What killed processes have left in it is removed.

    Arguments:
        out: the folder, made if it does not exist; it has a file `.lock` meanwhile.
        what: is written there, as "each report".

    Raises:
        BlockingIOError: another process writes there.
        OSError: as in `check_writable`.
    """
    _make_writable(out)
    path = out / LOCK
    while True:
        with path.open("ab") as file:
            if not lock(file):
                raise BlockingIOError(
                    f"`out` must be a folder of its own for {what} that is being "
                    f"written. Received: '{out}', where another process writes one"
                )
            if not path.exists() or not os.path.samestat(
                os.fstat(file.fileno()), path.stat()
            ):
                continue  # the other process has just ended, and removed it
            try:
                remove_leftovers(out)
                yield
            finally:
                with contextlib.suppress(OSError):  # Windows removes no open file
                    path.unlink()
            return


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

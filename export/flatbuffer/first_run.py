"""The first run of a `.tflite` file: in a child process, unless it was made here.

LiteRT is C++ that trusts its files, and a damaged one ends the process. What ends the
child is refused in words; its memory and time are bounded.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..child_process import answer, run_check
from .metadata import DAMAGED
from .objects import check_signatures

SECONDS = 600
# Address space that a file may take beside its process, and more per byte of it.
MEMORY, MEMORY_PER_BYTE = 8 << 30, 32

_known: set[tuple] = set()  # files that ran, or were made, in this process
_making = 0


def check_first_run(path: str | os.PathLike[str], delegates: bool = True) -> None:
    """Open a `.tflite` file and run it on zeros, in a child process, once.

    Errors of the file that LiteRT raises are not raised here: opening it does.

    Arguments:
        path: of the file.
        delegates: whether with XNNPACK, as by default.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: LiteRT ends its process at it, does not come to an end, or takes
            far more memory than it has bytes.
        ChildProcessError: the child was killed from outside.
    """
    identity = (*_identity(path), delegates)
    if _making or identity[:-1] in _known or identity in _known:
        return
    if getattr(sys, "frozen", False):  # `sys.executable` is a program, not Python
        return
    function = f"{__name__}:{(_run if delegates else _run_without_delegates).__name__}"
    try:
        found, said = run_check(function, path, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ValueError(
            f"LiteRT cannot run '{path}': no end after {SECONDS} s"
        ) from error
    except MemoryError as error:
        gigabytes = _most(path) >> 30
        raise ValueError(
            f"LiteRT cannot run '{path}': it takes more memory than there is, or than "
            f"the {gigabytes} GiB that a file of its size may"
        ) from error
    if not found:
        words = [line for line in said.splitlines() if not line.startswith("INFO:")]
        raise ValueError(
            f"LiteRT cannot run '{path}': it ends the process, as at a damaged file"
            + "".join(f": {line.strip()}" for line in words[-1:])
        )
    if found["damage"]:
        raise ValueError(f"LiteRT cannot run '{path}': {found['damage']}")
    _known.add(identity)


@contextlib.contextmanager
def making_files() -> Iterator[None]:
    """Open files meanwhile as they are: this process makes them."""
    global _making
    _making += 1
    try:
        yield
    finally:
        _making -= 1


def made_here(path: str | os.PathLike[str]) -> None:
    """Note that this process made a file: it needs no first run."""
    _known.add(_identity(path))


def _identity(path):
    """What stays the same while nobody writes to a file, under whatever name."""
    about = os.stat(path)
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def _most(path):
    return MEMORY + MEMORY_PER_BYTE * os.stat(path).st_size


def _run_without_delegates(path):
    _run(path, False)


def _run(path, delegates=True):
    """Run a file in this process, which may end here."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        _bound_memory(path)
    options: dict[str, Any] = {}
    try:
        check_signatures(pathlib.Path(path).read_bytes())
    except DAMAGED as error:
        answer(damage=f"it is no TFLite file, or damaged: {error}")
        return
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        if not delegates:
            plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            options = {"experimental_op_resolver_type": plain}
            options["experimental_preserve_all_tensors"] = True
        interpreter = Interpreter(model_path=str(path), **options)
        for name in interpreter.get_signature_list():
            interpreter.get_signature_runner(name)
        interpreter.allocate_tensors()
        for entry in interpreter.get_input_details():
            zeros = np.zeros(entry["shape"], entry["dtype"])
            interpreter.set_tensor(entry["index"], zeros)
        interpreter.invoke()
        for end in interpreter.get_output_details():
            interpreter.get_tensor(end["index"])
    except MemoryError:
        raise
    except Exception:  # with LiteRT's words, for who opens the file
        pass
    answer(damage="")


def _bound_memory(path):
    import resource  # which Windows has not

    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limit = used + _most(path)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

"""Child processes: they end with their parent, and one that was killed says nothing.

Runtimes that abort, or only write to stderr, are run in one.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

# What ends a process from outside: the user, or a system without memory.
OUTSIDE = ("SIGHUP", "SIGINT", "SIGKILL", "SIGTERM")
NO_MEMORY = ("MemoryError", "std::bad_alloc", "Cannot allocate memory")
# Linux kills a process with its parent if it asks for that (PR_SET_PDEATHSIG).
EXECUTE = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGKILL); "
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])"
)


def python_command(code: str, *arguments: str) -> list[str]:
    """Return a command for `run_child`: Python code, which ends with this process."""
    # It finds modules where this process does, but not in the working directory, which
    # may have some of the same names as others.
    places = [*filter(None, sys.path), str(pathlib.Path(__file__).parents[1])]
    code = f"import {__name__} as own; own.end_with_parent(); {code}"
    code = f"import sys; sys.path[:] = {places!r}; {code}"
    return [sys.executable, "-P", "-c", code, *arguments]


def program_command(path: str, *arguments: str) -> list[str]:
    """Return a command for `run_child`: a program, which on Linux ends with this
    process."""
    if sys.platform != "linux":
        return [path, *arguments]
    return [sys.executable, "-S", "-c", EXECUTE, str(os.getpid()), path, *arguments]


def run_child(
    command: Sequence[str],
    what: str,
    *,
    environment: Mapping[str, str] | None = None,
    folder: str | None = None,
    timeout: float | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a child process, and return its status and what it wrote.

    Arguments:
        command: from `python_command` or `program_command`.
        what: the process, in words.
        environment: its environment variables; None for those of this process.
        folder: its working directory; None for that of this process.
        timeout: seconds after which it is killed; None for never.

    Raises:
        ChildProcessError: it was killed.
        subprocess.TimeoutExpired: it took longer.
    """
    theirs, ours = os.pipe()  # closed when this process ends, even if it is killed
    try:
        done = subprocess.run(
            command,
            stdin=theirs,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            cwd=folder,
            timeout=timeout,
        )
    finally:
        os.close(theirs)
        os.close(ours)
    check_not_killed(what, done.returncode)
    return done


def check_not_killed(what: str, status: int) -> None:
    """Check that a child process ended by itself: what it has not said is no finding.

    Arguments:
        what: the process, in words.
        status: its exit status, -N if signal N ended it.

    Raises:
        ChildProcessError: it was killed.
    """
    for name in OUTSIDE:
        if status and status == -getattr(signal, name, 0):  # Windows has two of them
            raise ChildProcessError(
                f"{what} was ended from outside by {name}, as by a system whose memory "
                "is too small; the same command can be given again"
            )


def end_with_parent() -> None:
    """Have SIGTERM sent to this process when its parent ends, even if that is killed.

    The parent has given it a pipe as stdin that nobody writes to.
    """

    def wait():
        with contextlib.suppress(OSError):
            os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def run_check(function, path, environment=None, timeout: float | None = 600):
    """Run a function of a path, "module:name", and return the JSON it prints last.

    Returns:
        (dict, stderr); if it failed, an empty dict and all its output.

    Raises:
        ChildProcessError: it was killed, which says nothing about the file.
        MemoryError: nor does this.
    """
    module, name = function.split(":")
    done = run_child(
        python_command(f"from {module} import {name}; {name}(sys.argv[1])", str(path)),
        f"the process that runs '{path}'",
        environment=environment,
        timeout=timeout,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = done.stdout + done.stderr
        if any(words in said for words in NO_MEMORY):
            raise MemoryError(f"the process that runs '{path}' had too little")
        return {}, said
    return json.loads(lines[-1]), done.stderr


def answer(**values):
    """Print the result of a check in the child process."""
    print(json.dumps(values), flush=True)

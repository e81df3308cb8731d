"""Child processes: they end with their parent, and one that was killed says nothing.

Runtimes that abort, or only write to stderr, are run in one.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

# What ends a process from outside: the user, or a system without memory.
OUTSIDE = ("SIGHUP", "SIGINT", "SIGKILL", "SIGTERM")
NO_MEMORY = ("MemoryError", "std::bad_alloc", "Cannot allocate memory")


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
    # It finds modules where this process does, however that came to know the places.
    code = f"import sys; sys.path[:] = {sys.path!r}; "
    code += f"import {__name__} as own; own.end_with_parent(); "
    code += f"from {module} import {name}; {name}(sys.argv[1])"
    theirs, ours = os.pipe()  # closed when this process ends, even if it is killed
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            stdin=theirs,
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
        )
    finally:
        os.close(theirs)
        os.close(ours)
    check_not_killed(f"the process that runs '{path}'", done.returncode)
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

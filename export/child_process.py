"""Child processes: they end with their parent, and one that was killed says nothing."""

import contextlib
import os
import signal
import threading

# What ends a process from outside: the user, or a system without memory.
OUTSIDE = ("SIGHUP", "SIGINT", "SIGKILL", "SIGTERM")


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

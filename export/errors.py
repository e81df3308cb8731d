"""Errors of this package that callers may want to handle separately."""

import signal
from typing import Any


class MissingDependency(ImportError):
    """A package of an extra is not installed; the message has the pip command."""


class UnsupportedOperators(ValueError):
    """The model needs operators that are not builtin in TFLite."""


class ParityError(RuntimeError):
    """The artefact's outputs differ from the model's; `parity` is the measurement."""

    # A `Parity`; its module imports this one.
    def __init__(self, message: str, parity: Any = None):
        super().__init__(message)
        self.parity = parity


def missing(package, extra="export"):
    """Return the error for a package that cannot be imported."""
    return MissingDependency(
        f"{package} is needed here and not installed: "
        f"pip install 'vit-keras-edge[{extra}]'"
    )


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

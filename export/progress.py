"""What an export shows while it works: its stages, and nothing of TensorFlow's."""

import contextlib
import contextvars
import logging
from collections.abc import Callable

_listener: contextvars.ContextVar[Callable[[str], None] | None] = (
    contextvars.ContextVar("listener", default=None)
)


def stage(text: str):
    """Report that a stage begins; does nothing without a listener."""
    listener = _listener.get()
    if listener is not None:
        listener(text)


@contextlib.contextmanager
def report_stages_to(listener: Callable[[str], None]):
    """Call `listener` with every stage that begins inside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def quietly(function, *args, **kwargs):
    """Call a function of TensorFlow without its prints and log messages."""
    root = logging.getLogger("tensorflow")
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(None):
            return function(*args, **kwargs)
    finally:
        root.setLevel(level)

"""Progress reporting: the stages of long operations."""

import contextlib
import contextvars
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

"""What a long work is doing, for whoever shows it."""

import contextlib
import contextvars
from collections.abc import Callable

_listener: contextvars.ContextVar[Callable[[str], None] | None] = (
    contextvars.ContextVar("listener", default=None)
)


def stage(text: str):
    """Say what begins now, in a few words; without a listener nobody hears it."""
    listener = _listener.get()
    if listener is not None:
        listener(text)


@contextlib.contextmanager
def told_to(listener: Callable[[str], None]):
    """Have `listener` called with every stage that begins inside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)

"""Returns freed memory to the system.

The C library keeps what was freed for the thread that had it, and in the sizes that it
had; the next step would take as much again.
"""

import contextlib
import ctypes

LEAST = 2**20  # bytes; trimming takes a millisecond


def trim(freed=LEAST):
    """Return the pages that hold nothing any more. Only glibc can.

    Arguments:
        freed: bytes; nothing is done for few.
    """
    if freed < LEAST:
        return
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)

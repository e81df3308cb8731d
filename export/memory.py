"""Memory that is free, given back to the system.

The C library keeps what was freed for the thread that had it, and in the sizes that it
had; the next step would take as much again.
"""

import contextlib
import ctypes

WORTH = 2**20  # bytes; giving back takes a millisecond


def give_back(freed=WORTH):
    """Give back the pages that hold nothing any more. Only glibc can.

    Arguments:
        freed: bytes; nothing is done for few.
    """
    if freed < WORTH:
        return
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)

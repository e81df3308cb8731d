"""Return of freed memory to the operating system.

The C library keeps freed memory per thread and size, so that the next step would
allocate as much again.
"""

import contextlib
import ctypes

LEAST = 2**20  # bytes; a trim takes a millisecond


def trim(freed=LEAST):
    """Return unused pages to the system, with glibc only.

    Arguments:
        freed: bytes that were freed; below `LEAST` nothing is done.
    """
    if freed < LEAST:
        return
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)

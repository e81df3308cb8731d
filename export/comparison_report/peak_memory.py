"""Memory that a file needs in LiteRT, measured in a process of its own."""

import os
import pathlib
import re
import resource
import sys

from ..child_process import answer, run_check


def peak_memory(path: str | os.PathLike[str]) -> float | None:
    """Return the MB that opening a file and running it once add to the resident memory
    of a new process, at most; None if it did not run."""
    said, _ = run_check(f"{__name__}:answer_peak", path)
    return round(said["bytes"] / 1e6, 2) if said else None


def answer_peak(path):
    """Open and run a file, and answer; called in the child process."""
    import ai_edge_litert.interpreter  # noqa: F401, of the process, not of the file
    import numpy as np

    from ..evaluation import runners

    before = _peak_bytes()
    runner = runners.load(path)
    runner(np.zeros([n or 1 for n in runner.input_shape], "uint8"))
    answer(bytes=_peak_bytes() - before)


def _peak_bytes():
    """Peak of this process. Linux' `ru_maxrss` is that of the parent, too."""
    status = pathlib.Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return 1024 * int(found[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak

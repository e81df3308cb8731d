"""Latencies of the files of a report, and the processor that they are of."""

import dataclasses
import os
import pathlib
import platform
import re
from collections.abc import Sequence

from ..evaluation.benchmark import benchmark
from ..progress import stage
from .measure_file import MeasuredFile


def timed(
    files: Sequence[MeasuredFile], num_threads: int, runs: int
) -> list[MeasuredFile]:
    """Return files with their latencies, measured in turn; see `benchmark`."""
    made = [file for file in files if file.failed is None]
    if not made:
        return list(files)
    stage(f"timing {len(made)} files in turn")
    rows = benchmark([file.path for file in made], num_threads=num_threads, runs=runs)
    found = {row.path: row for row in rows}
    return [
        dataclasses.replace(
            file,
            latency_ms=found[str(file.path)].latency_ms,
            cpu_ms=found[str(file.path)].cpu_ms,
        )
        if file.failed is None
        else file
        for file in files
    ]


def processor() -> str:
    """Return the name of the processor and its number of cores."""
    known, name = pathlib.Path("/proc/cpuinfo"), platform.processor()
    if known.is_file():
        found = re.search(r"model name\s*: (.+)", known.read_text())
        name = found[1] if found else name
    words = " ".join(filter(None, (platform.machine(), name)))
    return f"{words}, {os.cpu_count()} cores"

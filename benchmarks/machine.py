"""What benchmarks share: tables, names of machine and packages, memory."""

import contextlib
import csv
import importlib.metadata
import os
import pathlib
import platform
import re


def machine() -> str:
    """Processor, its family and model where Linux tells them, and number of cores:
    "x86_64 AMD EPYC 26.2, 2 cores"."""
    words = [platform.machine()]
    known = pathlib.Path("/proc/cpuinfo")
    if known.exists():
        lines = re.findall(r"(.+?)\s*: (.+)", known.read_text())
        facts = dict(reversed(lines))  # those of the first core
        words.append(facts.get("model name", ""))
        if "cpu family" in facts:
            words.append(f"{facts['cpu family']}.{facts['model']}")
    return f"{' '.join(filter(None, words))}, {os.cpu_count()} cores"


def versions(packages) -> str:
    """ "keras 3.15.1 tensorflow 2.21.0": of the packages that are installed."""
    found = []
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return " ".join(found)


def resident(what: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM the most since `forget_peak`."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {what}: this needs Linux")


def forget_peak() -> None:
    """Have the peak memory of this process begin with what is in use."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def write_rows(path, fields, rows) -> None:
    """Write a table as CSV: its columns, and rows of them by name."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)

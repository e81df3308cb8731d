"""In which words the tables name the machine and the packages that they measured."""

import contextlib
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

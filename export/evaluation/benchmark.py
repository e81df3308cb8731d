"""Size and latency of artefacts, measured side by side."""

import dataclasses
import os
import pathlib
import statistics
import time
from collections.abc import Sequence

import numpy as np

from . import runners


@dataclasses.dataclass(frozen=True)
class Timing:
    """Measurements of one artefact.

    Attributes:
        path: the artefact.
        size_bytes: of the file, or of all files of the directory.
        latency_ms: median wall time of one run at batch 1 (or the file's own batch).
        cpu_ms: median CPU time of the same runs, all threads added up.
        runs: number of timed runs.
    """

    path: str
    size_bytes: int
    latency_ms: float
    cpu_ms: float
    runs: int


def size_bytes(path: str | os.PathLike[str]) -> int:
    """Return the bytes on disk of a file, or of everything in a directory."""
    path = pathlib.Path(path)
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files if f.is_file())


def benchmark(
    paths: Sequence[str | os.PathLike[str]],
    *,
    num_threads: int = 1,
    runs: int = 30,
    warmup: int = 3,
) -> list[Timing]:
    """Time artefacts in their real runtimes, interleaved.

    Each round runs every artefact once, so that a slowdown of the machine affects all.
    Compare rows of one call; times of different calls or machines are not comparable.

    Arguments:
        paths: `.tflite` files and SavedModel directories.
        num_threads: threads of the LiteRT interpreter.
        runs: timed rounds.
        warmup: untimed rounds before them.

    Returns:
        A `Timing` per artefact, in the order given.

    Raises:
        ValueError: `runs` below 1, or a file that does not load.
        FileNotFoundError: an artefact does not exist.
    """
    if runs < 1:
        raise ValueError(f"`runs` must be at least 1. Received: runs={runs}")
    loaded, generator = [], np.random.default_rng(0)
    for path in paths:
        runner = runners.load(path, num_threads)
        shape = [n or 1 for n in runner.input_shape]
        loaded.append((runner, generator.integers(0, 256, shape).astype("uint8")))
    wall = [[] for _ in loaded]
    cpu = [[] for _ in loaded]
    for round_number in range(warmup + runs):
        for i, (runner, images) in enumerate(loaded):
            start, start_cpu = time.perf_counter(), time.process_time()
            runner(images)
            if round_number >= warmup:
                wall[i].append(time.perf_counter() - start)
                cpu[i].append(time.process_time() - start_cpu)
    return [
        Timing(
            path=str(path),
            size_bytes=size_bytes(path),
            latency_ms=1000 * statistics.median(wall[i]),
            cpu_ms=1000 * statistics.median(cpu[i]),
            runs=runs,
        )
        for i, path in enumerate(paths)
    ]

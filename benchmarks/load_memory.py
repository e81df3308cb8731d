"""Memory that loading a checkpoint takes, beside the size of the file.

    python benchmarks/load_memory.py --preset vit_l16 --layout timm --out memory.csv

A model is written in a layout, then loaded in a process of its own, which reports its
peak memory (`ru_maxrss`): of `from_checkpoint`, which builds the model and loads it,
and of `load_weights` into a model that is there already. Both are given as a multiple
of the file's size; a second copy of all weights would show as +1.
"""

import argparse
import csv
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time

from machine import machine

FIELDS = (
    *("task", "preset", "layout", "file_bytes", "extra_bytes", "extra_per_file"),
    *("seconds", "backend", "keras", "python", "machine"),
)


def resident():
    """Bytes of memory in use now."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def write(preset, layout, path):
    """A checkpoint with random weights."""
    import vit_keras

    gelu = "gelu_tanh" if layout == "augreg" else "gelu"
    model = vit_keras.create_model(preset, mlp_activation=gelu)
    vit_keras.save_checkpoint(model, path, layout)


def measure(task, preset, layout, path):
    """One row: what the task adds to the peak of this process."""
    import keras
    import numpy as np

    import vit_keras

    # What every first use costs, whatever the size: imports, threads, compilers.
    small = vit_keras.create_model("vit_ti16", image_size=32, num_layers=1, classes=2)
    np.asarray(small(np.zeros((1, 32, 32, 3), "float32")))
    model = None
    if task == "load_weights":
        gelu = "gelu_tanh" if layout == "augreg" else "gelu"
        model = vit_keras.create_model(preset, mlp_activation=gelu)
    before, start = resident(), time.perf_counter()
    if model is None:
        vit_keras.from_checkpoint(path)
    else:
        vit_keras.load_weights(model, path)
    seconds = time.perf_counter() - start
    # The peak so far may be that of building the model, before the load.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = path.stat().st_size
    extra = max(peak - before, resident() - before)
    return {
        "task": task,
        "preset": preset,
        "layout": layout,
        "file_bytes": size,
        "extra_bytes": extra,
        "extra_per_file": f"{extra / size:.3f}",
        "seconds": f"{seconds:.1f}",
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "python": platform.python_version(),
        "machine": machine(),
    }


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="vit_l16")
    parser.add_argument("--layout", default="timm", help="timm, huggingface or augreg")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="a CSV file")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "write":
        return write(options.preset, options.layout, options.path)
    if options.step:
        row = measure(options.step, options.preset, options.layout, options.path)
        return csv.DictWriter(sys.stdout, FIELDS).writerow(row)

    with tempfile.TemporaryDirectory() as folder:
        suffix = ".npz" if options.layout == "augreg" else ".safetensors"
        path = pathlib.Path(folder) / f"model{suffix}"
        common = ["--preset", options.preset, "--layout", options.layout]
        common = [sys.executable, __file__, *common, "--path", str(path)]
        subprocess.run([*common, "--step", "write"], check=True)
        rows = [",".join(FIELDS)]
        for task in ("from_checkpoint", "load_weights"):
            step = [*common, "--step", task]
            done = subprocess.run(step, check=True, capture_output=True, text=True)
            rows.append(done.stdout.strip().splitlines()[-1])
    text = "\n".join(rows) + "\n"
    print(text, end="")
    if options.out is not None:
        options.out.write_text(text)
    return None


if __name__ == "__main__":
    main()

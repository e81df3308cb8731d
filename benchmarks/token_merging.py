"""What merged tokens save: Arm's compiler's estimates, and time on this CPU.

    python benchmarks/token_merging.py --models ti16 s16 --out x.csv

Each file is that of a ViT of 224 x 224 pixels with random weights, which neither sees:
what they cost in accuracy is in `pruning.py`. CPU time is the median of one image with
one thread, all files of a scheme in turn in one run; `faster` compares with no merge,
on either.
"""

import argparse
import pathlib
import tempfile

import keras
import latency
import numpy as np
from machine import machine, versions, write_rows

import export
import vit_keras
from export.compression.macs import macs

FIELDS = ("model", "token_merging", "patches", "macs", "target", "scheme")
FIELDS += ("estimate_ms", "sram_kb", "cpu_ms", "faster", "machine", "versions")
PACKAGES = ("keras", "ai-edge-litert", "ethos-u-vela")
MERGES = ((), ((8, 2),), ((6, 2),), ((4, 2),), ((3, 2),), ((4, 2), (8, 2)))
DEVICES = ("ethos_u55", "ethos_u85")
SCHEMES = (("float32", "any"), ("dynamic_int8", "cpu"), ("int8", "cpu"))


def main():
    """Write the files of each merge, and what they take."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["ti16"], choices=latency.SIZES)
    parser.add_argument("--devices", nargs="*", default=DEVICES)
    parser.add_argument("--runs", type=int, default=60, help="timed, per file")
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()
    rows = []
    for name in options.models:
        whole = latency.build_ours(*latency.SIZES[name]).config
        for merging in MERGES:
            with tempfile.TemporaryDirectory() as folder:
                config = whole.replace(token_merging=merging)
                rows += estimated(name, config, whole, options.devices, folder)
        with tempfile.TemporaryDirectory() as folder:
            for scheme, target in SCHEMES:
                rows += timed(name, whole, scheme, target, options.runs, folder)
    if options.out is not None:
        write_rows(options.out, FIELDS, rows)


def written(config, folder, scheme, target):
    """The path of a file of a configuration."""
    keras.utils.set_random_seed(0)
    path = pathlib.Path(folder, f"{config.token_merging}_{scheme}_{target}.tflite")
    images = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), "uint8")
    export.to_tflite(
        *(vit_keras.create_model(config), path),
        scheme=scheme,
        target=target,
        calibration=images,
        enforce_parity=False,
    )
    return path


def about(name, config, whole):
    """The columns of a configuration."""
    left = sum(h * w for h, w in config.block_grids)
    all_of_them = sum(h * w for h, w in whole.block_grids)
    return {
        "model": name,
        "token_merging": " ".join(
            f"{before}:{k}" for before, k in config.token_merging
        ),
        "patches": f"{left / all_of_them:.3f}",
        "macs": f"{macs(config) / macs(whole):.3f}",
    }


def estimated(name, config, whole, devices, folder):
    """A row of each device, by Vela."""
    for target in devices:
        path = written(config, folder, "int8", target)
        found = export.check(path, target)
        row = {**about(name, config, whole), "target": target, "scheme": "int8"}
        row |= {key: found.facts[key] for key in ("estimate_ms", "sram_kb")}
        print(row, flush=True)
        yield row | {"machine": machine(), "versions": versions(PACKAGES)}


def timed(name, whole, scheme, target, runs, folder):
    """A row of each merge, on this CPU."""
    configs = [whole.replace(token_merging=merging) for merging in MERGES]
    paths = [written(config, folder, scheme, target) for config in configs]
    timings = export.benchmark(paths, runs=runs, warmup=5)
    for config, timing in zip(configs, timings, strict=True):
        row = {**about(name, config, whole), "target": target, "scheme": scheme}
        row |= {"cpu_ms": f"{timing.cpu_ms:.2f}"}
        row |= {"faster": f"{timings[0].cpu_ms / timing.cpu_ms:.3f}"}
        print(row, flush=True)
        yield row | {"machine": machine(), "versions": versions(PACKAGES)}


if __name__ == "__main__":
    main()

"""What recognising the ViT in a model of another library gains in full int8.

    python benchmarks/foreign.py --out x.csv

Two files of each model: "as it is", converted without looking for a ViT, and
"recognised", which is what `export.to_tflite` writes. Both calibrate on the same images
and go through the same fixes of the float graph. A row is the signal to noise ratio on
other images, of each seed of the weights and their mean; of the first seed, CPU time on
one thread, both files in turn, and the operators that Vela leaves to the CPU. Weights
and images are random.

Needs, beside the extras export and edge: `pip install keras-hub`.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
from unittest import mock

import numpy as np
from foreign_models import LARGE, MODELS, build
from machine import machine, versions, write_rows

import export
from export.errors import MissingDependency
from export.evaluation.interpreter import new_interpreter
from export.evaluation.reference import predict
from export.evaluation.tools.integer_scan import float_islands
from export.flatbuffer.operators import read_operators
from export.graph import build as graph_build

CALIBRATION, TEST = 32, 64  # images
NPU = "ethos_u55"
FIELDS = ("model", "file", "sqnr_db", "sqnr_db_of_seeds", "operators")
FIELDS += ("float_operators", "refused", "cpu_ms", "ratio", "machine", "versions")
PACKAGES = ("keras", "keras-hub", "tensorflow", "ai-edge-litert", "litert-quantizer")
PACKAGES += ("ethos-u-vela",)
# What recognition is for: of the large model in dB and times "as it is", else in dB.
LEAST_LARGE_DB, MOST_LARGE_TIME, MOST_LOST_DB = 26, 0.75, 0.5


def random_images(number, size, seed):
    """Pixels: smooth patterns with noise, nearer to photographs than noise alone."""
    draws, cells = np.random.default_rng(seed), np.arange(size) * 4 // size
    smooth = draws.uniform(0, 255, (number, 4, 4, 3))[:, cells][:, :, cells]
    noise = draws.normal(0, 20, smooth.shape)
    return (smooth + noise).clip(0, 255).astype("uint8")


def not_searched(model, preprocessing):
    raise graph_build.Unrecognised("not searched")


def write_files(model, preprocessing, images, folder):
    """{name of a row: path}."""
    found = {name: folder / f"{name}.tflite" for name in ("as it is", "recognised")}
    for name, path in found.items():
        search = graph_build.vit_by_graph if name == "recognised" else not_searched
        with mock.patch.object(graph_build, "vit_by_graph", search):
            report = export.to_tflite(
                *(model, path),
                scheme="int8",
                calibration=images,
                preprocessing=preprocessing,
                enforce_parity=False,  # random weights
            )
        if bool(report.rewrites) != (name == "recognised"):
            raise SystemExit(f"{path.name}: {'; '.join(report.notes)}")
    return found


def cpu_ms(paths, rounds):
    """Medians, one run after another of each file in turn."""
    runs = [new_interpreter(path, num_threads=1).invoke for path in paths]
    repeat, seen = 1, [[] for _ in runs]
    for i in range(-2, rounds):
        for run, times in zip(runs, seen, strict=True):
            start = time.thread_time()
            for _ in range(repeat):
                run()
            times.append((time.thread_time() - start) / repeat)
        if i < 0:  # to warm up; a round is of 20 ms at least
            repeat = max(1, round(0.02 / max(1e-5, *(times[-1] for times in seen))))
    return [1000 * statistics.median(times[2:]) for times in seen]


def refused(path):
    """Number of operators that stay on the CPU; "" where Vela is not installed."""
    try:
        problems = export.check(path, NPU).unsupported
    except MissingDependency:
        return ""
    if any(not problem.operator for problem in problems):
        return "all"
    return sum(problem.count for problem in problems)


def measure(name, seeds, rounds):
    """Both rows of a model."""
    sqnr, facts = {}, {}
    for seed in seeds:
        model, preprocessing = build(name, seed)
        size = model.input_shape[1]
        test = random_images(TEST, size, 1000 + seed)
        reference = predict(model, test, preprocessing=preprocessing)
        with tempfile.TemporaryDirectory() as made:
            calibration = random_images(CALIBRATION, size, seed)
            paths = write_files(model, preprocessing, calibration, pathlib.Path(made))
            for file, path in paths.items():
                parity = export.verify(reference, path, test)
                sqnr.setdefault(file, []).append(parity.sqnr_db)
            if facts:
                continue
            times = cpu_ms(paths.values(), rounds)
            for (file, path), spent in zip(paths.items(), times, strict=True):
                found = read_operators(path)
                floats = sum(island.count for island in float_islands(found))
                ratio = spent / times[0]
                facts[file] = (len(found), floats, refused(path))
                facts[file] += (f"{spent:.3f}", f"{ratio:.3f}")
    rows, about = [], (machine(), versions(PACKAGES))
    for file, values in sqnr.items():
        each = " ".join(f"{value:.2f}" for value in values)
        values = (name, file, f"{statistics.mean(values):.2f}", each, *facts[file])
        rows.append(dict(zip(FIELDS, (*values, *about), strict=True)))
        print(*values, sep=", ", flush=True)
    return rows


def say_demands(rows):
    """Print what is asked of the recognised files, and whether it is met."""
    before, after = rows[::2], rows[1::2]
    pairs = list(zip(before, after, strict=True))
    floats = [new["model"] for new in after if new["float_operators"]]
    lost = {b["model"]: float(b["sqnr_db"]) - float(n["sqnr_db"]) for b, n in pairs}
    worse = [f"{m} {-d:.2f} dB" for m, d in lost.items() if d > MOST_LOST_DB]
    demands = {
        "no float operator": floats,
        f"none worse by more than {MOST_LOST_DB} dB": worse,
    }
    for row in after:
        if row["model"] == LARGE:
            decibels, ratio = float(row["sqnr_db"]), float(row["ratio"])
            low = [f"{decibels} dB"] * (decibels < LEAST_LARGE_DB)
            slow = [f"{ratio}"] * (ratio > MOST_LARGE_TIME)
            demands[f"{LARGE}: {LEAST_LARGE_DB} dB"] = low
            demands[f"{LARGE}: {MOST_LARGE_TIME} of the time as it is"] = slow
    for demand, against in demands.items():
        print(f"{demand}: {'missed: ' + ', '.join(against) if against else 'met'}")


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=4, help=f"one for {LARGE}")
    parser.add_argument("--rounds", type=int, default=30, help="of CPU time")
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()
    rows = []
    for name in options.models:
        rows += measure(
            name, range(1 if name == LARGE else options.seeds), options.rounds
        )
        if options.out is not None:  # after each, since some take long
            write_rows(options.out, FIELDS, rows)
    say_demands(rows)


if __name__ == "__main__":
    main()

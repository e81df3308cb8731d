"""Size, memory and throughput of a SavedModel, through TF Serving's C++ loader.

    python benchmarks/serving.py --preset vit_ti16 --out results/serving.csv

Throughput: images/s of raw pixels through TensorFlow's session, which TF Serving runs
on, over that of `keras.Model.predict` on the same machine, medians of interleaved
rounds; the share of decoding and resizing is that of `predict_bytes` on 480x640 JPEGs.
Size and peak memory are compared with the bytes of the parameters; memory is that of a
process which only exports.
"""

import argparse
import csv
import importlib.metadata
import io
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

FIELDS = ("preset", "image_size", "measure", "batch", "value", "machine", "versions")
PACKAGES = ("keras", "tensorflow")


def peak_bytes():
    """Greatest resident memory of this process."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM: this needs Linux")


def export_alone(options, path):
    """In its own process: bytes of the parameters, peak bytes before and after."""
    import export
    import vit_keras

    model = vit_keras.create_model(options.preset, image_size=options.image_size)
    pixels = np.random.default_rng(0).integers(0, 255, (2, *model.input_shape[1:]))
    model.predict(pixels[:1] / 127.5 - 1, verbose=0)
    before = peak_bytes()
    export.to_saved_model(model, path, calibration=pixels.astype("uint8"))
    parameters = 4 * model.count_params()
    model.save(options.keras)
    print(parameters, before, peak_bytes(), flush=True)


def photographs(number):
    from PIL import Image

    generator, found = np.random.default_rng(0), []
    for _ in range(number):
        coarse = generator.integers(0, 255, (12, 16, 3)).astype("uint8")
        file = io.BytesIO()
        Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(
            file, "JPEG", quality=90
        )
        found.append(file.getvalue())
    return np.array(found, object)


def median_seconds(functions, rounds):
    """Median of each function, interleaved."""
    times = {name: [] for name in functions}
    for number in range(rounds + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="vit_ti16")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file, appended to")
    parser.add_argument("--keras", help=argparse.SUPPRESS)
    parser.add_argument("--export-alone", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.export_alone:
        export_alone(options, options.export_alone)
        return
    with tempfile.TemporaryDirectory() as folder:
        path, keras_file = f"{folder}/vit/1", f"{folder}/model.keras"
        done = subprocess.run(
            [
                *(sys.executable, __file__, "--export-alone", path),
                *("--keras", keras_file, "--preset", options.preset),
                *("--image-size", str(options.image_size)),
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        parameters, before, after = map(int, done.stdout.split()[-3:])
        size = sum(f.stat().st_size for f in pathlib.Path(path).rglob("*.*"))
        weights = sum(f.stat().st_size for f in pathlib.Path(path).rglob("*.data*"))
        rows = [
            ("bytes on disk / bytes of parameters", "", size / parameters),
            ("bytes of variables / bytes of parameters", "", weights / parameters),
            ("peak memory of the export / parameters", "", after / parameters),
            ("the same over the loaded model", "", (after - before) / parameters),
        ]
        rows += speed(path, keras_file, options)
    versions = " ".join(f"{p} {importlib.metadata.version(p)}" for p in PACKAGES)
    if options.out is not None:
        new = not options.out.exists()
        with options.out.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(FIELDS)
            for measure, batch, value in rows:
                known = (options.preset, options.image_size, measure, batch)
                writer.writerow((*known, f"{value:.3f}", platform.machine(), versions))


def speed(path, keras_file, options):
    """Rows of throughput."""
    import keras
    import tensorflow as tf

    import vit_keras  # noqa: F401 (registers the layers)
    from export.evaluation.servable import Servable

    session = tf.compat.v1.Session(graph=tf.Graph())
    graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
    servable = Servable(session, graph.signature_def, tf)
    model, rows = keras.models.load_model(keras_file), []
    for batch in options.batches:
        shape = (batch, *model.input_shape[1:])
        pixels = np.random.default_rng(0).integers(0, 255, shape).astype("uint8")
        images, items = pixels.astype("float32") / 127.5 - 1, photographs(batch)
        seconds = median_seconds(
            {
                "session": lambda x=pixels: servable.run("serving_default", images=x),
                "keras": lambda x=images, n=batch: model.predict(x, n, verbose=0),
                "bytes": lambda x=items: servable.run("predict_bytes", image_bytes=x),
            },
            options.rounds,
        )
        decoding = 1 - seconds["session"] / seconds["bytes"]
        rows += [
            ("images/s of the session", batch, batch / seconds["session"]),
            ("session / keras predict", batch, seconds["keras"] / seconds["session"]),
            ("share of decoding and resizing", batch, decoding),
        ]
        for row in rows[-3:]:
            print(*row, flush=True)
    return rows


if __name__ == "__main__":
    main()

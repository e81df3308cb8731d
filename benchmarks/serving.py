"""Size, memory and throughput of a SavedModel, through TF Serving's C++ loader.

    python benchmarks/serving.py --preset vit_ti16 --out results/serving.csv

Memory: of a process that exports, on Linux. A first use of TensorFlow costs the same
for every model; so a small model is exported first. Then the peak while the large one
is exported, over what the process holds with it loaded, plus the parameters themselves;
and the same over what it held with nothing but the imports, first use included.

Throughput: `serving_default` on raw pixels, through the C API in a process without
Python code of TensorFlow, and `keras.Model.predict` on as many images, by turns;
medians. Ratios above 1 are in favour of the SavedModel: of wall time, and of CPU time,
which other work on the machine disturbs less. The share of decoding and resizing is
how much more CPU time `predict_bytes` takes, on 640x480 JPEGs.
"""

import argparse
import csv
import gc
import io
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from machine import forget_peak, machine, resident, versions

FIELDS = ("preset", "image_size", "measure", "batch", "value", "machine", "versions")
PACKAGES = ("keras", "tensorflow")
WARM = 2  # rounds before those that count


def export_alone(options):
    """In its own process: bytes of the parameters, and in memory before and at most."""
    import export
    import vit_keras
    from export.graph import memory

    imported = resident("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        small = vit_keras.create_model("vit_ti16", image_size=32, num_layers=1)
        export.to_saved_model(small, f"{folder}/small/1")
    model = vit_keras.create_model(options.preset, image_size=options.image_size)
    gc.collect()
    memory.trim()
    loaded = resident("VmRSS")
    forget_peak()
    export.to_saved_model(model, options.export_alone)
    peak = resident("VmHWM")
    model.save(options.keras)
    print(4 * model.count_params(), imported, loaded, peak, flush=True)


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
    return found


def timed(function, *args, **kwargs):
    """(wall, CPU) seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    function(*args, **kwargs)
    return time.perf_counter() - wall, time.process_time() - cpu


def serve(path):
    """In its own process: run what is asked, one JSON line each, and time it."""
    sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests" / "export"))
    from in_c_api import Session

    session = Session(path)
    for line in sys.stdin:
        feed, fetches, shape = json.loads(line)
        if len(shape) == 1:
            value = photographs(shape[0])
        else:
            value = np.random.default_rng(0).integers(0, 255, shape, "uint8")
        print(json.dumps(timed(session.run, feed, value, fetches)), flush=True)


class Server:
    """A process that answers by the C API, seen from here."""

    def __init__(self, path):
        from tensorflow.core.protobuf import saved_model_pb2 as pb

        found = pb.SavedModel.FromString(
            pathlib.Path(path, "saved_model.pb").read_bytes()
        )
        self.signatures = found.meta_graphs[0].signature_def
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, name, shape):
        """(wall, CPU) seconds of a signature on a batch."""
        signature = self.signatures[name]
        (feed,) = (info.name for info in signature.inputs.values())
        fetches = [info.name for info in signature.outputs.values()]
        self.process.stdin.write(json.dumps([feed, fetches, shape]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def speed(path, keras_file, options):
    """Rows of throughput."""
    import keras

    import vit_keras  # noqa: F401 (registers the layers)

    server, rows = Server(path), []
    model = keras.models.load_model(keras_file)
    for batch in options.batches:
        shape = (batch, *model.input_shape[1:])
        images = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
        asked = {
            "session": lambda s=shape: server.run("serving_default", s),
            "bytes": lambda n=batch: server.run("predict_bytes", [n]),
            "keras": lambda x=images: timed(model.predict, x, len(x), verbose=0),
        }
        times = {name: [] for name in asked}
        for number in range(options.rounds + WARM):
            for name, function in asked.items():
                found = function()
                if number >= WARM:
                    times[name].append(found)
        wall, cpu = (
            {
                name: statistics.median(t[i] for t in found)
                for name, found in times.items()
            }
            for i in (0, 1)
        )
        rows += [
            ("images/s of the SavedModel", batch, batch / wall["session"]),
            ("images/s of keras predict", batch, batch / wall["keras"]),
            ("SavedModel / keras predict", batch, wall["keras"] / wall["session"]),
            ("the same in CPU time", batch, cpu["keras"] / cpu["session"]),
            (
                *("decoding and resizing, share of CPU time", batch),
                1 - cpu["session"] / cpu["bytes"],
            ),
        ]
        for row in rows[-5:]:
            print(*row, flush=True)
    server.close()
    return rows


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="vit_ti16")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file, appended to")
    parser.add_argument("--keras", help=argparse.SUPPRESS)
    parser.add_argument("--export-alone", help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.export_alone:
        export_alone(options)
    elif options.serve:
        serve(options.serve)
    else:
        measure(options)


def measure(options):
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
        parameters, imported, loaded, peak = map(int, done.stdout.split()[-4:])
        files = [f for f in pathlib.Path(path).rglob("*") if f.is_file()]
        size = sum(file.stat().st_size for file in files)
        rows = [
            ("bytes on disk / parameters", "", size / parameters),
            ("memory / parameters", "", (peak - loaded) / parameters + 1),
            (
                "memory over the imports / parameters",
                "",
                (peak - imported) / parameters,
            ),
        ]
        for row in rows:
            print(*row, flush=True)
        rows += speed(path, keras_file, options)
    installed = versions(PACKAGES)
    if options.out is not None:
        new = not options.out.exists()
        with options.out.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(FIELDS)
            for name, batch, value in rows:
                known = (options.preset, options.image_size, name, batch)
                writer.writerow((*known, f"{value:.3f}", machine(), installed))


if __name__ == "__main__":
    main()

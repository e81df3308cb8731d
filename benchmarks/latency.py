"""Latency of our CPU files beside the usual ways to run the same ViT.

    python benchmarks/latency.py --models ti16 s16 b16 --threads 1 2 --out x.csv

Contestants, each in a process of its own, one run each in turn: our files for the
target cpu; the same ViT of stock Keras layers, exported by Keras to LiteRT, by
TensorFlow's converter to dynamic and full int8, and to ONNX for ONNX Runtime; OpenVINO
on the stock full int8 file. Random weights and images: only time is measured here.
A row is the median of the rounds: CPU time of the process, all threads added up, and
wall time, which a busy machine makes longer; and the peak memory of the process.

Needs, beside the extras export and edge: `pip install onnx onnxruntime tf2onnx`.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from machine import machine, versions, write_rows

SIZES = {"ti16": (192, 12, 3), "s16": (384, 12, 6), "b16": (768, 12, 12)}
SIZES["toy"] = (64, 2, 4)  # to try the script
IMAGE, PATCH = 224, 16
OURS = ("dynamic_int8", "int8", "float32")
FIELDS = ("model", "contestant", "threads", "cpu_ms", "wall_ms", "peak_mb", "file_mb")
FIELDS += ("ratio_to_stock_litert", "rounds", "machine", "versions")
PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "openvino", "onnxruntime")


def build_ours(width, depth, heads):
    """A ViT of this package, with random weights."""
    import vit_keras

    config = vit_keras.ViTConfig(
        image_size=IMAGE,
        patch_size=PATCH,
        hidden_size=width,
        num_layers=depth,
        num_heads=heads,
        mlp_dim=4 * width,
    )
    return vit_keras.create_model(config)


def build_stock(width, depth, heads, gelu: Any = "gelu"):
    """The textbook ViT of Keras' own layers, with a class token."""
    import keras
    from keras import layers

    inputs = keras.Input((IMAGE, IMAGE, 3))
    x = layers.Conv2D(width, PATCH, PATCH)(inputs)
    x = layers.Reshape((-1, width))(x)
    one = keras.ops.zeros_like(x[:, :1, 0], "int32")  # (N, 1): the only row
    token = layers.Embedding(1, width)(one)
    x = layers.Concatenate(axis=1)([token, x])
    x = x + layers.Embedding(x.shape[1], width)(keras.ops.arange(x.shape[1])[None])
    for _ in range(depth):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.MultiHeadAttention(heads, width // heads)(y, y)
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.Dense(width)(layers.Dense(4 * width, activation=gelu)(y))
    x = layers.LayerNormalization(epsilon=1e-6)(x)[:, 0]
    return keras.Model(inputs, layers.Dense(1000)(x))


def stock_dynamic(stock, samples=None):
    """TensorFlow's converter, with a fixed batch; full int8 where samples are given."""
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(stock)
    spec = tf.TensorSpec((1, *stock.input_shape[1:]))
    archive.add_endpoint("serve", lambda x: stock(x), input_signature=[spec])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if samples is not None:
            converter.representative_dataset = lambda: ([s[None]] for s in samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        return converter.convert()


def stock_int8(stock):
    import numpy as np

    draws = np.random.default_rng(0)
    samples = draws.uniform(-1, 1, (4, *stock.input_shape[1:])).astype("float32")
    return stock_dynamic(stock, samples)


def write_files(name, folder, onnx=True):
    """All files of one size: {contestant: (runtime, path)}."""
    import keras
    import numpy as np
    from keras import ops

    import export

    width, depth, heads = SIZES[name]
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).uniform(0, 255, (8, IMAGE, IMAGE, 3))
    images, found = images.astype("float32"), {}
    model = build_ours(width, depth, heads)
    for scheme in OURS:
        path = folder / f"ours_{scheme}.tflite"
        options = {"calibration": images, "enforce_parity": False}  # random weights
        export.to_tflite(model, path, scheme=scheme, target="cpu", **options)
        found[f"ours {scheme}"] = ("litert", path)
    stock = build_stock(width, depth, heads)
    stock(images[:1])
    path = folder / "stock.tflite"
    stock.export(path, format="litert", verbose=False)
    found["stock LiteRT float32"] = ("litert", path)
    for kind, make in (("dynamic int8", stock_dynamic), ("full int8", stock_int8)):
        path = folder / f"{kind}.tflite"
        path.write_bytes(make(stock))
        found[f"stock LiteRT {kind}"] = ("litert", path)
    found["stock OpenVINO full int8"] = ("openvino", folder / "full int8.tflite")
    found["stock OpenVINO float32"] = ("openvino", folder / "stock.tflite")
    if not onnx:
        return found
    from onnxruntime.quantization import quantize_dynamic

    path = folder / "stock.onnx"
    # The way to ONNX knows no Erfc, which Keras writes its GELU with.
    twin = build_stock(
        width, depth, heads, lambda x: x * (1 + ops.erf(x * 0.5**0.5)) / 2
    )
    twin(images[:1])
    twin.export(path, format="onnx", verbose=False)
    quantize_dynamic(path, folder / "stock_int8.onnx")
    found["stock ONNX Runtime float32"] = ("onnx", path)
    found["stock ONNX Runtime dynamic int8"] = ("onnx", folder / "stock_int8.onnx")
    return found


def open_litert(path, threads):
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    (entry,) = interpreter.get_input_details()
    if (entry["shape_signature"] < 0).any():  # Keras leaves the batch open
        interpreter.resize_tensor_input(entry["index"], (1, IMAGE, IMAGE, 3))
    interpreter.allocate_tensors()
    image = np.full((1, IMAGE, IMAGE, 3), 100).astype(entry["dtype"])

    def run():
        interpreter.set_tensor(entry["index"], image)
        interpreter.invoke()
        interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


def open_openvino(path, threads):
    import numpy as np
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, IMAGE, IMAGE, 3])
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", options)
    image = np.full((1, IMAGE, IMAGE, 3), 1, compiled.input(0).element_type.to_dtype())
    return lambda: compiled([image])


def open_onnx(path, threads):
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options)
    # The image with an open batch; Keras hands over the positions as one more input.
    feeds = {
        entry.name: np.ones([n if isinstance(n, int) else 1 for n in entry.shape], "f4")
        for entry in session.get_inputs()
    }
    return lambda: session.run(None, feeds)


OPEN = {"litert": open_litert, "openvino": open_openvino, "onnx": open_onnx}


def child(runtime, path, threads):
    """Run once for each line that comes, and say how long it took."""
    run = OPEN[runtime](path, int(threads))
    for _ in range(3):
        run()
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        times = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps([*times, peak_mb()]), flush=True)


def peak_mb():
    """Of this process; `getrusage` would tell that of the parent that forked it."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def measure(found, threads, rounds):
    """{contestant: [(CPU s, wall s, peak MB)]}, one run of each in turn."""
    processes, seen = {}, {name: [] for name in found}
    for name, (runtime, path) in found.items():
        command = [sys.executable, __file__, "--child", runtime, path, str(threads)]
        pipe = subprocess.PIPE
        processes[name] = subprocess.Popen(
            list(map(str, command)),
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        while processes[name].stdout.readline().strip() not in ("ready", ""):
            pass
    for _ in range(rounds):
        for name, process in processes.items():
            if process.poll() is not None:
                continue
            process.stdin.write("run\n")
            process.stdin.flush()
            seen[name].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return seen


def main():
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SIZES, default=["ti16"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--onnx",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="exporting b16 to ONNX takes 16 GB",
    )
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()
    installed = versions(PACKAGES)
    rows = []
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            found = write_files(model, pathlib.Path(folder), options.onnx)
            for threads in options.threads:
                seen = measure(found, threads, options.rounds)
                base = statistics.median(t[0] for t in seen["stock LiteRT float32"])
                for name, times in seen.items():
                    if not times:
                        print(f"{name} did not run")
                        continue
                    cpu, wall, peak = (
                        statistics.median(values) for values in zip(*times, strict=True)
                    )
                    size = os.path.getsize(found[name][1]) / 1e6
                    values = (model, name, threads, f"{1000 * cpu:.2f}")
                    values += (f"{1000 * wall:.2f}", f"{peak:.0f}", f"{size:.2f}")
                    values += (f"{cpu / base:.3f}", len(times), machine())
                    rows.append(dict(zip(FIELDS, (*values, installed), strict=True)))
                    print(*values, flush=True)
        if options.out is not None:
            write_rows(options.out, FIELDS, rows)


if __name__ == "__main__":
    main()

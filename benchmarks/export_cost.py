"""What an export costs: time and memory, beside Keras' own float export.

    python benchmarks/export_cost.py --model vit_b16 --images 64 --out x.csv

Each export runs in a process of its own, from the loaded model to the file: Keras'
`model.export(format="litert")`, which gives a float file and proves nothing, and ours,
which measure ranges on the images, quantise, ask the target's tool and compare with the
model. CPU time is of all threads added up; on a busy machine wall time tells of the
others. `stages` says where ours spent the wall time. Random weights and images: time
does not depend on them.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from latency import peak_mb
from machine import machine, versions, write_rows

WAYS = ("keras float32", "int8", "int8@cpu", "dynamic_int8@cpu")
FIELDS = ("model", "way", "wall_s", "cpu_s", "peak_mb", "file_mb", "stages", "images")
FIELDS += ("machine", "versions")
PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "litert-quantizer")


def child(name, way, images, path):
    """Export once, and print what it cost as JSON."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import numpy as np

    import export
    import vit_keras
    from export.progress import report_stages_to

    keras.utils.set_random_seed(0)
    model = vit_keras.create_model(name)
    shape = (int(images), *model.input_shape[1:])
    pixels = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    stages, start = [], (time.perf_counter(), time.process_time())
    if way == "keras float32":
        model.export(path, format="litert", verbose=False)
    else:
        scheme, _, target = way.partition("@")
        options = {"calibration": pixels, "enforce_parity": False}  # random weights
        with report_stages_to(lambda text: stages.append((text, time.perf_counter()))):
            export.to_tflite(
                model, path, scheme=scheme, target=target or None, **options
            )
    end = time.perf_counter()
    ends = [*(begin for _, begin in stages[1:]), end][: len(stages)]
    spent = [
        f"{text} {finish - begin:.0f}"
        for (text, begin), finish in zip(stages, ends, strict=True)
    ]
    cost = {"wall_s": end - start[0], "cpu_s": time.process_time() - start[1]}
    print(json.dumps({**cost, "peak_mb": peak_mb(), "stages": "; ".join(spent)}))


def main():
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="vit_b16", help="a preset")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()
    installed = versions(PACKAGES)
    rows = []
    for way in options.ways:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "m.tflite")
            command = [sys.executable, __file__, "--child", options.model, way]
            done = subprocess.run(
                [*command, str(options.images), str(path)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            cost = json.loads(done.stdout.splitlines()[-1])
            megabytes = path.stat().st_size / 1e6
        values = (options.model, way, f"{cost['wall_s']:.1f}", f"{cost['cpu_s']:.1f}")
        values += (f"{cost['peak_mb']:.0f}", f"{megabytes:.1f}", cost["stages"])
        values += (options.images, machine(), installed)
        rows.append(dict(zip(FIELDS, values, strict=True)))
        print(*values[:-2], sep="  ", flush=True)
        if options.out is not None:
            write_rows(options.out, FIELDS, rows)


if __name__ == "__main__":
    main()

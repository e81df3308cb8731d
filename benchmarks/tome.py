r"""What merging similar tokens without training (ToMe) costs, and saves.

    python benchmarks/tome.py MODEL --choose DATA/validation --report DATA/test \
        --name clothing --out results/tome.csv

MODEL is what `vit_keras.from_checkpoint` takes, or a `.keras` file. How many tokens
each block merges is chosen on one folder, and reported on another; where both are the
same, on the images of even and of odd places. `accuracy` is that of the LiteRT file,
`noise` the standard error of the difference on the same images, in points. CPU time is
the median of one image with one thread, the files of a scheme interleaved in one run.
Rows of the CSV replace those of the same name.
"""

import argparse
import csv
import pathlib
import tempfile

import numpy as np
from machine import machine, versions, write_rows

import export
import vit_keras
from export.compression.macs import macs
from vit_keras import data
from vit_keras.model_file import open_model

FIELDS = ("model", "scheme", "max_drop", "tome", "macs", "accuracy", "lost_points")
FIELDS += ("noise", "cpu_ms", "faster", "chosen_on", "images", "machine", "versions")
PACKAGES = ("keras", "tensorflow", "ai-edge-litert")


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--name", required=True, help="in the column `model`")
    parser.add_argument("--choose", required=True, help="folder of class folders")
    parser.add_argument("--report", required=True, help="folder of class folders")
    parser.add_argument("--drops", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--schemes", nargs="+", default=["float32", "dynamic_int8"])
    parser.add_argument("--limit", type=int, help="images of either folder, at most")
    parser.add_argument("--runs", type=int, default=60, help="timed, per file")
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()
    if options.model.endswith(".keras"):
        model = open_model(options.model)
    else:
        model = vit_keras.from_checkpoint(options.model)
    same = options.choose == options.report
    chosen = read(options.choose, model.config, options.limit, slice(0, None, 1 + same))
    shown = read(
        options.report, model.config, options.limit, slice(same, None, 1 + same)
    )
    models = {0.0: model}
    for drop in options.drops:
        models[drop] = export.shrink(
            *(model, chosen.images),
            tokens="merge",
            max_drop=drop,
            labels=chosen.labels,
        )
        print(drop, models[drop].config.tome, flush=True)
    rows = []
    for scheme in options.schemes:
        rows += measured(models, scheme, chosen, shown, options)
    if options.out is not None:
        kept = []
        if options.out.exists():
            with options.out.open(newline="") as file:
                kept = [r for r in csv.DictReader(file) if r["model"] != options.name]
        write_rows(options.out, FIELDS, [*kept, *rows])


def read(folder, config, limit, part):
    """The images of a folder as pixels, and their classes."""
    dataset = data.match_classes(data.folder(folder), config.labels)
    places = np.arange(len(dataset))[part]
    if limit is not None and limit < len(places):
        places = np.random.default_rng(0).choice(places, limit, replace=False)
    taken = dataset.take(np.sort(places))
    return data.prepare(taken, config.image_size, config.preprocessing)[0]


def measured(models, scheme, chosen, shown, options):
    """The rows of a scheme."""
    rows, right = [], {}
    whole = macs(models[0.0].config)
    with tempfile.TemporaryDirectory() as folder:
        paths = {drop: pathlib.Path(folder, f"{drop}.tflite") for drop in models}
        for drop, model in models.items():
            path = paths[drop]
            export.to_tflite(
                *(model, path),
                scheme=scheme,
                target="cpu",
                calibration=chosen.images[:32],
                enforce_parity=False,
            )
            runner = export.load(path)
            outputs = [runner(image[None]) for image in shown.images]
            right[drop] = np.concatenate(outputs).argmax(-1) == shown.labels
            lost = right[0.0].astype(float) - right[drop]
            row = {"model": options.name, "scheme": scheme, "max_drop": drop or ""}
            row |= {"tome": " ".join(map(str, model.config.tome))}
            row |= {"macs": f"{macs(model.config) / whole:.3f}"}
            row |= {"accuracy": f"{right[drop].mean():.4f}"}
            row |= {"lost_points": f"{100 * lost.mean():.2f}"}
            row |= {"noise": f"{100 * lost.std() / np.sqrt(len(lost)):.2f}"}
            row |= {"chosen_on": len(chosen), "images": len(shown)}
            rows.append(row | {"machine": machine(), "versions": versions(PACKAGES)})
        timings = export.benchmark(list(paths.values()), runs=options.runs, warmup=5)
    for row, timing in zip(rows, timings, strict=True):
        row["cpu_ms"] = f"{timing.cpu_ms:.3f}"
        row["faster"] = f"{timings[0].cpu_ms / timing.cpu_ms:.3f}"
        print(row, flush=True)
    return rows


if __name__ == "__main__":
    main()

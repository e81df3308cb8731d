"""Attention maps of exported files beside Keras' on the same images.

    python benchmarks/attention_file.py MODEL DATA --limit 1000 --out x.csv

MODEL is a run's folder, a .keras file or what `vit_keras.from_checkpoint` takes, DATA
what training takes, such as a folder of class folders; its training part calibrates,
its test part is measured. A row is a file with the model's own output and attention:
Pearson's correlation of its attention with
`attention_map(model, images, "attention", layer=-1, per_patch=True)` over all values of
all images, the mean of that of each image and its 5th percentile, the SQNR and the
share of images with the same class. `npu_ms` is Vela's estimate of a run, and
`npu_ms_without` that of the file without attention.
"""

import argparse
import pathlib
import tempfile

import numpy as np
from attention import opened
from machine import machine, versions, write_rows

import export
import vit_keras
from export.evaluation.parity import measure_parity
from vit_keras import data
from vit_keras import preprocessing as pp
from vit_keras.data import open_source

FIELDS = ("model", "data", "scheme", "target", "correlation", "mean_of_images")
FIELDS += ("percentile_5", "sqnr_db", "agreement", "npu_ms", "npu_ms_without")
FIELDS += ("operators", "checked_by", "images", "seed", "machine", "versions")
PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "litert-quantizer")
TARGETS = ("any", "cpu", "npu", "ethos_u55", "ethos_u85", "openvino", "micro")
FILES = (("float32", "any"), ("dynamic_int8", "any"), *(("int8", t) for t in TARGETS))


def correlations(reference, found):
    """Pearson's of all values, and of each image (N,)."""
    each = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
        for a, b in zip(reference, found, strict=True)
    ]
    return np.corrcoef(reference.ravel(), found.ravel())[0, 1], np.array(each)


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="run, .keras file or checkpoint")
    parser.add_argument("data", help="what training takes")
    parser.add_argument("--limit", type=int, default=1000, help="images of the test")
    parser.add_argument("--seed", type=int, default=0, help="of their draw")
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()

    model, dataset = opened(options.model), open_source(options.data, held_out=True)
    config, draws = model.config, np.random.default_rng(options.seed)
    number = min(options.limit, len(dataset))
    chosen = np.sort(draws.choice(len(dataset), number, replace=False))
    dataset, _ = data.prepare(
        dataset.take(chosen), config.image_size, config.preprocessing
    )
    pixels = np.asarray(dataset.images)
    images = pp.normalize(pixels, config.preprocessing)
    maps = vit_keras.attention_map(
        model, images, "attention", layer=-1, per_patch=True, batch_size=64
    )
    logits, rows = model.predict(images, 64, verbose=0), []
    for scheme, target in FILES:
        with tempfile.TemporaryDirectory() as folder:
            path, times = pathlib.Path(folder, "m.tflite"), []
            made = {"scheme": scheme, "calibration": open_source(options.data)}
            made["target"] = None if target == "any" else target
            if "ethos" in target:
                times.append(export.to_tflite(model, path, **made).facts["estimate_ms"])
            report = export.to_tflite(
                model, path, outputs=("logits", "attention"), **made
            )
            times.insert(0, report.facts.get("estimate_ms"))
            found = export.load(path).all(pixels)
        whole, each = correlations(maps, found["attention"])
        names = (pathlib.Path(path).name for path in (options.model, options.data))
        values = (*names, scheme, target, f"{whole:.4f}")
        values += (f"{each.mean():.4f}", f"{np.percentile(each, 5):.4f}")
        values += (f"{measure_parity(maps, found['attention']).sqnr_db:.1f}",)
        values += (f"{measure_parity(logits, found['logits']).agreement:.4f}",)
        values += (*(times if len(times) > 1 else ("", "")),)
        values += (sum((report.operators or {}).values()), report.checked_by)
        values += (len(pixels), options.seed, machine())
        rows.append(dict(zip(FIELDS, (*values, versions(PACKAGES)), strict=True)))
        print(rows[-1], flush=True)
        if options.out is not None:
            write_rows(options.out, FIELDS, rows)


if __name__ == "__main__":
    main()

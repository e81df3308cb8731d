"""Accuracy of exported files on a folder of class folders, each in its own runtime.

    python benchmarks/accuracy.py examples/models/cifar10 CIFAR10/test --out x.csv

The first column of a row is SCHEME, SCHEME@TARGET or SCHEME+METHOD of calibration.
Images to calibrate on come from `--calibration`, by default from the same folder. Two
files with the same model differ by chance by about sqrt(2 n) images, where n are those
on which they disagree.
"""

import argparse
import pathlib
import tempfile

import numpy as np
from machine import machine, versions, write_rows

import export
import vit_keras
from export.evaluation.parity import measure_parity
from export.evaluation.reference import predict
from vit_keras import preprocessing as pp

SCHEMES = ("float32", "dynamic_int8", "int8", "int8@cpu", "int8@micro")
SCHEMES += ("int8_attention16", "dynamic_int4")
FIELDS = ("scheme", "accuracy", "points_lost", "agreement", "sqnr_db", "megabytes")
FIELDS += ("images", "calibration_images", "machine", "versions")
PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "litert-quantizer")


def read(folder, config, limit=None):
    """(pixels, labels) of class folders."""
    files = pp.find_images(folder)
    if limit is not None:
        chosen = np.random.default_rng(0).choice(len(files), limit, replace=False)
        files = [files[i] for i in sorted(chosen)]
    names = sorted(p.name for p in pathlib.Path(folder).iterdir() if p.is_dir())
    pixels = [pp.load_image(f, config.image_size, config.preprocessing) for f in files]
    return np.stack(pixels), np.array([names.index(f.parent.name) for f in files])


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", help="what vit_keras.from_checkpoint takes")
    parser.add_argument("images", type=pathlib.Path, help="folder of class folders")
    parser.add_argument("--calibration", type=pathlib.Path, help="another such folder")
    parser.add_argument("--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()
    model = vit_keras.from_checkpoint(options.checkpoint)
    pixels, labels = read(options.images, model.config)
    calibration, _ = read(options.calibration or options.images, model.config, 128)
    reference, rows = predict(model, pixels), []
    right = np.mean(reference.argmax(1) == labels)
    print(f"Keras: {right:.4f} on {len(labels)} images", flush=True)
    installed = versions(PACKAGES)
    for scheme in options.schemes:
        name, _, target = scheme.partition("@")
        name, _, method = name.partition("+")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.tflite"
            report = export.to_tflite(
                *(model, path),
                scheme=name,
                target=target or None,
                calibration=calibration,
                calibration_method=method or "min_max",
                enforce_parity=False,
            )
            outputs = export.load(path)(pixels)
        parity = measure_parity(reference, outputs)
        found = np.mean(outputs.argmax(1) == labels)
        values = (scheme, f"{found:.4f}", f"{100 * (right - found):.2f}")
        values += (f"{parity.agreement:.4f}", f"{parity.sqnr_db:.1f}")
        values += (f"{report.size_bytes / 1e6:.2f}", len(labels), len(calibration))
        values += (machine(), installed)
        rows.append(dict(zip(FIELDS, values, strict=True)))
        print(*values[:6], flush=True)
    if options.out is not None:
        write_rows(options.out, FIELDS, rows)


if __name__ == "__main__":
    main()

"""The whole way in one command: train on real digits, export nine ways, compare.

    python examples/demo.py [--out artifacts/digits] [--epochs 60]

Trains a small ViT on the handwritten digits that scikit-learn ships, writes
a `.tflite` file of every scheme and a SavedModel, runs each in its real
runtime on the held-out images, and prints one table.
"""

import argparse
import dataclasses
import os
import pathlib
import shutil
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import rich
from PIL import Image

import export
import vit_keras
from vit_keras.cli.program import own_lines_only
from vit_keras.cli.tables import new_table, print_table


def write_samples(dataset, folder):
    """The held-out images as PNG files in class folders, for the command line."""
    for i, (pixels, label) in enumerate(
        zip(dataset.images, dataset.labels, strict=True)
    ):
        path = folder / dataset.classes[label] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def main():
    # Here, as they load TensorFlow, which has much to say.
    from export.evaluation.parity import measure_parity
    from vit_keras import data
    from vit_keras.training.evaluation import accuracy, outputs_on

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default="artifacts/digits")
    parser.add_argument(
        "--epochs", type=int, default=vit_keras.RECIPES["digits"].epochs
    )
    arguments = parser.parse_args()
    out = arguments.out

    recipe = dataclasses.replace(vit_keras.RECIPES["digits"], epochs=arguments.epochs)
    model = vit_keras.train("digits", recipe, out=out, overwrite=True)
    config = model.config

    training, held_out = data.digits()
    write_samples(held_out, out / "samples")
    training, _ = data.prepare(training, config.image_size, config.preprocessing)
    held_out, _ = data.prepare(held_out, config.image_size, config.preprocessing)
    options = {"calibration": training.images, "labels": held_out.classes}

    reports = []
    for scheme in export.SCHEMES:
        rich.print(f"exporting {scheme}")
        path = out / f"{scheme}.tflite"
        try:
            reports.append(export.to_tflite(model, path, scheme=scheme, **options))
        except export.ParityError as error:  # of a model that was hardly trained
            rich.print(f"[yellow]{error}[/yellow]")
    rich.print("exporting SavedModel")
    shutil.rmtree(out / "saved_model", ignore_errors=True)
    path = out / "saved_model" / "1"
    reports.append(export.to_saved_model(model, path, **options))

    timings = export.benchmark([report.path for report in reports])
    reference = outputs_on(model, held_out)
    table = new_table(
        *("file", "size", "accuracy", "agreement", "SQNR", "latency"), title="held out"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("Keras model", "", f"{accuracy(reference, held_out.labels):.4f}")
    for report, timing in zip(reports, timings, strict=True):
        outputs = export.load(report.path)(np.asarray(held_out.images))
        parity = measure_parity(reference, outputs)
        table.add_row(
            str(pathlib.Path(report.path).relative_to(out)),
            f"{timing.size_bytes / 1000:.0f} kB",
            f"{accuracy(outputs, held_out.labels):.4f}",
            f"{parity.agreement:.2%}",
            f"{parity.sqnr_db:.1f} dB",
            f"{timing.latency_ms:.2f} ms",
        )
    print_table(table)
    rich.print(f"{len(held_out)} real images, each file in its own runtime, one thread")

    # In the environment that runs this, so that copy and paste works.
    tools = os.path.relpath(pathlib.Path(sys.executable).parent)
    sample = next((out / "samples" / "7").glob("*.png"))
    print(f"""
Try next:
  {tools}/vit-keras predict {out} {sample}
  {tools}/vit-export verify {out}/model.keras {out}/int8.tflite --data {out}/samples
  {tools}/vit-keras train --data FOLDER_OF_CLASS_FOLDERS --out artifacts/mine""")


if __name__ == "__main__":
    with own_lines_only():  # not those of TensorFlow and LiteRT
        main()

"""Quantisation-aware training beside quantisation after training, through LiteRT.

    python benchmarks/qat.py MODEL CIFAR --seeds 0 1 2 --out results/qat.csv

MODEL is what `vit_keras.from_checkpoint` takes, CIFAR a folder with `train` and `test`.
Every row is an int8 file: weights of so many bits, activations of 8. `ptq` are the
weights and ranges before training; the float model is trained on by the same recipe, as
`float`, for comparison at equal effort. `agreement` is that of the file with the Keras
model that was trained as integers, and `keras_accuracy` that model's, on
`keras_images` of the test images, since rounding as LiteRT does takes time. Two files
with the same model differ by chance by about sqrt(2 n) images, where n are those on
which they disagree.
"""

import argparse
import csv
import pathlib
import tempfile
import time

import keras
import numpy as np
from machine import machine, versions

import export
import vit_keras
from export.compression.fine_tuning import RECIPE, fine_tune
from vit_keras import data
from vit_keras.preprocessing import normalize

FIELDS: tuple[str, ...] = (
    "variant",
    "weight_bits",
    "seed",
    "accuracy",
    "lost_points",
    "keras_accuracy",
)
FIELDS += ("agreement", "megabytes", "steps", "batch_size", "learning_rate")
FIELDS += ("train_seconds", "test_images", "keras_images", "machine", "versions")
PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "tensorflow-model-optimization")


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="what vit_keras.from_checkpoint takes")
    parser.add_argument("cifar", type=pathlib.Path, help="folder with train and test")
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, nargs="+", default=[150, 350, 300])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-5, 1e-4, 1e-3])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--distillation", type=float, default=4.0)
    parser.add_argument("--label-smoothing", type=float, default=0.1)
    parser.add_argument("--shift", type=float, default=0.125, help="augmentation")
    parser.add_argument("--keras-images", type=int, help="for the Keras model, at most")
    parser.add_argument("--target", help="where the files are to run")
    parser.add_argument("--limit", type=int, help="test images, at most")
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file, appended to")
    options = parser.parse_args()
    model = vit_keras.from_checkpoint(options.model)
    train, test = (
        _read(data.folder(options.cifar / part), model.config, limit)
        for part, limit in (("train", None), ("test", options.limit))
    )
    plain = Measure(model, test, options)
    plain.add(model, "float32", variant="float, as it is", weight_bits=32)
    for bits, steps, rate in zip(
        options.bits, options.steps, options.rates, strict=False
    ):
        aware = export.quantize_aware(
            model, train.images[::390], weight_bits=bits, target=options.target
        )
        plain.add(aware, "int8", variant="ptq", weight_bits=bits)
        for seed in options.seeds:
            recipe = RECIPE.replace(
                steps=steps,
                learning_rate=rate,
                seed=seed,
                batch_size=options.batch_size,
                label_smoothing=options.label_smoothing,  # as the model was trained
                shift=options.shift,
            )
            keras.utils.set_random_seed(seed)
            aware = export.quantize_aware(
                model,
                train.images[::390],
                weight_bits=bits,
                target=options.target,
                distillation=options.distillation,
            )
            start = time.perf_counter()
            fine_tune(aware, train, recipe)
            plain.add(
                *(aware, "int8"),
                **{"variant": "qat", "weight_bits": bits, "seed": seed},
                **{"steps": steps, "learning_rate": rate},
                train_seconds=f"{time.perf_counter() - start:.0f}",
            )


class Measure:
    """Rows of the table, written one by one."""

    def __init__(self, model, test, options):
        self.test, self.options = test, options
        apart = max(len(test) // (options.keras_images or len(test)), 1)
        self.some = slice(None, None, apart)  # of all classes: they are sorted
        images = test.images[self.some]
        self.normal = normalize(images, model.config.preprocessing)
        self.first = None

    def add(self, model, scheme, **known):
        """Export a model and measure the file."""
        options = self.options
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "m.tflite"
            target = options.target if scheme == "int8" else None
            export.to_tflite(
                *(model, path),
                **{"scheme": scheme, "target": target, "enforce_parity": False},
            )
            outputs = export.load(path)(self.test.images)
            size = path.stat().st_size
        expected = model.predict(self.normal, 250, verbose=0)
        chosen, labels = expected.argmax(1), self.test.labels
        right = float(np.mean(outputs.argmax(1) == labels))
        self.first = right if self.first is None else self.first
        same = np.mean(outputs[self.some].argmax(1) == chosen)
        row = {
            "accuracy": f"{right:.4f}",
            "lost_points": f"{100 * (self.first - right):.2f}",
            "keras_accuracy": f"{np.mean(chosen == labels[self.some]):.4f}",
            "agreement": f"{same:.4f}",
            "megabytes": f"{size / 1e6:.2f}",
            "batch_size": options.batch_size,
            "test_images": len(self.test),
            "keras_images": len(chosen),
            "machine": machine(),
            "versions": versions(PACKAGES),
            **known,
        }
        print({k: v for k, v in row.items() if k != "versions"}, flush=True)
        if options.out is not None:
            new = not options.out.exists()
            with options.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                if new:
                    writer.writeheader()
                writer.writerow(row)


def _read(dataset, config, limit):
    if limit is not None and limit < len(dataset):
        chosen = np.random.default_rng(0).choice(len(dataset), limit, replace=False)
        dataset = dataset.take(np.sort(chosen))
    ready, _ = data.prepare(dataset, config.image_size, config.preprocessing)
    return ready


if __name__ == "__main__":
    main()

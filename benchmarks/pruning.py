r"""What pruning, clustering and removal cost in accuracy, and save in size and time.

    python benchmarks/pruning.py MODEL CIFAR --models KEPT --variants original \
        "shrink 1.5x" --steps 4000 --learning-rate 1e-3
    python benchmarks/pruning.py MODEL CIFAR --models KEPT --out results/pruning.csv

MODEL is what `vit_keras.from_checkpoint` takes, CIFAR a folder with `train` and `test`.
Every row starts from MODEL and is trained on by one recipe, with MODEL as its teacher;
`original` is MODEL as it is, and `dense` MODEL trained on with nothing removed.
`accuracy` is that of the LiteRT file on the test images, `keras_before` and
`keras_after` that of the Keras model before and after this training. Latency is the
median CPU time of one image with one thread, all files of a scheme interleaved in one
run; `faster` compares it with `original`. Trained models are kept in --models, and what
is there is not trained again: what lost much, as `shrink` takes, needs more steps and a
higher rate than zeros do. With --rounds it is trained so often one after another, each
time from half the rate on; rounds that are kept count.
"""

import argparse
import gzip
import json
import pathlib
import tempfile
import time

import keras
import numpy as np
from machine import machine, versions, write_rows

import export
import vit_keras
from export.compression.fine_tuning import RECIPE, fine_tune
from export.compression.macs import macs
from vit_keras import data

FIELDS = ("variant", "scheme", "heads", "mlp_dim", "macs_ratio", "zeros")
FIELDS += ("keras_before", "keras_after", "accuracy", "lost_points")
FIELDS += ("bytes", "gzip_bytes", "cpu_ms", "faster", "steps", "rounds")
FIELDS += ("learning_rate",)
FIELDS += ("test_images", "seed", "train_seconds", "machine", "versions")
PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "tensorflow-model-optimization")
# name: how the model is made smaller; what training needs follows from it.
VARIANTS = {
    "original": {},
    "dense": {},
    "shrink 1.25x": {"macs_ratio": 1.25},
    "shrink 1.5x": {"macs_ratio": 1.5},
    "shrink 2x": {"macs_ratio": 2.0},
    "tokens 0.75": {"tokens": 0.75},
    "tokens 0.5": {"tokens": 0.5},
    "tokens 0.35": {"tokens": 0.35},
    "sparse 50%": {"sparsity": 0.5},
    "sparse 2:4": {"sparsity": "2:4"},
    "sparse 80%": {"sparsity": 0.8},
    "cluster 16": {"clusters": 16},
}


def made(model, options, images):
    """(model to train, its callback or None)"""
    if options.keys() & {"macs_ratio", "tokens"}:
        return export.shrink(model, images, **options), None
    if "sparsity" in options:
        return model, export.prune(model, **options)
    if "clusters" in options:
        return model, export.cluster(model, **options)
    return model, None


def accuracy(outputs, labels):
    return float((outputs.argmax(-1) == labels).mean())


def trained(variant, options, train, test):
    """(model, what is known of its training), from the folder or by training."""
    folder = options.models
    file, note = (
        folder / f"{variant.replace(' ', '_')}{s}" for s in (".keras", ".json")
    )
    callback, known, done = None, {}, 0
    if note.exists():
        known = json.loads(note.read_text())
        model, done = keras.models.load_model(file), known.get("rounds", 1)
        if variant == "original" or done >= options.rounds:
            return model, known
    else:
        fresh = vit_keras.from_checkpoint(options.model)
        images = train.images[:: max(len(train) // 256, 1)][:256]
        model, callback = made(fresh, VARIANTS[variant], images)
        before = accuracy(predicted(model, test), test.labels)
        known = {"keras_before": f"{before:.4f}"}
    start, steps = time.perf_counter(), int(known.get("steps", 0))
    seconds = float(known.get("train_seconds", 0))
    if variant == "original":
        model.save(folder / "teacher.keras")
    for number in range(done, 0 if variant == "original" else options.rounds):
        recipe = RECIPE.replace(
            steps=options.steps,
            optimizer="muon",  # as the model was trained
            shift=0.125,
            label_smoothing=0.0,
            distillation_weight=0.5,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate / 2**number,
            teacher=str(folder / "teacher.keras"),
            seed=options.seed + number,
        )
        history = fine_tune(model, train, recipe, [callback] if callback else [])
        steps += history.params["steps"] * len(history.epoch)
        model, callback = callback.strip() if callback else model, None
    known["keras_after"] = f"{accuracy(predicted(model, test), test.labels):.4f}"
    rate = options.learning_rate if steps else ""
    known |= {"steps": steps, "learning_rate": rate, "seed": options.seed}
    known["rounds"] = options.rounds if steps else 0
    known["train_seconds"] = f"{seconds + time.perf_counter() - start:.0f}"
    model.save(file)
    note.write_text(json.dumps(known))
    return model, known


def predicted(model, dataset):
    normal = vit_keras.preprocessing.normalize(
        dataset.images, model.config.preprocessing
    )
    return model.predict(normal, 250, verbose=0)


def zeros(model):
    kernels = [w for w in model.weights if w.path.endswith("kernel")]
    return sum(int((w.numpy() == 0).sum()) for w in kernels) / sum(
        w.numpy().size for w in kernels
    )


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="what vit_keras.from_checkpoint takes")
    parser.add_argument("cifar", type=pathlib.Path, help="folder with train and test")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--schemes", nargs="+", default=["float32", "dynamic_int8"])
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--rounds", type=int, default=1, help="of so many steps")
    models = pathlib.Path(tempfile.gettempdir()) / "pruned"
    parser.add_argument("--models", type=pathlib.Path, default=models)
    parser.add_argument("--limit", type=int, help="images of either part, at most")
    parser.add_argument("--runs", type=int, default=400, help="timed, per file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()

    config = vit_keras.from_checkpoint(options.model).config
    options.models.mkdir(parents=True, exist_ok=True)
    train, test = (
        _read(data.folder(options.cifar / part), config, options.limit)
        for part in ("train", "test")
    )
    rows, files = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        for variant in options.variants:
            model, known = trained(variant, options, train, test)
            print(variant, known, flush=True)
            for scheme in options.schemes:
                name = f"{variant.replace(' ', '_')}_{scheme}.tflite"
                path = files[variant, scheme] = pathlib.Path(temporary) / name
                export.to_tflite(
                    *(model, path),
                    scheme=scheme,
                    calibration=train.images[:64],
                    enforce_parity=False,
                )
                row = {
                    **{"variant": variant, "scheme": scheme},
                    "heads": model.config.num_heads,
                    "mlp_dim": model.config.mlp_dim,
                    "macs_ratio": f"{macs(config) / macs(model.config):.3f}",
                    "zeros": f"{zeros(model):.3f}",
                    "accuracy": accuracy(_outputs(path, test.images), test.labels),
                    "bytes": path.stat().st_size,
                    "gzip_bytes": len(gzip.compress(path.read_bytes(), 9)),
                    "test_images": len(test),
                    **known,
                }
                rows.append(row)
                print(row, flush=True)
        for scheme in options.schemes:
            _time([row for row in rows if row["scheme"] == scheme], files, options.runs)
    for row in rows:
        print(row["variant"], row["scheme"], row["lost_points"], row["faster"])
    if options.out is not None:
        write_rows(options.out, FIELDS, rows)


def _time(rows, files, runs):
    """Latency, and what is compared with the first row, in place."""
    timings = export.benchmark(
        [files[row["variant"], row["scheme"]] for row in rows], runs=runs, warmup=20
    )
    first = rows[0]["accuracy"]
    installed = versions(PACKAGES)
    for row, timing in zip(rows, timings, strict=True):
        row["lost_points"] = f"{100 * (first - row['accuracy']):.2f}"
        row["accuracy"] = f"{row['accuracy']:.4f}"
        row["cpu_ms"] = f"{timing.cpu_ms:.3f}"
        row["faster"] = f"{timings[0].cpu_ms / timing.cpu_ms:.3f}"
        row |= {"machine": machine(), "versions": installed}


def _read(dataset, config, limit):
    if limit is not None and limit < len(dataset):
        chosen = np.random.default_rng(0).choice(len(dataset), limit, replace=False)
        dataset = dataset.take(np.sort(chosen))
    ready, _ = data.prepare(dataset, config.image_size, config.preprocessing)
    return ready


def _outputs(path, images):
    runner = export.load(path)
    return np.concatenate([runner(images[i : i + 1]) for i in range(len(images))])


if __name__ == "__main__":
    main()

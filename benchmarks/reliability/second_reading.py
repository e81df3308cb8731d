"""Every kind of file that `export` writes, read twice: by LiteRT, and by NumPy.

    python -m benchmarks.reliability.second_reading [--out FILE] [--only NAME]

Columns: the file; its operators; `litert_db` and `steps`: LiteRT's outputs against the
second reading, whose int16 functions are LiteRT's tables, in dB and in steps of an
integer output; `exact_db`: the same with exact functions; `model_db`: the second
reading against `model.predict`; seconds of the second reading.
"""

import argparse
import pathlib
import tempfile
import time

import keras
import numpy as np

import export
import vit_keras
from benchmarks.machine import machine, versions, write_rows
from benchmarks.reliability.file_reading import (
    SecondReading,
    agreement,
    names_of_operators,
)
from export.inputs import UserInputs
from tests.export import stock
from tests.export.dense_models import dense
from tests.export.families import FAMILIES, family
from tests.models import exported
from vit_keras.preprocessing import normalize

IMAGES = 8
FIELDS = ("task", "scheme", "target", "output", "operators", "litert_db", "steps")
FIELDS += ("exact_db", "model_db", "seconds", "machine", "versions")
PACKAGES = ("numpy", "keras", "tensorflow", "ai-edge-litert", "litert-quantizer")
# Float sums in another order: 120 dB. Where activations are rounded, a value that lies
# at the half of a step falls to another side in one of the readings.
FLOAT_DB, ROUNDED_DB = 100.0, 40.0
# Of 255: an int8 kernel is one step apart at most, and such steps pass two blocks.
STEPS = 8.0


def of_family(name, **changes):
    """A small random model of a family, a little away from its fresh weights."""
    keras.utils.set_random_seed(0)
    model = vit_keras.create_model(family(name, **changes))
    draws = np.random.default_rng(0)
    model.set_weights([w + draws.normal(0, 0.1, w.shape) for w in model.get_weights()])
    return model


def zero_shot():
    """A classifier of an image model and embedded labels."""
    tower = exported(include_top=False)
    texts = np.random.default_rng(5).normal(size=(7, tower.output_shape[-1]))
    return vit_keras.zero_shot(tower, texts, tuple("abcdefg"), 20.0, None)


def trained():
    """A model of quantisation-aware training, not trained further."""
    vit = exported()
    return export.quantize_aware(vit, pixels_of(vit, 16))


# {task: (what makes the model, options of `to_tflite`)}
TASKS = {
    "classification": (exported, {}),
    "pooled features": (lambda: exported(include_top=False), {}),
    "several outputs": (exported, {"outputs": "all"}),
    "zero-shot": (zero_shot, {}),
    "segmentation": (dense, {}),
    "classes of pixels": (dense, {"decode": "classes"}),
    "depth": (lambda: dense("depth"), {}),
    "stock Keras layers": (stock.transformer, {}),
    **{f"family {n}": ((lambda n=n: of_family(n)), {}) for n in FAMILIES},
}
# What is written in all schemes and for all targets, and what in a few.
EVERYWHERE = ("classification", "segmentation")
FEW_SCHEMES = ("float32", "dynamic_int8", "dynamic_int4", "int8", "int8_residual16")


def pixels_of(model, number=IMAGES):
    """Smooth pixels with noise for a model, uint8 (N, H, W, C)."""
    height, width, channels = model.input_shape[1:]
    draws = np.random.default_rng(0)
    coarse = draws.uniform(0, 255, (number, 4, 4, channels))
    rows, columns = (np.arange(n) * 4 // n for n in (height, width))
    pixels = coarse[:, rows][:, :, columns]
    pixels = pixels + draws.normal(0, 20, pixels.shape)
    return pixels.clip(0, 255).astype("uint8")


def cases():
    """(task, scheme, target, more options) of every file of the table."""
    found = []
    for task in TASKS:
        schemes = export.SCHEMES if task in EVERYWHERE else FEW_SCHEMES
        if task == "classes of pixels":
            schemes = ("float32", "int8")
        found += [(task, scheme, "any", {}) for scheme in schemes]
    found += [("classification", "int8", "any", {"min_sqnr": 35.0})]
    return found + [
        (task, scheme, name, {})
        for task in EVERYWHERE
        for name, target in export.TARGETS.items()
        for scheme in target.schemes
        if name != "any"
    ]


def read_twice(case, more, folder) -> list[dict]:
    """Write one file, and compare its two readings: a row for each output."""
    task, scheme, target = case
    make, options = TASKS[task]
    keras.backend.clear_session()
    model, path = make(), pathlib.Path(folder, "m.tflite")
    pixels = pixels_of(model)
    wanted = {"calibration": pixels_of(model, 16), **options, **more}
    report = export.to_tflite(
        model, path, scheme=scheme, target=target, enforce_parity=False, **wanted
    )
    start = time.perf_counter()
    tabled = SecondReading(path, tables=True)
    second = tabled(pixels)
    seconds = time.perf_counter() - start
    exact, litert = SecondReading(path)(pixels), export.load(path).all(pixels)
    predicted = predictions(model, pixels)
    counts = names_of_operators(path)
    said = scheme + (" mixed with int16" if more else "")
    rows = []
    for name, tensor in tabled.outputs.items():
        apart = agreement(litert[name], second[name], tensor)
        row = {
            **{"task": task, "scheme": said, "target": target, "output": name},
            "operators": " ".join(f"{k}:{n}" for k, n in counts.items()),
            "litert_db": f"{apart.sqnr_db:.1f}",
            "steps": "" if np.isnan(apart.steps) else f"{apart.steps:.0f}",
            "exact_db": f"{agreement(litert[name], exact[name], tensor).sqnr_db:.1f}",
            "seconds": f"{seconds:.2f}",
            **{"machine": machine(), "versions": versions(PACKAGES)},
        }
        first = name == report.outputs[0].name
        if first and predicted.shape == second[name].shape:
            found = agreement(predicted, second[name], tensor)
            row["model_db"] = f"{found.sqnr_db:.1f}"
        rows.append(row)
    return rows


def predictions(model, pixels) -> np.ndarray:
    """`model.predict` on what its user feeds it."""
    inside = UserInputs(model).open_model()[1].inside
    fed = pixels.astype("float32") if inside is None else normalize(pixels, inside)
    return model.predict(fed, verbose=0)


def too_far(row) -> str:
    """Why two readings of an output disagree; "" if they agree."""
    if row["task"] == "classes of pixels":
        return ""  # a pixel between two classes may fall to either
    if row["steps"]:
        return "" if float(row["steps"]) <= STEPS else f"{row['steps']} steps"
    rounded = row["scheme"].startswith(("dynamic", "int"))
    least = ROUNDED_DB if rounded else FLOAT_DB
    decibels = float(row["litert_db"])
    return "" if decibels >= least else f"{decibels} dB, of {least}"


def main() -> None:
    """Write the table, and say where two readings disagree."""
    parser = argparse.ArgumentParser(description=__doc__)
    out = "benchmarks/results/reliability/second_reading.csv"
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(out))
    parser.add_argument("--only", default="", help="tasks that contain this")
    arguments = parser.parse_args()
    rows = []
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            if arguments.only not in case[0]:
                continue
            try:
                found = read_twice(case[:3], case[3], folder)
            except (export.UnsupportedOperators, export.MissingDependency) as error:
                print(*case[:3], f"not written: {error}", flush=True)
                continue
            for row in found:
                said = too_far(row)
                words = ("task", "scheme", "target", "output", "litert_db", "steps")
                print(
                    *(row[w] for w in words), said and f"DISAGREE: {said}", flush=True
                )
            rows += found
            write_rows(arguments.out, FIELDS, rows)  # a killed run keeps what it has


if __name__ == "__main__":
    main()

"""Every kind of file that `export` writes, read twice: by LiteRT, and by NumPy.

    python -m benchmarks.reliability.second_reading [--out FILE] [--only NAME]

Columns: the file; its operators; `litert_db` and `steps`: LiteRT's outputs against the
second reading, whose int16 functions are LiteRT's tables, in dB and in steps of an
integer output; `exact_db`: the same with exact functions; `operator`: of the integer
operators that one whose result in LiteRT is farthest from what it is by definition,
given LiteRT's own inputs, in steps; `model_db`: the second reading against
`model.predict`; seconds of the second reading.
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
FIELDS += (
    "exact_db",
    "operator",
    "operator_steps",
    "model_db",
    "seconds",
    "machine",
    "versions",
)
PACKAGES = ("numpy", "keras", "tensorflow", "ai-edge-litert", "litert-quantizer")
# Float sums in another order: 120 dB. Where activations are rounded, a value that lies
# at the half of a step falls to another side in one of the readings.
FLOAT_DB, ROUNDED_DB = 100.0, 40.0
# Of one operator, given the same inputs: a step where a value lies at the half of one,
# and one more where LiteRT has a table.
STEPS = 2.0


def of_family(name, **changes):
    """A small random model of a family, a little away from its fresh weights."""
    keras.utils.set_random_seed(0)
    if "representation_size" in FAMILIES[name]:
        changes["representation_size"] = 32  # inputs of int4 layers: blocks of 32
    model = vit_keras.create_model(family(name, mlp_dim=64, **changes))
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
    "quantisation-aware training": (trained, {}),
    "segmentation": (dense, {}),
    "classes of pixels": (dense, {"decode": "classes"}),
    "depth": (lambda: dense("depth"), {}),
    "merged neighbours": (lambda: exported(token_merging=((1, 2),)), {}),
    "similar tokens": (lambda: exported(patch_size=4, tome=(9, 7)), {}),
    "stock Keras layers": (stock.transformer, {}),
    **{f"family {n}": ((lambda n=n: of_family(n)), {}) for n in FAMILIES},
}
# What is written in all schemes and for all targets, and what in a few.
EVERYWHERE = ("classification", "segmentation")
OTHER_SCHEMES = {
    "classes of pixels": ("float32", "int8"),
    "quantisation-aware training": ("int8",),
    "similar tokens": ("float32", "float16", "dynamic_int8"),
}
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
        few = OTHER_SCHEMES.get(task, FEW_SCHEMES)
        schemes = export.SCHEMES if task in EVERYWHERE else few
        found += [(task, scheme, "any", {}) for scheme in schemes]
    found += [("classification", "int8", "any", {"min_sqnr": 30.0})]
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
    wanted = {**options, **more}
    if task != "quantisation-aware training":  # which has its ranges
        wanted["calibration"] = pixels_of(model, 16)
    report = export.to_tflite(
        model, path, scheme=scheme, target=target, enforce_parity=False, **wanted
    )
    start = time.perf_counter()
    tabled = SecondReading(path, int16_tables=True)
    second = tabled(pixels)
    seconds = time.perf_counter() - start
    operator, steps = worst_operator(path, pixels)
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
            **{"operator": operator, "operator_steps": f"{steps:.0f}"},
            "seconds": f"{seconds:.2f}",
            **{"machine": machine(), "versions": versions(PACKAGES)},
        }
        first = name == report.outputs[0].name
        if first and predicted.shape == second[name].shape:
            found = agreement(predicted, second[name], tensor)
            row["model_db"] = f"{found.sqnr_db:.1f}"
        rows.append(row)
    return rows


def worst_operator(path, pixels) -> tuple[str, float]:
    """Give each integer operator the inputs that it has in LiteRT's own kernels.

    Returns:
        Name and type of that whose results are farthest apart, and the steps.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    reading = SecondReading(path, int16_tables=True)
    tensors, worst = reading.tables.tensors, ("", 0.0)
    interpreter = Interpreter(
        model_path=str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    (start,) = reading.tables.inputs
    images = pixels[: tensors[start].shape[0]].astype("float64")
    interpreter.set_tensor(start, tensors[start].store(images))
    interpreter.invoke()

    def value(number):
        if number < 0:
            return None
        if number in reading.constants:
            return reading.constants[number]
        return tensors[number].real(interpreter.get_tensor(number))

    for op in reading.tables.ops:
        if tensors[op.outputs[0]].scale is None:
            continue
        found = reading.results(op, [value(number) for number in op.inputs])
        for number, result in zip(op.outputs, found, strict=True):
            error = np.abs(result - value(number)) / tensors[number].scale
            if error.max() > worst[1] + 0.01:
                worst = f"{op.name} {tensors[number].kind}", float(error.max())
    return worst


def predictions(model, pixels) -> np.ndarray:
    """`model.predict` on what its user feeds it."""
    inside = UserInputs(model).open_model()[1].inside
    fed = pixels.astype("float32") if inside is None else normalize(pixels, inside)
    return model.predict(fed, verbose=0)


def too_far(row) -> str:
    """Why two readings of an output disagree; "" if they agree."""
    if float(row["operator_steps"]) > STEPS:
        return f"{row['operator']} by {row['operator_steps']} steps"
    if row["scheme"].startswith("int8"):
        return ""  # a graph of int8 adds its operators' steps up, as many as it has
    if row["task"] == "classes of pixels":
        return ""  # a pixel between two classes may fall to either
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
                words += ("operator", "operator_steps")
                print(
                    *(row[w] for w in words), said and f"DISAGREE: {said}", flush=True
                )
            rows += found
            write_rows(arguments.out, FIELDS, rows)  # a killed run keeps what it has


if __name__ == "__main__":
    main()

"""Keep a trained model small: float16 weights that any library reads, with its recipe.

    python examples/keep_model.py RUN TEST_FOLDER OUT

`OUT` receives `model.safetensors` (timm's names), `config.json`, `recipe.json`,
`labels.txt` and `accuracy.json`, measured on the files as they were written.
"""

import json
import pathlib
import shutil
import sys

import keras
import numpy as np
import safetensors.numpy

import vit_keras
from vit_keras.layers.positions import sincos2d
from vit_keras.training.evaluation import evaluate


def as_published(model, labels):
    """The same model with its fixed positions as weights, which every layout has, and
    with the names of its classes."""
    config = model.config.replace(positions="learned", labels=labels)
    copy = vit_keras.create_model(config)
    values = {weight.path: weight.numpy() for weight in model.weights}
    if model.config.positions == "sincos2d":
        table = sincos2d(config.grid, config.hidden_size)
        prefix = config.num_prefix_tokens if config.position_prefix else 0
        values["posembed_input/embedding"] = np.pad(table, ((prefix, 0), (0, 0)))[None]
    for weight in copy.weights:
        weight.assign(values[weight.path])
    return copy


def main(run, test, out):
    run, out = pathlib.Path(run), pathlib.Path(out)
    keras.config.set_dtype_policy("float32")
    labels = (run / "labels.txt").read_text().splitlines()
    model = as_published(keras.models.load_model(run / "model.keras"), labels)
    vit_keras.save_checkpoint(model, out, layout="timm")
    file = out / "model.safetensors"
    halves = {
        name: array.astype("float16")
        for name, array in safetensors.numpy.load_file(file).items()
    }
    safetensors.numpy.save_file(halves, file)
    for name in ("recipe.json", "labels.txt"):
        shutil.copy(run / name, out / name)
    measured = evaluate(vit_keras.from_checkpoint(out), test)
    (out / "accuracy.json").write_text(json.dumps(measured, indent=2) + "\n")
    print(f"{file.stat().st_size / 1e6:.2f} MB, {measured}")


if __name__ == "__main__":
    main(*sys.argv[1:])

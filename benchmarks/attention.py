"""Deletion test of attention maps: how soon does a model lose what it saw.

    python benchmarks/attention.py MODEL DATA --limit 2000 --out x.csv

MODEL is a run's folder, a .keras file or what `vit_keras.from_checkpoint` takes, DATA
what training takes, such as digits or a folder of class folders. Patches are replaced
by the mean colour of all images, the most important ones first by each map, and the
mean probability of the class that was predicted for the whole image is measured.
`area` is the area under that curve over the deleted fraction (arXiv 1806.07421,
section 3.2): lower is better. `standard_error` is that of its mean over the images;
`gain` is the mean of (rollout - row) image by image, with its own standard error.
"""

import argparse
import pathlib

import keras
import numpy as np
from machine import machine, versions, write_rows

import vit_keras
from vit_keras import data
from vit_keras import preprocessing as pp
from vit_keras.data import open_source
from vit_keras.heads import log_probabilities
from vit_keras.model_file import open_classifier
from vit_keras.training.evaluation import accuracy

FIELDS = ("model", "data", "method", "area", "standard_error", "gain", "gain_error")
FIELDS += ("accuracy", "images", "patches", "seed", "machine", "versions")
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")
MAPS = {
    "random": None,
    "attention": {"method": "attention"},
    "attention, last block": {"method": "attention", "layer": -1},
    "rollout": {"method": "rollout"},
    "relevance": {"method": "relevance"},
}


def opened(path):
    found = pathlib.Path(path)
    if found.suffix == ".keras" or (found / "model.keras").exists():
        return open_classifier(path)[0]
    return vit_keras.from_checkpoint(path)


def probabilities(model, images):
    outputs = model.predict(images, 256, verbose=0)
    return np.exp(log_probabilities(outputs, model.config.activation))


def deleted(images, order, number, patch, grid, colour):
    """Images whose first `number` patches of each row of `order` have one colour."""
    gone = np.zeros(order.shape, bool)
    np.put_along_axis(gone, order[:, :number], True, axis=1)
    mask = gone.reshape(-1, *grid).repeat(patch[0], 1).repeat(patch[1], 2)
    return np.where(mask[..., None], colour, images).astype("float32")


def areas(model, images, order, points):
    """(N,): area under the probability of each image's predicted class."""
    config, chosen, curve = model.config, None, []
    fractions = np.unique(np.linspace(0, order.shape[1], points).astype(int))
    colour = images.mean(axis=(0, 1, 2))
    for number in fractions:
        inputs = deleted(images, order, number, config.patch_size, config.grid, colour)
        found = probabilities(model, inputs)
        chosen = found.argmax(1) if chosen is None else chosen
        curve.append(found[np.arange(len(found)), chosen])
    return np.trapezoid(curve, fractions / order.shape[1], axis=0)


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="run, .keras file or checkpoint")
    parser.add_argument("data", help="what training takes")
    parser.add_argument("--limit", type=int, help="images, drawn at random")
    parser.add_argument("--points", type=int, default=33, help="of the curve")
    parser.add_argument("--seed", type=int, default=0, help="of images, random order")
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()

    model, dataset = opened(options.model), open_source(options.data, held_out=True)
    draws, config = np.random.default_rng(options.seed), model.config
    if options.limit and options.limit < len(dataset):
        dataset = dataset.take(
            np.sort(draws.choice(len(dataset), options.limit, replace=False))
        )
    dataset, _ = data.prepare(dataset, config.image_size, config.preprocessing)
    images = pp.normalize(np.asarray(dataset.images), config.preprocessing)
    right = accuracy(probabilities(model, images), dataset.labels)
    found, number = {}, config.grid[0] * config.grid[1]
    for name, settings in MAPS.items():
        if settings is None:
            importance = draws.random((len(images), number))
        else:
            importance = vit_keras.attention_map(
                model, images, **settings, per_patch=True, batch_size=64
            )
        order = np.argsort(-importance.reshape(len(images), -1), axis=1, kind="stable")
        found[name] = areas(model, images, order, options.points)
        print(f"{name}: {found[name].mean():.4f}", flush=True)

    def mean_and_error(values):
        return f"{values.mean():.4f}", f"{values.std(ddof=1) / len(values) ** 0.5:.4f}"

    rows = []
    for name, area in found.items():
        values = (options.model, options.data, name, *mean_and_error(area))
        values += mean_and_error(found["rollout"] - area)
        values += (f"{right:.4f}", len(images), number, options.seed)
        values += (machine(), f"{versions(PACKAGES)} on {keras.backend.backend()}")
        rows.append(dict(zip(FIELDS, values, strict=True)))
    if options.out is not None:
        write_rows(options.out, FIELDS, rows)


if __name__ == "__main__":
    main()

"""Small files for a page, one of each kind of output, and pictures for them."""

import numpy as np
from PIL import Image

import export
from tests.export.dense_models import CLASSES, SIZE, dense
from tests.models import exported

NAMES = [f"kind {index}" for index in range(10)]
SMALL = {"num_layers": 1}
LIGHT = {"num_layers": 1, "taps": 1, "decoder": "linear"}
# File: the model, and the options of its export.
KINDS = {
    "classes": (
        lambda: exported(**SMALL),
        {"outputs": ("logits", "attention"), "labels": NAMES, "licence": "CC0-1.0"},
    ),
    "inner": (lambda: exported(**SMALL), {"outputs": ("pooled", "logits", "features")}),
    "probabilities": (lambda: exported(activation="softmax", **SMALL), {}),
    "binary": (
        lambda: exported(classes=1, head="sigmoid", **SMALL),
        {"labels": ("no", "yes")},
    ),
    "labels": (
        lambda: exported(classes=3, head="multi_label", **SMALL),
        {"labels": "xyz"},
    ),
    "values": (
        lambda: exported(classes=2, head="regression", **SMALL),
        {"labels": ("a", "b")},
    ),
    "scores": (lambda: dense(**LIGHT), {"labels": CLASSES}),
    "small_scores": (
        lambda: dense(**LIGHT),
        {"labels": CLASSES, "output_size": "decoder"},
    ),
    "classes_map": (
        lambda: dense(**LIGHT),
        {"labels": CLASSES, "decode": "classes"},
    ),
    "depth": (lambda: dense("depth", depth_type="metric", **LIGHT), {}),
    "inverse_depth": (lambda: dense("depth", depth_type="inverse", **LIGHT), {}),
}


def write(name, folder, **changes):
    """Export a kind of file; return its path."""
    build, options = KINDS[name]
    options = {"target": "web", "input_dtype": "float32", **options, **changes}
    path = folder / f"{name}.tflite"
    export.to_tflite(build(), path, **options)
    return path


def picture(width=32, height=32, seed=0):
    """Pixels (height, width, 3) with edges and noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), "uint8"))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    noise = rng.normal(0, 8, smooth.shape)
    return (smooth + noise).clip(0, 255).astype("uint8")


def map_picture():
    """One of the size of the models with outputs at each pixel."""
    return picture(SIZE[1], SIZE[0])

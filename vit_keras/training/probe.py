"""Linear probe: a head on the features of a frozen backbone, computed once."""

import dataclasses

import keras
import numpy as np
from rich.console import Console

from ..data import Batches, Dataset
from .objective import HEADS, compiled
from .progress import new_bar
from .recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of images in front of the heads.

    Arguments:
        values: float32 (N, F); of two heads side by side.
        targets: float32 (N, classes).
    """

    values: np.ndarray
    targets: np.ndarray


def fit_probe(
    model,
    training: Dataset,
    validation: Dataset | None,
    recipe: Recipe,
    console: Console,
) -> list[dict]:
    """Train the head of a model, with each rate of a recipe; keep the best.

    Features are standardised for training, as by a batch norm without scale and
    centre in front of the head (MAE, arXiv 2111.06377, appendix A.1); the result is
    put into the head's kernel and bias.

    Arguments:
        model: a classifier; its head gets the weights of the best rate.
        training, validation: images, from `data.prepare`; validation may be None for
            one rate.
        recipe: gives `probe_rates`, `epochs`, `batch_size`, losses and optimizer.
        console: for progress.

    Returns:
        A row for each rate: `learning_rate`, `accuracy` and, with validation images,
        `val_accuracy`.
    """
    seen = features_of(model, training, recipe, console, recipe.flip)
    held_out = None
    if validation is not None:
        held_out = features_of(model, validation, recipe, console)
    mean, std = seen.values.mean(0), seen.values.std(0) + 1e-6
    seen = dataclasses.replace(seen, values=(seen.values - mean) / std)
    rows, best, kept = [], -1.0, None
    for rate in recipe.probe_rates or ():
        weights = _fit_head(seen, recipe.replace(learning_rate=float(rate)))
        kernel = weights[0] / std[:, None]
        bias = weights[1] - mean @ kernel
        row = {
            "learning_rate": float(rate),
            "accuracy": _accuracy(seen, weights),
        }
        if held_out is not None:
            row["val_accuracy"] = _accuracy(held_out, (kernel, bias))
        rows.append(row)
        if (score := row.get("val_accuracy", 0.0)) > best:
            best, kept = score, (kernel, bias)
    _assign(model, *kept)
    return rows


def features_of(model, dataset, recipe, console, flip=False) -> Features:
    """Return features of images, and of their mirror images if `flip`."""
    config, parts = model.config, [layer.input for layer in _heads(model)]
    both = parts[0] if len(parts) == 1 else keras.layers.Concatenate()(parts)
    extract = keras.Model(model.input, both)
    batches = Batches(
        dataset, config.image_size, config.preprocessing, recipe.batch_size
    )
    values, targets = [], []
    with new_bar(console, transient=True) as bar:
        task = bar.add_task("features", total=len(batches), text="")
        for i in range(len(batches)):
            images, labels = batches[i]
            for view in (images, images[:, :, ::-1])[: 1 + flip]:
                values.append(np.asarray(extract.predict_on_batch(view), "float32"))
                targets.append(labels)
            bar.advance(task)
    return Features(np.concatenate(values), np.concatenate(targets))


def _heads(model):
    return [layer for layer in model.layers if layer.name in HEADS]


def _fit_head(features, recipe):
    """Return kernel and bias of a head trained with a recipe's rate."""
    keras.utils.set_random_seed(recipe.seed)
    number, width = features.values.shape
    size = min(recipe.batch_size, number)
    head = keras.Sequential(
        [
            keras.Input((width,)),
            keras.layers.Dense(
                features.targets.shape[1], kernel_initializer="zeros", dtype="float32"
            ),
        ]
    )
    plain = recipe.replace(ema=None, accumulate=1, layer_decay=1.0)
    compiled(head, plain, recipe.epochs * -(-number // size))
    head.fit(
        features.values,
        features.targets,
        batch_size=size,
        epochs=recipe.epochs,
        verbose=0,
    )
    return head.get_weights()


def _accuracy(features, weights):
    kernel, bias = weights
    outputs = features.values @ kernel + bias
    return float(np.mean(outputs.argmax(-1) == features.targets.argmax(-1)))


def _assign(model, kernel, bias):
    """Assign a head, or two heads whose mean is the output."""
    heads = _heads(model)
    for layer, part in zip(heads, np.split(kernel, len(heads)), strict=True):
        layer.set_weights([part * len(heads), bias])

"""Linear probe: a head on the features of a frozen backbone, computed once."""

import dataclasses

import keras
import numpy as np
from rich.console import Console

from ..data import Dataset
from ..heads import HEADS
from .class_weights import class_weights, sample_weights
from .devices import jit_compile
from .evaluation import batches_for
from .metrics import measure
from .objective import HEAD_LAYERS, loss_of
from .optimizers import make_optimizer
from .progress import new_bar
from .recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of images in front of the heads.

    Arguments:
        values: float32 (N, F); of two heads side by side.
        targets: float32 (N, classes).
        weights: in the loss, float32 (N,), or None.
    """

    values: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None


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
        A row for each rate: `learning_rate`, and the metrics and loss of the head, on
        validation images with the prefix `val_`. Of equal metrics the smaller loss is
        the best.

    Raises:
        FloatingPointError: the loss is NaN or infinite with each rate.
    """
    head = HEADS[model.config.head]
    seen = features_of(model, training, recipe, console, recipe.flip)
    held_out = None
    if validation is not None:
        held_out = features_of(model, validation, recipe, console)
    by_class = class_weights(training, recipe)
    if by_class is not None:
        weights = sample_weights(seen.targets, by_class)
        seen = dataclasses.replace(seen, weights=weights)
    mean, std = seen.values.mean(0), seen.values.std(0) + 1e-6
    seen = dataclasses.replace(seen, values=(seen.values - mean) / std)
    rows, best, kept = [], None, {}
    for rate in recipe.probe_rates or ():
        rated = recipe.replace(learning_rate=float(rate), probe_rates=None)
        scaled, offset = _fit_head(seen, rated, model.config.head)
        found = _measure(seen, scaled, offset, model.config.head)
        kernel = scaled / std[:, None]
        bias = offset - mean @ kernel
        if held_out is not None:
            more = _measure(held_out, kernel, bias, model.config.head)
            found |= {f"val_{name}": value for name, value in more.items()}
        rows.append({"learning_rate": float(rate), **found})
        part = "" if held_out is None else "val_"
        # Few images have equal metrics. Without any label the metric is NaN.
        score = np.nan_to_num(head.score(found, part)), -found[part + "loss"]
        if np.isfinite(score).all() and (best is None or score > best):
            best, kept = score, rows[-1]
            _assign(model, kernel, bias)
    if best is None:
        raise FloatingPointError(
            "the loss is NaN or infinite with each of the `probe_rates`. "
            f"Received: probe_rates={recipe.probe_rates}"
        )
    said = ", ".join(f"{name} {value:.4g}" for name, value in kept.items())
    console.print(f"kept of {len(rows)} rates: {said.replace('_', ' ')}")
    return rows


def features_of(model, dataset, recipe, console, flip=False) -> Features:
    """Return features of images, and of their mirror images if `flip`."""
    parts = [layer.input for layer in _heads(model)]
    both = parts[0] if len(parts) == 1 else keras.layers.Concatenate()(parts)
    extract = keras.Model(model.input, both)
    batches = batches_for(model, dataset, recipe.batch_size)
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
    return [layer for layer in model.layers if layer.name in HEAD_LAYERS]


def _fit_head(features, recipe, kind):
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
    if kind == "regression":  # as `start_at_mean`: features have mean 0
        head.set_weights([head.weights[0], features.targets.mean(0)])
    optimizer = make_optimizer(recipe, recipe.epochs * -(-number // size))
    head.compile(optimizer, loss_of(recipe, kind), jit_compile=jit_compile())
    head.fit(
        features.values,
        features.targets,
        batch_size=size,
        sample_weight=features.weights,
        epochs=recipe.epochs,
        verbose=0,
    )
    return head.get_weights()


def _measure(features, kernel, bias, head):
    return measure([(features.values @ kernel + bias, features.targets)], head)


def _assign(model, kernel, bias):
    """Assign a head, or two heads whose mean is the output."""
    heads = _heads(model)
    for layer, part in zip(heads, np.split(kernel, len(heads)), strict=True):
        layer.set_weights([part * len(heads), bias])

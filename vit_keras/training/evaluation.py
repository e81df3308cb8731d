"""Evaluation of a classifier: reading labelled images, accuracy, loss."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from .. import data as images
from ..config import ViTConfig
from ..model_file import open_classifier
from .opening import open_data
from .progress import new_bar

if TYPE_CHECKING:
    import keras


def read(
    dataset, config: ViTConfig, strict, console, keep_pixels=True
) -> images.Dataset:
    """Read all images, with a progress bar; report unreadable ones."""
    with new_bar(console, transient=True) as bar:
        task = bar.add_task("reading images", total=len(dataset), text="")
        readable, bad = images.prepare(
            dataset,
            config.image_size,
            config.preprocessing,
            strict=strict,
            keep_pixels=keep_pixels,
            advance=lambda: bar.advance(task),
        )
    for line in bad:
        console.print(f"skipped: {line}", style="yellow", markup=False, soft_wrap=True)
    if bad:
        console.print(f"{len(bad)} of {len(dataset)} files skipped", style="yellow")
    return readable


def evaluate(
    model: "keras.Model | str | os.PathLike[str]",
    data: Any,
    *,
    batch_size: int = 64,
    strict: bool = False,
    console: Console | None = None,
) -> dict[str, float]:
    """Measure top-1 accuracy and cross-entropy of a classifier.

    Arguments:
        model: a ViT of this package with a head, linear or softmax; or the folder of a
            run, or a `.keras` file, with the class names in `labels.txt` beside it.
        data: a source of `data.open_source`; its test part is used if it has one,
            else its validation part. Its classes are matched by name to the labels;
            without labels, they are in the order of the model's outputs.
        batch_size: images per step.
        strict: fail on unreadable images, duplicates and other files instead of naming
            them.
        console: for messages and progress; None means the terminal.

    Returns:
        {"images", "accuracy", "loss"}; the loss is the mean negative log-likelihood.

    Raises:
        ValueError: the classes differ from the model's, or it is no classifier.
        FileNotFoundError: the model does not exist.
    """
    console = console or Console()
    dataset = open_data(data, strict, console, held_out=True).part(held_out=True)
    classifier, labels = model, None
    if isinstance(model, str | os.PathLike):
        classifier, labels = open_classifier(model)
    if labels is not None:
        dataset = images.match_classes(dataset, labels)
    config, classes = _config_and_classes(classifier)
    if len(dataset.classes) != classes:
        raise ValueError(
            f"`data` must have the model's {classes} classes. "
            f"Received: {len(dataset.classes)} classes"
        )
    dataset = read(dataset, config, strict, console)
    outputs = outputs_on(classifier, dataset, batch_size)
    log_likelihood = log_probabilities(outputs, config.activation)
    chosen = log_likelihood[np.arange(len(dataset)), dataset.labels]
    return {
        "images": len(dataset),
        "accuracy": accuracy(outputs, dataset.labels),
        "loss": float(-chosen.mean()),
    }


def _config_and_classes(model: Any) -> tuple[ViTConfig, int]:
    """Return the configuration of a classifier, and its number of classes."""
    return model.config, model.output_shape[-1]


def outputs_on(model, dataset: images.Dataset, batch_size: int = 64) -> np.ndarray:
    """Return a model's outputs (N, ...) for the images of a data set, in order."""
    config = model.config
    batches = images.Batches(
        dataset, config.image_size, config.preprocessing, batch_size
    )
    return np.concatenate(
        [np.asarray(model.predict_on_batch(batches[i][0])) for i in range(len(batches))]
    )


def accuracy(outputs, labels) -> float:
    """Return the fraction of images whose largest output is their class.

    Arguments:
        outputs: (N, classes).
        labels: int (N,), or one-hot (N, classes).
    """
    labels = np.asarray(labels)
    labels = labels.argmax(-1) if labels.ndim == 2 else labels
    return float(np.mean(np.asarray(outputs).argmax(-1) == labels))


def log_probabilities(outputs, activation):
    """Return the logarithm of class probabilities.

    Arguments:
        outputs: (N, C), of a head.
        activation: of this head, "linear" or "softmax".

    Returns:
        float64 array (N, C).

    Raises:
        ValueError: another activation, whose outputs are no distribution.
    """
    outputs = np.asarray(outputs, "float64")
    if activation == "softmax":
        return np.log(np.maximum(outputs, np.finfo("float64").tiny))
    if activation != "linear":
        raise ValueError(
            "`activation` must be 'linear' or 'softmax' to give probabilities. "
            f"Received: activation={activation!r}"
        )
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

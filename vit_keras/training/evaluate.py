"""Reading labelled images, and the accuracy of a classifier on them."""

import numpy as np
from rich.console import Console

from .. import data as images
from ..config import ViTConfig
from ..data.sources import open_source
from .progress import new_bar


def read(
    dataset, config: ViTConfig, strict, console, keep_pixels=True
) -> images.Dataset:
    """Read all images, with a bar; name the unreadable ones."""
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
    model,
    data,
    *,
    batch_size: int = 64,
    strict: bool = False,
    console: Console | None = None,
) -> dict[str, float]:
    """Top-1 accuracy and cross-entropy of a classifier.

    Arguments:
        model: a ViT of this package with a head, linear or softmax.
        data: what `sources.open_source` takes, its test part where it has one; its
            classes in the order of the model's outputs.
        batch_size: images per step.
        strict: fail on an unreadable image instead of leaving it out.
        console: for messages and progress; None means the terminal.

    Returns:
        {"images", "accuracy", "loss"}; the loss is the mean negative log-likelihood.

    Raises:
        ValueError: the number of classes differs from the model's.
    """
    dataset = open_source(data, held_out=True)
    if len(dataset.classes) != model.output_shape[-1]:
        raise ValueError(
            f"`data` must have the model's {model.output_shape[-1]} classes. "
            f"Received: {len(dataset.classes)} classes"
        )
    config = model.config
    dataset = read(dataset, config, strict, console or Console())
    batches = images.Batches(
        dataset, config.image_size, config.preprocessing, batch_size
    )
    outputs = np.concatenate(
        [np.asarray(model.predict_on_batch(batches[i][0])) for i in range(len(batches))]
    )
    log_likelihood = log_probabilities(outputs, config.activation)
    chosen = log_likelihood[np.arange(len(dataset)), dataset.labels]
    correct = outputs.argmax(axis=1) == dataset.labels
    return {
        "images": len(dataset),
        "accuracy": float(correct.mean()),
        "loss": float(-chosen.mean()),
    }


def log_probabilities(outputs, activation):
    """Logarithm of the classes' probabilities.

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

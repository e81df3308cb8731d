"""Evaluation of a model: reading labelled images, its metrics and loss."""

import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from .. import data as images
from ..atomic import check_writable
from ..config import ViTConfig
from ..heads import HEADS
from ..model_file import open_trained
from .dense_evaluation import map_batches, score_maps, write_worst
from .metrics import measure
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
    part: str | None = None,
    batch_size: int = 64,
    strict: bool = False,
    out: str | os.PathLike[str] | None = None,
    console: Console | None = None,
) -> dict[str, float]:
    """Measure a model on labelled images, by the metrics of its head.

    Arguments:
        model: a ViT of this package with a head, linear or softmax; or the folder of a
            run, or a `.keras` file, with the class names in `labels.txt` beside it.
        data: a source of `data.open_source`; its test part is used if it has one,
            else its validation part. Its classes are matched by name to the labels;
            without labels, they are in the order of the model's outputs.
        part: of the data, "train", "validation" or "test"; None for the one above.
        batch_size: images per step.
        strict: fail on unreadable images, duplicates and other files instead of naming
            them.
        out: folder for pictures of the worst images, truth and prediction side by side;
            for outputs at each pixel.
        console: for messages and progress; None means the terminal.

    Returns:
        {"images", "accuracy", "loss"} of the heads "softmax" (top-1) and "sigmoid";
        "mean_average_precision" instead of the accuracy for "multi_label",
        "mean_absolute_error" and "r2_score" for "regression". The loss is the mean
        cross-entropy, or squared error. "segmentation" gives "mean_iou", "accuracy",
        "loss", and "iou/NAME" of each class, from the pixels of all images at the sizes
        of their masks; "depth" gives "absolute_relative_error", "delta_1",
        "root_mean_squared_error" and "loss", of inverse depths after an alignment of
        each image, see `dense_metrics.as_distances`.

    Raises:
        ValueError: the classes or the kind of labels differ from the model's, or it
            has no head; `out` is given for outputs of whole images; or the part for
            tests has no labels, and `part` names no other.
        FileNotFoundError: the model does not exist.
        OSError: `out` cannot be written to.
    """
    console = console or Console()
    classifier, labels = model, None
    if isinstance(model, str | os.PathLike):
        classifier, labels = open_trained(model)
    config, classes = _config_and_classes(classifier)
    maps = HEADS[config.head].dense
    if out is not None and not maps:
        raise ValueError(
            "`out` must be None unless the head has outputs at each pixel. "
            f"Received: out={os.fspath(out)!r}, head={config.head!r}"
        )
    if out is not None:
        check_writable(pathlib.Path(out))
    task = HEADS[config.head].task
    opened = open_data(data, strict, console, held_out=True, task=task, part=part)
    dataset = opened.part(held_out=True, chosen=part)
    if labels is not None:
        dataset = images.match_classes(dataset, labels)
    dataset = checked_for(dataset, config.head, classes)
    dataset = read(dataset, config, strict, console, keep_pixels=out is None)
    if config.depth_type == "inverse":
        console.print("inverse depth: scale and shift of each image by least squares")
    if maps:
        result = score_maps(classifier, dataset, batch_size, console)
        if out is not None:
            write_worst(classifier, dataset, result, pathlib.Path(out))
        return {"images": len(dataset), **result.metrics(dataset.classes)}
    outputs = outputs_on(classifier, dataset, batch_size)
    found = measure(
        [(outputs, images.targets(dataset))], config.head, config.activation
    )
    return {"images": len(dataset), **found}


def checked_for(dataset: images.Dataset, head: str, outputs: int) -> images.Dataset:
    """Return a data set with the labels of a model's head.

    Arguments:
        head: a name in `HEADS`.
        outputs: their number.

    Raises:
        ValueError: number of names, or labels, do not fit.
    """
    names, things = HEADS[head].names(outputs), HEADS[head].things
    if len(dataset.classes) != names:
        raise ValueError(
            f"`data` must have the model's {names} {things}. "
            f"Received: {len(dataset.classes)} {things}"
        )
    return images.with_head(dataset, head)


def _config_and_classes(model: Any) -> tuple[ViTConfig, int]:
    """Return the configuration of a classifier, and its number of classes."""
    return model.config, model.output_shape[-1]


def batches_for(model, dataset: images.Dataset, batch_size: int) -> images.Batches:
    """Return a data set in order, as batches of what a model takes."""
    config = model.config
    if HEADS[config.head].dense:
        return map_batches(model, dataset, batch_size)
    return images.Batches(dataset, config.image_size, config.preprocessing, batch_size)


def outputs_on(
    model, dataset: images.Dataset, batch_size: int = 64, predict: Any = None
) -> np.ndarray:
    """Return a model's outputs (N, ...) for the images of a data set, in order.

    `predict` computes those of a batch; None is the model's `predict_on_batch`.
    """
    batches = batches_for(model, dataset, batch_size)
    predict = predict or model.predict_on_batch
    return np.concatenate(
        [np.asarray(predict(batches[i][0])) for i in range(len(batches))]
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

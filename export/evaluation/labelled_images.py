"""Labelled images of the user's, on which a model and its file are scored."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_keras import data
from vit_keras.heads import HEADS
from vit_keras.training.evaluation import checked_for
from vit_keras.training.metrics import measure

from . import runners
from .labelled_masks import open_masks


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Labelled images, and what the Keras model gives for them.

    Attributes:
        images: as the artefact takes them, (N, H, W, C).
        targets: (N, K) as `vit_keras.data.targets` gives them, or masks (N, h, w).
        reference: the Keras model's outputs, {name: (N, ...)}, fed what its user feeds.
        outputs: what the output with classes means (`ModelOutput`).
        labelled: name of that output; None for an artefact of one output.
    """

    images: np.ndarray
    targets: np.ndarray
    reference: Mapping[str, np.ndarray]
    outputs: Any
    labelled: str | None

    @classmethod
    def open(cls, inputs: Any) -> "Labelled | None":
        """Open the `evaluation` of `ExportInputs`; None if there is none.

        Raises:
            ValueError: the images or labels do not fit the model.
        """
        if inputs.evaluation is None:
            return None
        images, targets = open_evaluation(inputs)
        reference = inputs.references(images)
        return cls(images, targets, reference, inputs.outputs, inputs.labelled)

    def score(self, found: Mapping[str, np.ndarray]) -> float:
        """Return the head's metric of outputs by name, from 0 to 1."""
        values = found[self.labelled or next(iter(found))]
        head = self.outputs.head
        metrics = measure([(values, self.targets)], head, self.outputs.activation)
        return float(metrics[HEADS[head].metric])

    def compare_file(self, path: Any) -> dict[str, Any]:
        """Return the report's entry: what the model and an artefact reach."""
        found = runners.run_on_all_cores(path, self.images)
        return {
            "metric": HEADS[self.outputs.head].metric,
            "images": len(self.images),
            "model": self.score(self.reference),
            "file": self.score(found),
        }


def open_evaluation(inputs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Load the labelled images as pixels (N, H, W, C) and targets (N, K), or masks.

    Raises:
        ValueError: the images or labels do not fit the model.
    """
    outputs, given = inputs.outputs, inputs.evaluation
    if outputs.segments:
        return open_masks(inputs)
    if not outputs.classifies:
        raise ValueError(
            "`evaluation` and `accuracy_drop` must be None for a model without "
            f"classes; `min_sqnr` fits any. Received: output {outputs.shape}, "
            f"head={outputs.head!r}"
        )
    size = inputs.model.input_shape[1:3]
    if isinstance(given, tuple) and len(given) == 2:  # what the model takes, perhaps
        images, labels = data.load_images(given[0], size, inputs.reading), given[1]
        dataset = _of_arrays(images, np.asarray(labels), outputs)
    else:
        images, dataset = _labelled(given, size, inputs.reading, inputs.labels)
    if dataset.labels.ndim == 1:  # no image may be of the last classes
        more = map(str, range(len(dataset.classes), outputs.names))
        dataset = dataclasses.replace(dataset, classes=(*dataset.classes, *more))
    try:
        dataset = checked_for(dataset, outputs.head, outputs.shape[1])
    except ValueError as error:
        raise ValueError(f"`evaluation` must fit the model: {error}") from error
    return images, data.targets(dataset)


def _of_arrays(images, labels, outputs):
    """A `Dataset` of pixels and labels: classes (N,), or labels (N, K) of 0 and 1."""
    several = outputs.head == "multi_label" and labels.ndim == 2
    if len(labels) != len(images) or not (
        several or (labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer))
    ):
        raise ValueError(
            f"`evaluation` must have an integer label per image, ({len(images)},), or "
            f"for head='multi_label' labels (N, K). Received: {labels.dtype} "
            f"{labels.shape}, head={outputs.head!r}"
        )
    names = tuple(map(str, range(outputs.names)))
    head = "multi_label" if several else "softmax"
    return data.Dataset(images, labels, names, head)


def _labelled(given, size, preprocessing, names):
    if preprocessing is None:
        raise ValueError(
            "`evaluation` must be a pair of arrays for a model that carries no "
            f"preprocessing, or `preprocessing` be given. Received: {given!r}"
        )
    try:
        dataset = data.open_source(given, held_out=True)
        if names is not None:  # a folder may lack some classes
            dataset = data.match_classes(dataset, names)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"`evaluation` must be labelled images: {error}") from error
    pixels = [
        data.read_fitted(dataset.images[i], size, preprocessing)
        for i in range(len(dataset))
    ]
    return np.stack(pixels), dataset

"""What a writer starts from: the model, and what goes into the artefact with it."""

import dataclasses
import os
from typing import Any

import keras
import numpy as np

from .graph import build
from .quantization.calibration import Images, load_parity_images


@dataclasses.dataclass(frozen=True)
class Source:
    """A checked model with its company.

    Attributes:
        model: the Keras model.
        preprocessing: `vit_keras.Preprocessing` to put inside, or None.
        labels: class names, or None.
        images: for calibration and parity.
    """

    model: Any
    preprocessing: Any
    labels: list[str] | None
    images: Images

    @classmethod
    def open(cls, model, preprocessing, labels, calibration, limit) -> "Source":
        """Open and check what the user gave.

        Arguments:
            model: a Keras model or the path of a `.keras` file.
            preprocessing, labels, calibration: as `to_tflite` has them.
            limit: use at most this many images.

        Raises:
            ValueError: something does not fit the model.
            FileNotFoundError: a file or folder does not exist.
        """
        from vit_keras.model import open_model

        if isinstance(model, str | os.PathLike):
            model = open_model(model)
        model = build.check_model(model)
        _check_finite(model)
        labels = _check_labels(model, labels)
        preprocessing = preprocessing or build.find_preprocessing(model)
        images = load_parity_images(
            calibration, model.input_shape, preprocessing, limit
        )
        return cls(model, preprocessing, labels, images)

    def notes(self) -> tuple[str, ...]:
        """What the user should know of this export, one line each."""
        found = []
        if self.preprocessing is None:
            found.append(
                "the model carries no preprocessing, so none is inside: feed the "
                "artefact what you feed the model"
            )
        if self.images.synthetic:
            found.append("no images were given: parity is measured on random patterns")
        return tuple(found)

    def describe(self, notes=()) -> dict[str, Any]:
        """The fields of a report that the source decides, and more notes."""
        inside = self.preprocessing
        return {
            "preprocessing": None if inside is None else dataclasses.asdict(inside),
            "parity_images": self.images.source,
            "labels": self.labels,
            "notes": (*self.notes(), *notes),
        }


def _check_finite(model):
    """Refuse a model that training has broken.

    Raises:
        ValueError: a weight is infinite or no number.
    """
    for weight in model.weights:
        values = keras.ops.convert_to_numpy(weight)
        if "float" in values.dtype.name and not np.isfinite(values).all():
            raise ValueError(
                "`model` must have finite weights. Received: NaN or infinity in "
                f"'{weight.path}'"
            )


def _check_labels(model, labels):
    """Labels as a list, one per class of the model's output."""
    if labels is None:
        return None
    labels = [str(label) for label in labels]
    classes = model.output_shape[-1]
    if len(labels) != classes:
        raise ValueError(
            f"`labels` must have {classes} names, one per output. "
            f"Received: {len(labels)}"
        )
    broken = [label for label in labels if len(label.splitlines()) > 1]
    if broken:
        raise ValueError(f"`labels` must be one line each. Received: {broken[0]!r}")
    return labels

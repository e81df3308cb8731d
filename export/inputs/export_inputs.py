"""Export inputs, opened and checked."""

import dataclasses
import os
from typing import Any

import numpy as np

from ..evaluation.parity_images import ParityImages, open_images
from ..evaluation.reference import references
from ..evaluation.user_predictions import UserPredictions, predicts_by_itself
from ..plan import ExportPlan
from .user_inputs import UserInputs


@dataclasses.dataclass(frozen=True)
class ExportInputs:
    """A checked model and everything that its export needs.

    Attributes:
        model: the Keras model.
        meaning: what its input means (`graph.model_input.ModelInput`).
        outputs: what it gives (`graph.model_output.ModelOutput`), or `labelled` of it.
        labels: names of classes, labels or values, or None.
        images: for calibration and parity.
        evaluation: labelled images for measuring accuracy, not opened, or None.
        description, licence: of the model, in the user's words, or None.
        output: name or index of the output, of a model with several, or None.
        names: of the artefact's outputs (`graph.named_outputs`); None for one.
        labelled: name of the output that labels and head belong to.
        predicted: what `model.predict` gives, where that may be something else than the
            model's layers do.
    """

    model: Any
    meaning: Any
    outputs: Any
    labels: list[str] | None
    images: ParityImages
    evaluation: Any = None
    description: str | None = None
    licence: str | None = None
    output: str | int | None = None
    names: tuple[str, ...] | None = None
    labelled: str | None = None
    predicted: UserPredictions | None = None

    @classmethod
    def open(cls, user: UserInputs, limit: int) -> "ExportInputs":
        """Open and check the user's inputs.

        Arguments:
            user: the inputs, not opened.
            limit: maximal number of images.

        Raises:
            ValueError: an input does not fit the model.
            FileNotFoundError: a file or folder does not exist.
        """
        from vit_keras.labels import config_labels, find_labels

        from ..graph.model_output import check_labels
        from ..graph.named_outputs import names_of_outputs, read_named_outputs

        source = user.source_model()
        model, meaning = user.open_model(source)
        names = names_of_outputs(model, user.outputs)
        labels = user.labels
        if labels is None and isinstance(user.model, str | os.PathLike):
            labels = find_labels(user.model)
        if labels is None:
            labels = config_labels(model)
        outputs, labelled = read_named_outputs(model, names, user.head, labels)
        _check_finite(model)
        images = open_images(user.calibration, model, meaning, limit)
        predicted = user.predicted
        if predicted is None and predicts_by_itself(source):
            predicted = UserPredictions.of(source, images.pixels, meaning)
        return cls(
            model=model,
            meaning=meaning,
            outputs=outputs,
            labels=check_labels(outputs, labels),
            images=images,
            evaluation=user.evaluation,
            description=user.description,
            licence=user.licence,
            output=user.output,
            names=names,
            labelled=labelled,
            predicted=predicted,
        )

    @property
    def preprocessing(self):
        """The `vit_keras.Preprocessing` to put inside, or None."""
        return self.meaning.inside

    @property
    def reading(self):
        """The `vit_keras.Preprocessing` that photographs are read with, or None."""
        return self.meaning.reading

    def references(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """What the Keras model gives for images (N, H, W, C), as the artefact takes
        them: {name of the output in the artefact: (N, ...)}."""
        return references(self.model, images, self.preprocessing, names=self.names)

    @property
    def takes_pixels(self) -> bool:
        """Whether the artefact takes pixels 0..255."""
        return self.meaning.takes_pixels

    def calibrated(self, plan: ExportPlan) -> dict[str, Any] | None:
        """Return the report's entry on calibration images; None without calibration."""
        if not plan.calibrated or plan.trained:
            return None
        return {**self.images.summary(), "method": plan.calibration_method}

    def check_calibration(self, plan: ExportPlan) -> None:
        """Refuse images that are not what the model is fed, as far as that shows.

        Raises:
            ValueError: they are integers, as files have them, for a model whose input
                is not known to be pixels.
        """
        floats = "float" in self.model.inputs[0].dtype
        if self.takes_pixels or not floats or self.calibrated(plan) is None:
            return
        if "float" not in self.images.pixels.dtype.name:
            raise ValueError(
                "`calibration` must be what `model.predict` is fed, as float32: the "
                "model does not say what it does to pixels, and ranges of pixels "
                "0..255 are wrong for a model that is fed others. Or give "
                '`preprocessing`, which is "0..255" for a model that takes them. '
                f"Received: {self.images.pixels.dtype}"
            )

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of this export, one line each."""
        found = []
        if not self.takes_pixels:
            pixels = self.images.pixels
            found.append(
                "the model carries no preprocessing, so none is inside: feed the "
                "artefact what you feed the model; to include it, give `preprocessing`."
                f" It was tried on values from {pixels.min():g} to {pixels.max():g}"
            )
        if self.images.synthetic:
            found.append("no images were given: parity is measured on random patterns")
        return tuple(found)

    def report_fields(self, dtype: str, notes=()) -> dict[str, Any]:
        """The fields of a report that the inputs decide.

        Arguments:
            dtype: of the artefact's input.
            notes: more of them.
        """
        inside = self.preprocessing
        return {
            "preprocessing": None if inside is None else dataclasses.asdict(inside),
            "model_output": self.output,
            "head": self.outputs.head,
            "activation": self.outputs.activation,
            "input_meaning": self.meaning.describe(dtype),
            "model_input": self.meaning.describe_model(),
            "parity_images": self.images.source,
            "labels": self.labels,
            "notes": (*self.notes(), *self.outputs.notes, *notes),
        }


def _check_finite(model):
    """Refuse a model with infinite or NaN weights.

    Raises:
        ValueError: a weight is infinite or NaN; the message names it.
    """
    import keras

    for weight in model.weights:
        values = keras.ops.convert_to_numpy(weight)
        if "float" in values.dtype.name and not np.isfinite(values).all():
            raise ValueError(
                "`model` must have finite weights. Received: NaN or infinity in "
                f"'{weight.path}'"
            )

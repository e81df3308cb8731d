"""Export inputs: as the user gave them, and opened and checked."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .evaluation.parity_images import ParityImages, open_images

CALIBRATION_LIMIT = 128  # more images hardly widen a minimum and maximum
AWARE = "QuantizedModel"  # class of the models that `quantize_aware` returns


@dataclasses.dataclass(frozen=True)
class UserInputs:
    """The model and its data as given to `to_tflite`; nothing is opened yet."""

    model: Any
    calibration: Any = None
    evaluation: Any = None
    preprocessing: Any = None
    labels: Any = None
    description: str | None = None
    licence: str | None = None
    input_shape: Sequence[int] | None = None
    output: Any = None
    custom_objects: dict[str, Any] | None = None
    head: str | None = None
    outputs: Any = None

    @property
    def is_trained(self) -> bool:
        """Whether the model comes from `quantize_aware`; reads the `.keras` file
        without loading TensorFlow."""
        if not isinstance(self.model, str | os.PathLike):
            return type(self.model).__name__ == AWARE
        from vit_keras.weights.formats.keras_archive import CONFIG, archive_settings

        try:
            return archive_settings(self.model)[CONFIG].get("class_name") == AWARE
        except (OSError, ValueError):
            return False  # opening the model raises the full error

    @contextlib.contextmanager
    def saved(self) -> Iterator[dict[str, Any]]:
        """Store the inputs as JSON and temporary files, for another process.

        `UserInputs.restored` reads them there.
        """
        from .graph import custom_objects

        with tempfile.TemporaryDirectory() as folder:
            model = self.model
            objects = custom_objects.describe_classes(model, self.custom_objects)
            if not isinstance(model, str | os.PathLike):
                model = os.path.join(folder, "model.keras")
                _save(self.model, model)
            labels, preprocessing = self.labels, self.preprocessing
            if preprocessing is not None and not isinstance(preprocessing, str):
                preprocessing = dataclasses.asdict(preprocessing)
            yield {
                "model": os.fspath(model),
                "custom_objects": objects,
                "input_shape": self.input_shape and list(self.input_shape),
                "output": self.output,
                "outputs": self.outputs,
                "head": self.head,
                "calibration": self._save_images(folder),
                "evaluation": self._save_evaluation(folder),
                "labels": None if labels is None else [str(name) for name in labels],
                "preprocessing": preprocessing,
                "description": self.description,
                "licence": self.licence,
            }

    @classmethod
    def restored(cls, data: dict[str, Any]) -> "UserInputs":
        """Read what `saved` stored."""
        from vit_keras import Preprocessing

        from .graph import custom_objects

        preprocessing = data["preprocessing"]
        if isinstance(preprocessing, dict):
            preprocessing = Preprocessing(**preprocessing)
        changes = {
            "preprocessing": preprocessing,
            "custom_objects": custom_objects.import_classes(data["custom_objects"]),
            "calibration": _loaded(data["calibration"]),
            "evaluation": _loaded(data["evaluation"]),
        }
        return cls(**{**data, **changes})

    def _save_images(self, folder):
        source = self.calibration
        if source is None or isinstance(source, str | os.PathLike):
            return source and os.fspath(source)
        file = os.path.join(folder, "calibration.npz")
        np.savez(file, self._pixels(source, CALIBRATION_LIMIT))
        return {"arrays": file}

    def _save_evaluation(self, folder):
        source = self.evaluation
        if source is None or isinstance(source, str | os.PathLike):
            return source and os.fspath(source)
        if not (isinstance(source, tuple) and len(source) == 2):
            from vit_keras import data

            dataset = data.open_source(source, held_out=True)
            source = self._pixels(dataset, None), dataset.labels
        file = os.path.join(folder, "evaluation.npz")
        np.savez(file, *map(np.asarray, source))
        return {"arrays": file}

    def _pixels(self, source, limit):
        """Load images as one array of the model's input size."""
        from vit_keras import data

        if hasattr(source, "__array__"):
            return np.asarray(source)
        model, meaning = self.open_model()
        return data.load_images(source, model.input_shape[1:3], meaning.reading, limit)

    def open_model(self) -> tuple[Any, Any]:
        """The functional model that is exported, and its `ModelInput`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be exported, or `preprocessing` does not fit it.
        """
        from .graph.open_source import open_for_export

        return open_for_export(
            self.model,
            preprocessing=self.preprocessing,
            input_shape=self.input_shape,
            output=self.output,
            outputs=self.outputs,
            custom_objects=self.custom_objects,
        )


def _save(model, path):
    """Write a model to a file that another process opens."""
    try:
        model.save(path)
    except Exception as error:  # of a layer's own `get_config`, or of Keras
        raise ValueError(
            "`model` must be one that can be saved: the export runs in another process,"
            f" with Keras on TensorFlow. model.save() says: {error}. Start Python with "
            "KERAS_BACKEND=tensorflow to export it as it is"
        ) from error


def _loaded(source):
    """Read images that `saved` stored: a name, an array, or a pair of arrays."""
    if not isinstance(source, dict):
        return source
    with np.load(source["arrays"], allow_pickle=False) as stored:
        arrays = tuple(stored[name] for name in stored)
    return arrays[0] if len(arrays) == 1 else arrays


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

        from .graph.model_output import check_labels
        from .graph.named_outputs import names_of_outputs, read_named_outputs

        model, meaning = user.open_model()
        names = names_of_outputs(model, user.outputs)
        labels = user.labels
        if labels is None and isinstance(user.model, str | os.PathLike):
            labels = find_labels(user.model)
        if labels is None:
            labels = config_labels(model)
        outputs, labelled = read_named_outputs(model, names, user.head, labels)
        _check_finite(model)
        return cls(
            model=model,
            meaning=meaning,
            outputs=outputs,
            labels=check_labels(outputs, labels),
            images=open_images(user.calibration, model, meaning, limit),
            evaluation=user.evaluation,
            description=user.description,
            licence=user.licence,
            output=user.output,
            names=names,
            labelled=labelled,
        )

    @property
    def preprocessing(self):
        """The `vit_keras.Preprocessing` to put inside, or None."""
        return self.meaning.inside

    @property
    def reading(self):
        """The `vit_keras.Preprocessing` that photographs are read with, or None."""
        return self.meaning.reading

    @property
    def takes_pixels(self) -> bool:
        """Whether the artefact takes pixels 0..255."""
        return self.meaning.takes_pixels

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of this export, one line each."""
        found = []
        if not self.takes_pixels:
            found.append(
                "the model carries no preprocessing, so none is inside: feed the "
                "artefact what you feed the model; to include it, give `preprocessing`"
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

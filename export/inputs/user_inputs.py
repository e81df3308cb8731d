"""Export inputs as the user gave them, also for another process."""

import contextlib
import dataclasses
import functools
import json
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..evaluation.parity_images import open_images
from ..evaluation.user_predictions import FEW, UserPredictions

CALIBRATION_LIMIT = 128  # more images hardly widen a minimum and maximum
AWARE = "QuantizedModel"  # class of the models that `quantize_aware` returns


@dataclasses.dataclass(frozen=True)
class UserInputs:
    """The model and its data as given to `to_tflite`; nothing is opened yet.

    `predicted` is what the model gave in the process that it was given in, if that is
    another one.
    """

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
    predicted: UserPredictions | None = None

    @property
    def is_trained(self) -> bool:
        """Whether the model comes from `quantize_aware`; reads the `.keras` file
        without loading TensorFlow."""
        if not isinstance(self.model, str | os.PathLike):
            return type(self.model).__name__ == AWARE
        try:
            with zipfile.ZipFile(self.model) as archive:
                config = json.loads(archive.read("config.json"))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            return False  # opening the model raises the full error
        return config.get("class_name") == AWARE

    @contextlib.contextmanager
    def saved(self) -> Iterator[dict[str, Any]]:
        """Store the inputs as JSON and temporary files, for another process.

        `UserInputs.restored` reads them there.
        """
        from ..graph import custom_objects

        with tempfile.TemporaryDirectory() as folder:
            model = self.model
            objects = custom_objects.describe_classes(model, self.custom_objects)
            if not isinstance(model, str | os.PathLike):
                model = os.path.join(folder, "model.keras")
                _save(self.model, model)
            source = functools.cache(self.source_model)
            opened = functools.cache(lambda: self.open_model(source()))  # or not at all
            calibration = self._save_images(folder, opened)
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
                "calibration": calibration,
                "evaluation": self._save_evaluation(folder, opened),
                "predicted": _save_predictions(source(), opened, calibration, folder),
                "labels": None if labels is None else [str(name) for name in labels],
                "preprocessing": preprocessing,
                "description": self.description,
                "licence": self.licence,
            }

    @classmethod
    def restored(cls, data: dict[str, Any]) -> "UserInputs":
        """Read what `saved` stored."""
        from vit_keras import Preprocessing

        from ..graph import custom_objects

        preprocessing, predicted = data["preprocessing"], data["predicted"]
        if isinstance(preprocessing, dict):
            preprocessing = Preprocessing(**preprocessing)
        changes = {
            "preprocessing": preprocessing,
            "custom_objects": custom_objects.import_classes(data["custom_objects"]),
            "calibration": _loaded(data["calibration"]),
            "evaluation": _loaded(data["evaluation"]),
            "predicted": predicted and UserPredictions.load(predicted),
        }
        return cls(**{**data, **changes})

    def _save_images(self, folder, opened):
        source = self.calibration
        if source is None or isinstance(source, str | os.PathLike):
            return source and os.fspath(source)
        file = os.path.join(folder, "calibration.npz")
        np.savez(file, _pixels(source, opened, CALIBRATION_LIMIT))
        return {"arrays": file}

    def _save_evaluation(self, folder, opened):
        source = self.evaluation
        if source is None or isinstance(source, str | os.PathLike):
            return source and os.fspath(source)
        if not (isinstance(source, tuple) and len(source) == 2):
            from vit_keras import data

            dataset = data.open_source(source, held_out=True)
            source = _pixels(dataset, opened, None), dataset.labels
        file = os.path.join(folder, "evaluation.npz")
        np.savez(file, *map(np.asarray, source))
        return {"arrays": file}

    def source_model(self) -> Any:
        """The user's Keras model, opened if it is a file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no model.
        """
        from ..graph.open_source import open_source

        if isinstance(self.model, str | os.PathLike):
            return open_source(self.model, self.custom_objects)
        return self.model

    def open_model(self, source: Any = None) -> tuple[Any, Any]:
        """The functional model that is exported, and its `ModelInput`.

        Arguments:
            source: what `source_model` returned, if it was called.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be exported, or `preprocessing` does not fit it.
        """
        from ..graph.open_source import open_for_export

        return open_for_export(
            self.model if source is None else source,
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


def _pixels(source, opened, limit):
    """Load images as one array of the model's input size."""
    from vit_keras import data

    if hasattr(source, "__array__"):
        return np.asarray(source)
    model, meaning = opened()
    return data.load_images(source, model.input_shape[1:3], meaning.reading, limit)


def _save_predictions(source, opened, calibration, folder):
    """What `model.predict` gives here, where its layers are the user's own."""
    if hasattr(source, "reference"):  # a file of another maker
        return None
    model, meaning = opened()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on images; the other process warns, too
        images = open_images(_loaded(calibration), model, meaning, FEW)
    found = UserPredictions.of(source, images.pixels, meaning)
    found.save(file := os.path.join(folder, "predictions.npz"))
    return file


def _loaded(source):
    """Read images that `saved` stored: a name, an array, or a pair of arrays."""
    if not isinstance(source, dict):
        return source
    with np.load(source["arrays"], allow_pickle=False) as stored:
        arrays = tuple(stored[name] for name in stored)
    return arrays[0] if len(arrays) == 1 else arrays

"""Export inputs: as the user gave them, and opened and checked."""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

CALIBRATION_LIMIT = 128  # more images hardly widen a minimum and maximum
PARITY_LIMIT = 32  # images for measuring parity
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
        with tempfile.TemporaryDirectory() as folder:
            model = self.model
            if not isinstance(model, str | os.PathLike):
                model = os.path.join(folder, "model.keras")
                self.model.save(model)
            labels, preprocessing = self.labels, self.preprocessing
            yield {
                "model": os.fspath(model),
                "calibration": self._save_images(folder),
                "evaluation": self._save_evaluation(folder),
                "labels": None if labels is None else [str(name) for name in labels],
                "preprocessing": preprocessing and dataclasses.asdict(preprocessing),
                "description": self.description,
                "licence": self.licence,
            }

    @classmethod
    def restored(cls, data: dict[str, Any]) -> "UserInputs":
        """Read what `saved` stored."""
        from vit_keras import Preprocessing

        preprocessing = data["preprocessing"]
        changes = {
            "preprocessing": preprocessing and Preprocessing(**preprocessing),
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
        from vit_keras.model_file import open_model

        from .graph.build import find_preprocessing

        if hasattr(source, "__array__"):
            return np.asarray(source)
        model: Any = self.model
        if isinstance(model, str | os.PathLike):
            model = open_model(model)
        preprocessing = self.preprocessing or find_preprocessing(model)
        return data.load_images(source, model.input_shape[1:3], preprocessing, limit)


def _loaded(source):
    """Read images that `saved` stored: a name, an array, or a pair of arrays."""
    if not isinstance(source, dict):
        return source
    with np.load(source["arrays"], allow_pickle=False) as stored:
        arrays = tuple(stored[name] for name in stored)
    return arrays[0] if len(arrays) == 1 else arrays


@dataclasses.dataclass(frozen=True)
class ParityImages:
    """Images for calibration and parity, and their source.

    Attributes:
        pixels: (N, H, W, C).
        source: description for reports.
        synthetic: whether they are random patterns because none were given.
    """

    pixels: np.ndarray
    source: str
    synthetic: bool = False

    def summary(self) -> dict[str, Any]:
        """Return plain data for the JSON beside an artefact."""
        return {
            "images": len(self.pixels),
            "sha256": content_hash(self.pixels),
            "source": self.source,
        }


@dataclasses.dataclass(frozen=True)
class ExportInputs:
    """A checked model and everything that its export needs.

    Attributes:
        model: the Keras model.
        preprocessing: `vit_keras.Preprocessing` to include in the artefact, or None.
        labels: class names, or None.
        images: for calibration and parity.
        evaluation: labelled images for measuring accuracy, not opened, or None.
        description, licence: of the model, in the user's words, or None.
    """

    model: Any
    preprocessing: Any
    labels: list[str] | None
    images: ParityImages
    evaluation: Any = None
    description: str | None = None
    licence: str | None = None

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
        from vit_keras.model_file import find_labels, open_model

        from .graph import build

        model, labels = user.model, user.labels
        if isinstance(model, str | os.PathLike):
            path, model = model, open_model(model)
            labels = find_labels(path) if labels is None else labels
        model = build.check_model(model)
        _check_finite(model)
        preprocessing = user.preprocessing or build.find_preprocessing(model)
        return cls(
            model=model,
            preprocessing=preprocessing,
            labels=_check_labels(model, labels),
            images=_open_images(user.calibration, model, preprocessing, limit),
            evaluation=user.evaluation,
            description=user.description,
            licence=user.licence,
        )

    @property
    def takes_pixels(self) -> bool:
        """Whether the artefact takes raw pixels, with preprocessing inside."""
        return self.preprocessing is not None

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of this export, one line each."""
        found = []
        if self.preprocessing is None:
            found.append(
                "the model carries no preprocessing, so none is inside: feed the "
                "artefact what you feed the model; to include it, give `preprocessing`"
            )
        if self.images.synthetic:
            found.append("no images were given: parity is measured on random patterns")
        return tuple(found)

    def report_fields(self, notes=()) -> dict[str, Any]:
        """Return the report's fields that the inputs decide, with more notes."""
        inside = self.preprocessing
        return {
            "preprocessing": None if inside is None else dataclasses.asdict(inside),
            "parity_images": self.images.source,
            "labels": self.labels,
            "notes": (*self.notes(), *notes),
        }


def _open_images(source, model, preprocessing, limit) -> ParityImages:
    """Load the given images, or generate smooth random patterns if there are none."""
    from vit_keras import data

    if source is not None:
        size = model.input_shape[1:3]
        pixels = data.load_images(source, size, preprocessing, limit)
        named = isinstance(source, str | os.PathLike)
        words = f"images of {source}" if named else "the images given"
        return ParityImages(pixels, words)
    # Smooth patterns with noise: nearer to photographs than noise alone.
    generator = np.random.default_rng(0)
    height, width, channels = model.input_shape[1:]
    coarse = generator.uniform(0, 255, (16, 4, 4, channels))
    rows = np.arange(height) * 4 // height
    columns = np.arange(width) * 4 // width
    pixels = coarse[:, rows][:, :, columns]
    pixels = pixels + generator.normal(0, 20, pixels.shape)
    pixels = pixels.clip(0, 255).astype("uint8")
    return ParityImages(pixels, "16 random patterns", synthetic=True)


def content_hash(images) -> str:
    """Return the SHA-256 of the pixels and their shape."""
    images = np.ascontiguousarray(images)
    digest = hashlib.sha256(f"{images.shape}{images.dtype}".encode())
    digest.update(images.tobytes())
    return digest.hexdigest()


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


def _check_labels(model, labels):
    """Return labels as a list, after checking that there is one per class."""
    if labels is None:
        return None
    labels = [str(label) for label in labels]
    classes = model.output_shape[-1]
    if len(labels) != classes:
        raise ValueError(
            f"`labels` must have {classes} names, one per output. "
            f"Received: {len(labels)}"
        )
    broken = [name for name in labels if "".join(name.splitlines()) != name]
    if broken:
        raise ValueError(f"`labels` must be one line each. Received: {broken[0]!r}")
    return labels

"""Parity: whether the artefact computes what the Keras model computes."""

import dataclasses
import functools
import json
import math
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..schemes import get_scheme
from . import runners
from .interpreter import check_images

if TYPE_CHECKING:
    import keras

LEAST_SHARE = 1e-6  # of the signal, in its power: what lies 1000 deviations from zero


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far an artefact's outputs are from the reference's.

    Attributes:
        images: number of images compared.
        max_abs: largest absolute difference of any output value.
        cosine: least cosine similarity over the images.
        sqnr_db: signal to quantisation noise ratio over all values,
            `10 log10(sum (ref - mean)^2 / sum (ref - out)^2)`; infinite when equal. The
            mean over all values is no signal: a regression around 295 is wrong if it
            gives 295 for everything. Class scores have hardly any.
        agreement: share of images with the same top-1 class; None if the output is
            not one vector of classes per image.
        threshold_db: what `sqnr_db` must reach, or None if nothing is demanded.
    """

    images: int
    max_abs: float
    cosine: float
    sqnr_db: float
    agreement: float | None
    threshold_db: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the threshold, if there is one, is met. NaN never passes."""
        if self.threshold_db is None:
            return not math.isnan(self.sqnr_db)
        return self.sqnr_db >= self.threshold_db

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what is infinite or NaN, which JSON cannot hold, becomes None."""
        data = {**dataclasses.asdict(self), "passed": self.passed}
        for name, value in data.items():
            if isinstance(value, float) and not math.isfinite(value):
                data[name] = None
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Parity":
        """The parity that `to_dict` described: equal outputs have an infinite ratio,
        broken ones NaN."""
        data = dict(data)
        lost = math.inf if data.pop("passed") else math.nan
        for name in ("sqnr_db", "max_abs", "cosine"):
            data[name] = lost if data[name] is None else data[name]
        return cls(**data)

    def __str__(self):
        parts = [f"SQNR {self.sqnr_db:.1f} dB", f"max abs {self.max_abs:.2g}"]
        parts.append(f"cosine {self.cosine:.4f}")
        if self.agreement is not None:
            parts.append(f"top-1 agreement {self.agreement:.1%}")
        needed = "" if self.passed else f"; needed {self.threshold_db:g} dB"
        return f"{', '.join(parts)} on {self.images} images{needed}"


def measure_parity(reference, outputs, threshold_db: float | None = None) -> Parity:
    """Parity of two arrays (N, ...) of equal shape.

    The mean that the signal loses is one number for all images and outputs: that of
    each class, over few images, may be most of what a classifier says.

    Raises:
        ValueError: the shapes differ.
    """
    reference = np.asarray(reference, "float64")
    outputs = np.asarray(outputs, "float64")
    if reference.shape != outputs.shape:
        raise ValueError(
            "The artefact's outputs must have the shape of the model's, "
            f"{reference.shape}. Received: shape={outputs.shape}"
        )
    error = outputs - reference
    signal, noise = _powers(reference, error)
    if not math.isfinite(signal + noise):
        sqnr = math.nan
    elif noise == 0:
        sqnr = math.inf
    else:
        sqnr = 10 * math.log10(signal / noise) if signal > 0 else -math.inf
    a, b = reference.reshape(len(reference), -1), outputs.reshape(len(outputs), -1)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore"):  # of infinite values it is NaN
        cosine = np.sum(a * b, axis=1) / np.maximum(norms, np.finfo("float64").tiny)
    agreement = None
    if reference.ndim == 2 and reference.shape[1] > 1:
        agreement = float(np.mean(a.argmax(axis=1) == b.argmax(axis=1)))
    return Parity(
        images=len(reference),
        max_abs=float(np.max(np.abs(error))),
        cosine=float(np.min(cosine)),
        sqnr_db=float(sqnr),
        agreement=agreement,
        threshold_db=threshold_db,
    )


def _powers(reference, error):
    """Sums of squares of signal and noise.

    The signal is taken about its mean; if it is constant, about zero. Of the noise
    counts what is more than the distance to the next float32: near 295 that is 3e-5.
    """
    power = np.sum(reference**2)
    spread = np.sum((reference - np.mean(reference)) ** 2)
    varies = reference.size > 1 and np.ptp(reference) > 0
    signal = max(spread, LEAST_SHARE * power) if varies else power
    spacing = np.spacing(np.abs(reference).astype("float32"))
    return signal, np.sum(np.maximum(np.abs(error) - spacing, 0) ** 2)


def predict(model, images, *, preprocessing=None, batch_size: int = 32) -> np.ndarray:
    """The Keras model's outputs on raw pixels, computed in float32.

    A model trained under mixed precision is rebuilt for this: half precision would be
    an error of the reference, not of the artefact.

    Arguments:
        model: a Keras model.
        images: (N, H, W, C), pixels 0..255.
        preprocessing: a `vit_keras.Preprocessing`; None means that of the ViT in the
            model, and if there is none, the images are passed as they are.

    Returns:
        float32 array (N, ...).
    """
    import keras

    from vit_keras.preprocessing import normalize

    from ..graph import build

    images = check_images(images, model.input_shape)
    preprocessing, outputs = preprocessing or build.find_preprocessing(model), []
    if not build.computes_in_float32(model):
        model = build.float32_copy(model)
    run = model.predict_on_batch
    if keras.backend.backend() == "tensorflow":  # compiling takes longer than this
        run = functools.partial(model, training=False)
    for start in range(0, len(images), batch_size):  # never all images as float32
        chunk = images[start : start + batch_size]
        # Filled up, so that the model is traced for one shape only.
        filled = np.resize(chunk, (batch_size, *chunk.shape[1:])).astype("float32")
        if preprocessing is not None:
            filled = normalize(filled, preprocessing)
        outputs.append(np.asarray(run(filled), "float32")[: len(chunk)])
    return np.concatenate(outputs)


def verify(
    model: "keras.Model | np.ndarray",
    path: str | os.PathLike[str],
    images: Any,
    *,
    scheme: str | None = None,
    num_threads: int = 1,
) -> Parity:
    """Run an artefact in its real runtime and compare it with the Keras model.

    Arguments:
        model: the Keras model, or its outputs (N, ...) if they are at hand.
        path: a `.tflite` file or a SavedModel directory.
        images: (N, H, W, C), pixels 0..255; or whatever else calibration takes: a
            folder, a `.npy` file, a data set, of which the test part is used.
        scheme: whose threshold must be met; None means the threshold in the JSON
            beside the artefact, if there is one.
        num_threads: threads of the interpreter.

    Returns:
        `Parity`; look at `.passed`.

    Raises:
        ValueError: images, outputs or the file do not fit.
        FileNotFoundError: there is no such artefact, or no such images.
    """
    runner = runners.load(path, num_threads)
    if not hasattr(images, "__array__"):
        images = _open_images(model, path, images, runner.input_shape)
    images = check_images(images, runner.input_shape)
    reference = model if isinstance(model, np.ndarray) else predict(model, images)
    if scheme is None:
        threshold = read_sidecar(path).get("parity", {}).get("threshold_db")
    else:
        threshold = get_scheme(scheme).min_sqnr_db
    return measure_parity(reference, runner(images), threshold)


def _open_images(model, path, source, shape):
    """Images of a named source, brought to the size of an artefact."""
    from vit_keras import Preprocessing, data

    from ..graph import build

    preprocessing = None
    if not isinstance(model, np.ndarray):
        preprocessing = build.find_preprocessing(model)
    inside = read_sidecar(path).get("preprocessing")
    if preprocessing is None and inside is not None:
        preprocessing = Preprocessing(**inside)
    return data.load_images(source, shape[1:3], preprocessing, held_out=True)


def sidecar(path) -> pathlib.Path:
    """Where the JSON beside an artefact is: `m.tflite` -> `m.tflite.json`."""
    path = pathlib.Path(path)
    return path.with_name(path.name + ".json")


def read_sidecar(path) -> dict[str, Any]:
    """The JSON beside an artefact as a dict, empty if there is none."""
    file = sidecar(path)
    return json.loads(file.read_text()) if file.is_file() else {}

"""Parity: agreement of an artefact's outputs with the Keras model's."""

import dataclasses
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
    """Agreement of an artefact's outputs with the reference.

    Attributes:
        images: number of images compared.
        max_abs: largest absolute difference of any output value.
        cosine: least cosine similarity over the images.
        sqnr_db: signal to quantisation noise ratio over all values,
            `10 log10(sum (ref - mean)^2 / sum (ref - out)^2)`; infinite when equal. The
            mean over all values is no signal: a regression around 295 is wrong if it
            gives 295 for everything. Class scores have hardly any.
        agreement: fraction of images, or of all pixels, with the same top-1 class; None
            if the output is no vector of classes per image or pixel.
        threshold_db: minimum `sqnr_db`, or None.
    """

    images: int
    max_abs: float
    cosine: float
    sqnr_db: float
    agreement: float | None
    threshold_db: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the threshold, if any, is met. NaN never passes."""
        if self.threshold_db is None:
            return not math.isnan(self.sqnr_db)
        return self.sqnr_db >= self.threshold_db

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; infinity and NaN, which JSON lacks, become None."""
        data = {**dataclasses.asdict(self), "passed": self.passed}
        for name, value in data.items():
            if isinstance(value, float) and not math.isfinite(value):
                data[name] = None
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Parity":
        """Build the parity that `to_dict` described: None becomes infinity if it
        passed, else NaN."""
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


def measure_parity(
    reference, outputs, threshold_db: float | None = None, segments: bool = False
) -> Parity:
    """Measure the parity of two arrays (N, ...) of equal shape; `segments` says that
    (N, H, W, C) are classes of each pixel.

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
    with np.errstate(invalid="ignore"):  # infinite values give NaN
        cosine = np.sum(a * b, axis=1) / np.maximum(norms, np.finfo("float64").tiny)
    agreement = None
    if segments or (reference.ndim == 2 and reference.shape[1] > 1):
        agreement = float(np.mean(reference.argmax(-1) == outputs.argmax(-1)))
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
    """Return the Keras model's outputs on what its user feeds it, in float32.

    Half precision would be an error of the reference, not of the artefact: the layers
    of a model trained under mixed precision compute in float32 for this.

    Arguments:
        model: a functional Keras model.
        images: (N, H, W, C), pixels 0..255, or what else the model takes.
        preprocessing: the `vit_keras.Preprocessing` of what the user feeds; None means
            that of a ViT that reads the model's input, and without one, the images are
            passed as they are.

    Returns:
        float32 array (N, ...).
    """
    from ..graph.model_input import read_model_input

    if preprocessing is None:
        preprocessing = read_model_input(model).inside
    return reference_outputs(model, images, preprocessing, batch_size)


def reference_outputs(
    model: Any, images: Any, preprocessing: Any, batch_size: int = 32
) -> np.ndarray:
    """Return the outputs that an artefact is compared with; arguments as `predict`'s,
    but for `preprocessing`: None means that the model gets the images as they are."""
    import keras

    from vit_keras.preprocessing import normalize

    from ..graph.source_model import computes_in_float32, in_float32

    images = check_images(images, model.input_shape)
    # A file of another maker runs as it is.
    outputs, run = [], getattr(model, "reference", None) or in_float32(model)
    # Compiling pays on other backends only.
    if keras.backend.backend() != "tensorflow" and computes_in_float32(model):
        run = model.predict_on_batch
    for start in range(0, len(images), batch_size):  # never all images as float32
        chunk = images[start : start + batch_size]
        # Padded, so that the model is traced for one shape only.
        filled = np.resize(chunk, (batch_size, *chunk.shape[1:])).astype("float32")
        if preprocessing is not None:
            filled = normalize(filled, preprocessing)
        values = keras.ops.convert_to_numpy(run(filled))
        outputs.append(np.asarray(values, "float32")[: len(chunk)])
    return np.concatenate(outputs)


def verify(
    model: "keras.Model | np.ndarray | str | os.PathLike[str]",
    path: str | os.PathLike[str],
    images: Any,
    *,
    scheme: str | None = None,
    output: str | int | None = None,
    limit: int | None = None,
    num_threads: int = 1,
) -> Parity:
    """Run an artefact in its real runtime and compare it with the Keras model.

    The model gets what its user feeds it: pixels, where it normalises them by itself.

    Arguments:
        model: the Keras model, the path of its `.keras` file or of a float `.tflite`
            file, or its outputs (N, ...).
        path: a `.tflite` file or a SavedModel directory.
        images: (N, H, W, C), pixels 0..255; or whatever else calibration takes: a
            folder, a `.npy` file, a data set, of which the test part is used.
        scheme: whose threshold must be met; None means the threshold in the JSON
            beside the artefact, if there is one.
        output: name or index of the output, of a model with several; None means what
            the JSON beside the artefact says.
        limit: use at most this many images, where `images` is no array.
        num_threads: threads of the interpreter.

    Returns:
        A `Parity`; its `passed` says whether the threshold is met. A file that ends in
        classes has no threshold: 1 for the class of a pixel and 0 for each other are
        compared.

    Raises:
        ValueError: images or outputs do not fit the artefact.
        FileNotFoundError: the artefact or the images do not exist.
    """
    from vit_keras import Preprocessing, data

    from ..graph.open_source import open_for_export
    from ..graph.up_to_decoder import up_to_decoder

    runner = runners.load(path, num_threads)
    recorded = read_sidecar(path)
    plan = recorded.get("plan") or {}
    inside = recorded.get("preprocessing")
    inside = reading = None if inside is None else Preprocessing(**inside)
    if not isinstance(model, np.ndarray):
        output = recorded.get("model_output") if output is None else output
        size = runner.input_shape[1:]
        model, meaning = open_for_export(model, input_shape=size, output=output)
        if plan.get("output_size") == "decoder":
            model = up_to_decoder(model) or model
        if meaning.takes_pixels:  # else the user gave `preprocessing`, or nothing did
            inside, reading = meaning.inside, meaning.reading
    if not hasattr(images, "__array__"):
        size: Any = runner.input_shape[1:3]
        images = data.load_images(images, size, reading, limit, held_out=True)
    images = check_images(images, runner.input_shape)
    if not isinstance(model, np.ndarray):
        model = reference_outputs(model, images, inside)
    if scheme is None:
        threshold = recorded.get("parity", {}).get("threshold_db")
    else:
        threshold = get_scheme(scheme).min_sqnr_db
    outputs, segments = runner(images), recorded.get("head") == "segmentation"
    if plan.get("class_map"):
        codes, threshold = np.eye(model.shape[-1], dtype="float32"), None
        model, outputs = codes[model.argmax(-1)], codes[outputs.astype(int)]
    return measure_parity(model, outputs, threshold, segments)


def sidecar(path) -> pathlib.Path:
    """Return the path of the JSON beside an artefact: `m.tflite` -> `m.tflite.json`."""
    path = pathlib.Path(path)
    return path.with_name(path.name + ".json")


def read_sidecar(path) -> dict[str, Any]:
    """Read the JSON beside an artefact as a dict, empty if there is none."""
    file = sidecar(path)
    return json.loads(file.read_text()) if file.is_file() else {}

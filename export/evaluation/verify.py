"""Parity: agreement of an artefact's outputs with the Keras model's."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_keras.text_files import read_json

from ..schemes import get_scheme
from . import runners
from .interpreter import check_images
from .reference import UNNAMED, references

if TYPE_CHECKING:
    import keras

Outputs = np.ndarray | Mapping[str, np.ndarray]  # of one, or by name
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


def measure_outputs(
    reference: Mapping[str, Any],
    outputs: Mapping[str, Any],
    threshold_db: float | None = None,
    segments: bool = False,
) -> dict[str, Parity]:
    """Measure the parity of each of several outputs, by name; `segments` says that
    maps (N, H, W, C) are classes of each pixel."""
    return {
        name: measure_parity(
            reference[name], values, threshold_db, segments and np.ndim(values) == 4
        )
        for name, values in outputs.items()
    }


def least_sqnr(reference: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    """Return the least SQNR in dB of several outputs; NaN if there is one."""
    found = measure_outputs(reference, outputs).values()
    return float(np.min([parity.sqnr_db for parity in found]))


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


def verify(
    model: "keras.Model | Outputs | str | os.PathLike[str]",
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
            file, or its outputs (N, ...), of a file with several {name: (N, ...)}.
        path: a `.tflite` file or a SavedModel directory.
        images: (N, H, W, C), pixels 0..255; or whatever else calibration takes: a
            folder, a `.npy` file, a data set, of which the test part is used.
        scheme: whose threshold must be met; None means the threshold in the JSON
            beside the artefact, if there is one.
        output: name or index of the output, of a model with several; None means what
            the JSON beside the artefact says. Of an artefact with several, the name of
            that which is compared; None means the first.
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
    options = {"scheme": scheme, "limit": limit, "num_threads": num_threads}
    found = verify_outputs(model, path, images, output=output, **options)
    first = next(iter(found))
    if output is None or len(found) == 1:
        return found[first]
    if output not in found:
        raise ValueError(
            f"`output` must be one of the artefact's, {', '.join(found)}. "
            f"Received: output={output!r}"
        )
    return found[str(output)]


def verify_outputs(
    model: "keras.Model | Outputs | str | os.PathLike[str]",
    path: str | os.PathLike[str],
    images: Any,
    *,
    scheme: str | None = None,
    output: str | int | None = None,
    limit: int | None = None,
    num_threads: int = 1,
) -> dict[str, Parity]:
    """Compare all outputs of an artefact with the Keras model's.

    Arguments and errors are those of `verify`; `output` is of a model with several and
    an artefact with one.

    Returns:
        {name of the output: `Parity`}, in the artefact's order.
    """
    from vit_keras import Preprocessing, data

    from ..graph.named_outputs import names_of_outputs
    from ..graph.open_source import open_for_export
    from ..graph.up_to_decoder import up_to_decoder

    runner = runners.load(path, num_threads)
    recorded = read_sidecar(path)
    plan = recorded.get("plan") or {}
    names = named(recorded, tuple(runner.output_shapes))
    inside = recorded.get("preprocessing")
    inside = reading = None if inside is None else Preprocessing(**inside)
    if not isinstance(model, np.ndarray | Mapping):
        output = recorded.get("model_output") if output is None else output
        chosen: Any = {"output": output} if names is None else {"outputs": names}
        size = runner.input_shape[1:]
        model, meaning = open_for_export(model, input_shape=size, **chosen)
        names_of_outputs(model, names)  # which it has
        if plan.get("output_size") == "decoder":
            model = up_to_decoder(model) or model
        if meaning.takes_pixels:  # else the user gave `preprocessing`, or nothing did
            inside, reading = meaning.inside, meaning.reading
    if not hasattr(images, "__array__"):
        size: Any = runner.input_shape[1:3]
        images = data.load_images(images, size, reading, limit, held_out=True)
    images = check_images(images, runner.input_shape)
    found = runner.all(images)
    if isinstance(model, np.ndarray):
        model = {next(iter(found)): model}
    elif not isinstance(model, Mapping):
        model = references(model, images, inside, names=names)
    if names is None:
        model, found = ({UNNAMED: next(iter(x.values()))} for x in (model, found))
    if scheme is None:
        threshold = recorded.get("parity", {}).get("threshold_db")
    else:
        threshold = get_scheme(scheme).min_sqnr_db
    if plan.get("class_map"):
        codes, threshold = np.eye(model[UNNAMED].shape[-1], dtype="float32"), None
        model = {UNNAMED: codes[model[UNNAMED].argmax(-1)]}
        found = {UNNAMED: codes[found[UNNAMED].astype(int)]}
    segments = recorded.get("head") == "segmentation"
    return measure_outputs(model, found, threshold, segments)


def named(recorded: Mapping[str, Any], names: Sequence[str]) -> Sequence[str] | None:
    """Return the names of an artefact's outputs; None for one without a name.

    Arguments:
        recorded: the report beside it.
        names: as its signature has them.
    """
    said = [end["name"] for end in recorded.get("outputs", ())]
    return None if len(names) == 1 and said in ([], [UNNAMED]) else names


def sidecar(path) -> pathlib.Path:
    """Return the path of the JSON beside an artefact: `m.tflite` -> `m.tflite.json`."""
    path = pathlib.Path(path)
    return path.with_name(path.name + ".json")


def read_sidecar(path) -> dict[str, Any]:
    """Read the JSON beside an artefact as a dict, empty if there is none."""
    file = sidecar(path)
    found = read_json(file) if file.is_file() else {}
    if not isinstance(found, dict):
        raise ValueError(f"'{file}' must hold a JSON object, not {type(found)}")
    return found

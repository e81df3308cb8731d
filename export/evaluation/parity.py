"""Parity: agreement of an artefact's outputs with the Keras model's."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

BEST_DB = 200.0
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
        median_sqnr_db: the same of each image alone, of which the median must meet the
            threshold in the place of all values'; or None. For a model that decides by
            comparing numbers (`tome`): where two are nearly equal, rounding decides, so
            that few images differ more than an error of the file could explain, while
            an error would be in all.
    """

    images: int
    max_abs: float
    cosine: float
    sqnr_db: float
    agreement: float | None
    threshold_db: float | None = None
    median_sqnr_db: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the threshold, if any, is met. NaN never passes."""
        if self.threshold_db is None or math.isnan(self.sqnr_db):
            return not math.isnan(self.sqnr_db)
        judged = self.median_sqnr_db
        return (self.sqnr_db if judged is None else judged) >= self.threshold_db

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; infinity and NaN, which JSON lacks, become None."""
        data = {**dataclasses.asdict(self), "passed": self.passed}
        if self.median_sqnr_db is None:
            del data["median_sqnr_db"]  # of the few that have it
        for name, value in data.items():
            if isinstance(value, float) and not math.isfinite(value):
                data[name] = None
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Parity":
        """Build the parity that `to_dict` described: None becomes infinity if it
        passed, else NaN."""
        data = {"median_sqnr_db": None, **data}
        lost = math.inf if data.pop("passed") else math.nan
        for name in ("sqnr_db", "max_abs", "cosine"):
            data[name] = lost if data[name] is None else data[name]
        return cls(**data)

    def __str__(self):
        parts = [f"SQNR {self.sqnr_db:.1f} dB", f"max abs {self.max_abs:.2g}"]
        if self.median_sqnr_db is not None:
            parts[0] += f" ({self.median_sqnr_db:.1f} dB of the median image)"
        parts.append(f"cosine {self.cosine:.4f}")
        if self.agreement is not None:
            parts.append(f"top-1 agreement {self.agreement:.1%}")
        needed = "" if self.passed else f"; needed {self.threshold_db:g} dB"
        return f"{', '.join(parts)} on {self.images} images{needed}"


def measure_parity(
    reference,
    outputs,
    threshold_db: float | None = None,
    segments: bool = False,
    by_image: bool = False,
) -> Parity:
    """Measure the parity of two arrays (N, ...) of equal shape; `segments` says that
    (N, H, W, C) are classes of each pixel, `by_image` that the median image is judged.

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
    median = None
    if by_image:
        pairs = zip(reference, error, strict=True)
        # Finite, so that the JSON can hold it: beyond all that float32 can differ by.
        each = [np.clip(_sqnr(*pair), -BEST_DB, BEST_DB) for pair in pairs]
        median = float(np.median(each))
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
        sqnr_db=float(_sqnr(reference, error)),
        agreement=agreement,
        threshold_db=threshold_db,
        median_sqnr_db=median,
    )


def measure_outputs(
    reference: Mapping[str, Any],
    outputs: Mapping[str, Any],
    threshold_db: float | None = None,
    segments: bool = False,
    by_image: bool = False,
) -> dict[str, Parity]:
    """Measure the parity of each of several outputs, by name; `segments` says that
    maps (N, H, W, C) are classes of each pixel, `by_image` as in `measure_parity`."""
    return {
        name: measure_parity(
            *(reference[name], values, threshold_db),
            *(segments and np.ndim(values) == 4, by_image),
        )
        for name, values in outputs.items()
    }


def least_sqnr(reference: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    """Return the least SQNR in dB of several outputs; NaN if there is one."""
    found = measure_outputs(reference, outputs).values()
    return float(np.min([parity.sqnr_db for parity in found]))


def _sqnr(reference, error) -> float:
    """SQNR in dB; infinite for no error, NaN for values that are not finite."""
    signal, noise = _powers(reference, error)
    if not math.isfinite(signal + noise):
        return math.nan
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


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

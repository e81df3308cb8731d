"""Scores of a model or file on the reported images, and their noise.

Shape letters: N images, H x W pixels, C outputs.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from vit_keras import data
from vit_keras.heads import HEADS, probabilities
from vit_keras.preprocessing import to_photograph
from vit_keras.training.dense_metrics import SegmentationScore, mean_of, new_score
from vit_keras.training.metrics import measure

from ..evaluation.parity import measure_parity
from .reported_images import ReportedImages

SQNR_VALUES = 2**23  # of maps, which are compared in float64
SHOWN = 12  # images of which a report has pictures
RESAMPLES = 200  # of the images, for the noise of metrics that are no mean over images


@dataclasses.dataclass(frozen=True)
class Scored:
    """What outputs are worth on the reported images.

    Attributes:
        value: of the head's metric.
        means: (N,), whose mean is the metric; or None.
        draws: (RESAMPLES,), the metric on images drawn with replacement, the same ones
            for all that is scored; where it is no mean.
        chosen: what is said, classes uint16 (N,) or uint8 (N, H, W); None for values.
        shares: (N,), probability of the class chosen; None but for classes of images.
        first: outputs of the first images, for the SQNR.
    """

    value: float
    means: np.ndarray | None
    draws: np.ndarray | None
    chosen: np.ndarray | None
    shares: np.ndarray | None
    first: np.ndarray

    @property
    def noise(self) -> float:
        """Standard error of `value`; of an accuracy p the binomial one, the root of
        p (1 - p) / N."""
        if self.means is not None:
            return _standard_error(self.means)
        return float(np.nanstd(self.drawn))  # a draw may have no image of a label

    @property
    def drawn(self) -> np.ndarray:
        """`draws` of a metric that is no mean."""
        return np.zeros(1) if self.draws is None else self.draws


def score_outputs(
    run: Callable[[np.ndarray], np.ndarray],
    images: ReportedImages,
    outputs: Any,
) -> Scored:
    """Score what a function gives for the reported images.

    Maps are enlarged to the size of each photograph, as `vit_keras.evaluate` does.

    Arguments:
        run: function from pixels (N, H, W, C) to outputs (N, ...).
        images: to score on.
        outputs: what they mean (`ModelOutput`).
    """
    found = ((rows, run(pixels)) for rows, pixels in images.batches())
    if HEADS[outputs.head].dense:
        return _score_maps(found, images, outputs)
    values = np.concatenate([np.asarray(part, "float32") for _, part in found])
    truth, head = data.targets(images.dataset), outputs.head
    metric = HEADS[head].metric
    value = measure([(values, truth)], head, outputs.activation)[metric]
    means = draws = chosen = shares = None
    if head == "multi_label":
        draws = _resampled(
            len(values),
            lambda rows: measure([(values[rows], truth[rows])], head)[metric],
        )
    elif head == "regression":
        means = np.abs(values - truth).mean(-1)
    else:
        likely = probabilities(values, head, outputs.activation)
        chosen, shares = likely.argmax(-1).astype("uint16"), likely.max(-1)
        means = (chosen == np.asarray(images.dataset.labels)).astype("float64")
    return Scored(value, means, draws, chosen, shares, values)


def _score_maps(found: Iterable, images, outputs) -> Scored:
    """Score maps image by image; few of the outputs stay in memory."""
    labels, head = images.dataset.labels, outputs.head
    score, first, chosen, each, counts = None, [], [], [], []
    for rows, values in found:
        values = np.asarray(values, "float32")
        if score is None:
            score = new_score(
                *(head, values.shape[-1], outputs.activation),
                outputs.depth_type or "metric",
            )
        kept = sum(len(part) for part in first)
        most = max(1, SQNR_VALUES // math.prod(values.shape[1:]))
        first.append(values[: max(0, most - kept)])
        for row, one in zip(rows, values, strict=True):
            truth = labels[row]
            seen = to_photograph(one, truth.shape, images.reading)
            before = score.matrix.copy() if isinstance(score, SegmentationScore) else 0
            each.append(score.add(seen, truth))
            if isinstance(score, SegmentationScore):
                counts.append(_counts(score.matrix - before))
                chosen.append(one.argmax(-1).astype("uint8"))
    kind = HEADS[head]
    value = (score or SegmentationScore(1)).metrics()[kind.metric]
    means = draws = None
    if outputs.segments:
        counts = np.stack(counts)
        draws = _resampled(len(counts), lambda rows: _mean_iou(counts[rows].sum(0)))
    else:
        means = -np.array(each)
    return Scored(
        value,
        means,
        draws,
        np.stack(chosen) if chosen else None,
        None,
        np.concatenate(first),
    )


def _counts(matrix):
    """Pixels that are right, true and said of each class, (3, C)."""
    return np.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)])


def _mean_iou(counts):
    right, true, said = counts
    union = true + said - right
    return mean_of(np.where(union > 0, right / np.maximum(union, 1), np.nan))


def _resampled(number, metric) -> np.ndarray:
    draws = np.random.default_rng(0).integers(0, number, (RESAMPLES, number))
    return np.array([metric(rows) for rows in draws])


@dataclasses.dataclass(frozen=True)
class FileScores:
    """Scores of a file beside those of the Keras model on the same images.

    Attributes:
        metric: name in `vit_keras.heads.HEADS`.
        value, noise: of the file, with its standard error.
        drop: what the file loses against Keras; of shares in percentage points.
        drop_noise: standard error of that: the images are the same, so it is smaller
            than `noise`.
        agreement: share of images, or of pixels, with the same class; or None.
        sqnr_db: of the outputs, on the first images; None if they are equal.
        images: number of images.
        differing: indices of the images to which file and Keras say the most different
            things, at most `SHOWN`.
    """

    metric: str
    value: float
    noise: float
    drop: float
    drop_noise: float
    agreement: float | None
    sqnr_db: float | None
    images: int
    differing: tuple[int, ...] = ()


def _standard_error(values):
    """Of the mean of those that are known; of a photograph without depths none is."""
    known = values[np.isfinite(values)]
    return float(np.std(known) / math.sqrt(len(known))) if len(known) else 0.0


def beside_keras(
    reference: Scored, found: Scored, head: str, images: int
) -> FileScores:
    """Compare what Keras and a file are worth on the same images.

    Arguments:
        reference, found: of Keras and of the file, at the same size of outputs.
        head: of the model.
        images: their number.
    """
    kind = HEADS[head]
    unit = 100 if kind.higher_is_better else -1
    if reference.means is not None and found.means is not None:
        apart = found.means - reference.means
        noise = _standard_error(apart)
    else:
        noise = float(np.nanstd(found.drawn - reference.drawn))
    agreement = None
    if reference.chosen is not None and found.chosen is not None:
        agreement = float(np.mean(reference.chosen == found.chosen))
    sqnr = measure_parity(reference.first, found.first).sqnr_db
    return FileScores(
        metric=kind.metric,
        value=found.value,
        noise=found.noise,
        drop=unit * (reference.value - found.value),
        drop_noise=abs(unit) * noise,
        agreement=agreement,
        sqnr_db=sqnr if math.isfinite(sqnr) else None,
        images=images,
        differing=tuple(map(int, np.argsort(-_apart(reference, found))[:SHOWN])),
    )


def _apart(reference, found) -> np.ndarray:
    """How different two say each image is: above 1 if the classes differ."""
    apart = np.abs(reference.first - found.first)
    if found.chosen is not None and reference.chosen is not None:
        apart = reference.chosen != found.chosen
    if found.shares is not None and reference.shares is not None:
        apart = np.abs(reference.shares - found.shares) + apart
    return apart.reshape(len(apart), -1).mean(-1)

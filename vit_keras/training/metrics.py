"""Loss and metrics of a model's outputs, by the kind of its head."""

from collections.abc import Callable, Iterable

import numpy as np

from ..heads import HEADS, log_probabilities
from .dense_metrics import new_score

TINY = np.finfo("float64").tiny  # the logarithm of 0 is infinite


def measure(
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    head: str,
    activation: str = "linear",
) -> dict[str, float]:
    """Measure a model's outputs against the targets.

    Arguments:
        batches: of (outputs (B, C), targets (B, C) as `data.targets` gives them); of
            maps (outputs (B, H, W, C), labels (B, H, W)), see `dense_metrics`.
        head: a name in `HEADS`.
        activation: what the model's last layer has applied.

    Returns:
        By the head: "accuracy" (top-1; for "sigmoid" of p > 0.5 as the second class),
        "mean_average_precision" (mean over the labels that some image has), or
        "mean_absolute_error" and "r2_score" (mean over the values); and "loss", the
        mean of the head's loss in `HEADS` over images and outputs.
    """
    if HEADS[head].dense:
        score = None
        for outputs, truth in batches:
            score = score or new_score(head, outputs.shape[-1], activation)
            score.add(np.asarray(outputs), np.asarray(truth))
        return {} if score is None else score.metrics()
    rows, kept = [], []
    for outputs, truth in batches:
        outputs = np.asarray(outputs, "float64")
        rows.append(OF_IMAGES[head](outputs, truth, activation))
        if head in OF_ALL:
            kept.append((outputs, truth))
    found = {}
    if kept:
        outputs, truth = (np.concatenate(part) for part in zip(*kept, strict=True))
        found = OF_ALL[head](outputs, truth)
    means = {n: float(np.concatenate([r[n] for r in rows]).mean()) for n in rows[0]}
    loss = means.pop("loss")
    return {**means, **found, "loss": loss}


def _of_classes(outputs, truth, activation):
    right = outputs.argmax(-1) == truth.argmax(-1)
    losses = -(log_probabilities(outputs, activation) * truth).sum(-1)
    return {"accuracy": right, "loss": losses}


def _of_two_classes(outputs, truth, activation):
    middle = 0.0 if activation == "linear" else 0.5
    right = (outputs > middle) == (truth > 0.5)
    return {"accuracy": right[:, 0], **_of_labels(outputs, truth, activation)}


def _of_labels(outputs, truth, activation):
    if activation == "linear":
        losses = np.logaddexp(0, outputs) - truth * outputs
    else:
        yes, no = (np.log(np.maximum(x, TINY)) for x in (outputs, 1 - outputs))
        losses = -(truth * yes + (1 - truth) * no)
    return {"loss": losses.mean(-1)}


def _of_values(outputs, truth, activation):
    error = outputs - truth
    return {
        "mean_absolute_error": np.abs(error).mean(-1),
        "loss": (error**2).mean(-1),
    }


def _mean_average_precision(outputs, truth):
    pairs = zip(outputs.T, truth.T, strict=True)
    found = [average_precision(scores, there) for scores, there in pairs if there.any()]
    return {"mean_average_precision": float(np.mean(found)) if found else float("nan")}


def _r2(outputs, truth):
    """1 - squared error / variance; with a constant target 1 if met, else 0."""
    error = ((outputs - truth) ** 2).sum(0)
    spread = ((truth - truth.mean(0)) ** 2).sum(0)
    known = spread > 0
    found = 1 - error / np.where(known, spread, 1)
    return {"r2_score": float(np.where(known, found, error == 0).mean())}


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under precision over recall, in steps: `sum (R_n - R_n-1) P_n`.

    Equal scores are one step, as in scikit-learn.

    Arguments:
        scores: (N,), any monotonous function of the probability.
        truth: (N,), 1 where the label is right, else 0; not all 0.
    """
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(truth[order])
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    recall = hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0) * hits[ends] / (ends + 1)))


Rows = Callable[[np.ndarray, np.ndarray, str], dict[str, np.ndarray]]
# Means over images, and what needs all of them.
OF_IMAGES: dict[str, Rows] = {
    "softmax": _of_classes,
    "sigmoid": _of_two_classes,
    "multi_label": _of_labels,
    "regression": _of_values,
}
OF_ALL = {"multi_label": _mean_average_precision, "regression": _r2}

"""`HEADS`: what the outputs of a head mean, and what follows from it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Head:
    """A kind of head.

    Attributes:
        summary: what its outputs are, with K names.
        things: what the names are of, as the training's messages call them.
        probability: the function that makes probabilities of logits, "softmax" or
            "sigmoid"; None if the outputs are values.
        activations: what the head's layer may apply itself; None for anything.
        loss: of training, by its name in Keras.
        metric: by which the best weights are chosen, by its name in `evaluate`.
        higher_is_better: whether `metric` is a share, 1 at best; else an error.
        binary: whether one output tells two classes apart.
        task: of the model, see `create_model`; "segment" and "depth" have outputs at
            each pixel, in the last axis.
    """

    summary: str
    things: str
    probability: str | None
    activations: tuple[str, ...] | None
    loss: str
    metric: str
    higher_is_better: bool = True
    binary: bool = False
    task: str = "classify"

    @property
    def dense(self) -> bool:
        """Whether the outputs are maps, (N, H, W, C)."""
        return self.task != "classify"

    def score(self, metrics: Mapping[str, float], prefix: str = "") -> float:
        """Return `metric` of what was measured, the larger the better."""
        return metrics[prefix + self.metric] * (1 if self.higher_is_better else -1)

    def outputs(self, names: int) -> int:
        """Return the number of outputs for a number of names."""
        return 1 if self.binary else names

    def names(self, outputs: int) -> int:
        """Return the number of names for a number of outputs."""
        return 2 if self.binary else outputs


HEADS = {
    "softmax": Head(
        "K classes, of which one is right",
        "classes",
        "softmax",
        None,
        "categorical_crossentropy",
        "accuracy",
    ),
    "sigmoid": Head(
        "two classes and one output, whose sigmoid is the probability of the second",
        "classes",
        "sigmoid",
        ("linear", "sigmoid"),
        "binary_crossentropy",
        "accuracy",
        binary=True,
    ),
    "multi_label": Head(
        "K labels, each with a sigmoid of its own",
        "labels",
        "sigmoid",
        ("linear", "sigmoid"),
        "binary_crossentropy",
        "mean_average_precision",
    ),
    "regression": Head(
        "K values",
        "values",
        None,
        ("linear", "relu", "softplus", "sigmoid", "tanh"),
        "mean_squared_error",
        "mean_absolute_error",
        higher_is_better=False,
    ),
    "segmentation": Head(
        "K classes, of which one is right at each pixel",
        "classes",
        "softmax",
        ("linear", "softmax"),
        "categorical_crossentropy",
        "mean_iou",
        task="segment",
    ),
    "depth": Head(
        "the distance at each pixel, in the unit of the data, or its inverse",
        "values",
        None,
        ("linear", "relu", "softplus", "sigmoid"),
        "scale_invariant_logarithmic_error",
        "absolute_relative_error",
        higher_is_better=False,
        task="depth",
    ),
}


# Numbers of outputs, smallest and largest: masks are uint8, of which 255 is ignored.
OUTPUTS = {"segmentation": (2, 255), "depth": (1, 1)}
# What an output of "depth" is: a distance, or the inverse of one times an unknown scale
# plus an unknown shift (MiDaS, arXiv 1907.01341), as files of "relative" depth give.
DEPTH_TYPES = ("metric", "inverse")
# Heads whose images have one class each.
ONE_CLASS = ("softmax", "sigmoid")
# Heads with outputs at each pixel, by task.
DENSE = {head.task: name for name, head in HEADS.items() if head.task != "classify"}


def get_head(name: str) -> Head:
    """Return a row of the table.

    Raises:
        ValueError: unknown name; the message lists the valid ones.
    """
    if name not in HEADS:
        raise ValueError(
            f"`head` must be one of {', '.join(HEADS)}. Received: head={name!r}"
        )
    return HEADS[name]


def check_head(head: str, outputs: int, activation: str) -> None:
    """Check that outputs can mean what a head says.

    Arguments:
        head: a name in `HEADS`.
        outputs: their number, C.
        activation: what the last layer applies, such as "linear".

    Raises:
        ValueError: they cannot.
    """
    kind = get_head(head)
    if kind.binary and outputs != 1:
        raise ValueError(
            f"`classes` must be 1 for head={head!r}: one output tells two classes "
            f"apart. Received: classes={outputs}"
        )
    if kind.activations is not None and activation not in kind.activations:
        raise ValueError(
            f"`activation` must be one of {', '.join(kind.activations)} for "
            f"head={head!r}. Received: activation={activation!r}"
        )


def check_map_outputs(head: str, outputs: int) -> None:
    """Check the number of outputs at each pixel.

    Raises:
        ValueError: a depth is not one, or a mask cannot hold the classes.
    """
    least, most = OUTPUTS[head]
    if not least <= outputs <= most:
        number = f"{least} to {most}" if most > least else least
        raise ValueError(
            f"`classes` must be {number} for head={head!r}. Received: classes={outputs}"
        )


def check_names(head: str, names: Sequence[str]) -> None:
    """Check that there are two names for a head of one output.

    Raises:
        ValueError: there are not.
    """
    if HEADS[head].binary and len(names) != 2:
        raise ValueError(
            f"`classes` must be two names for head={head!r}. Received: {len(names)}"
        )


def probabilities(outputs, head: str, activation: str = "linear") -> np.ndarray:
    """Return the probability of each name of a head.

    Arguments:
        outputs: (N, C), of the model, or (N, H, W, C).
        head: a name in `HEADS` with classes or labels.
        activation: what the last layer has applied: "linear", or already that of the
            head.

    Returns:
        float64 array (..., names), whose last axis sums to 1, for "sigmoid" (N, 2); or
        with "multi_label" the probability of each label.

    Raises:
        ValueError: the outputs are no probabilities.
    """
    kind = HEADS[head].probability
    if kind is None:
        raise ValueError(f"`head` must be of classes. Received: head={head!r}")
    if kind == "softmax":
        return np.exp(log_probabilities(outputs, activation))
    outputs = np.asarray(outputs, "float64")
    if activation == "linear":
        outputs = np.exp(-np.logaddexp(0, -outputs))
    elif activation != kind:
        raise ValueError(
            f"`activation` must be 'linear' or {kind!r} to give probabilities. "
            f"Received: activation={activation!r}"
        )
    if HEADS[head].binary:
        return np.concatenate([1 - outputs, outputs], axis=-1)
    return outputs


def log_probabilities(outputs, activation: str) -> np.ndarray:
    """Return the logarithm of the probabilities of classes of which one is right.

    Arguments:
        outputs: (..., C), of a head.
        activation: of this head, "linear" or "softmax".

    Returns:
        float64 array (..., C).

    Raises:
        ValueError: another activation, whose outputs are no distribution.
    """
    outputs = np.asarray(outputs, "float64")
    if activation == "softmax":
        return np.log(np.maximum(outputs, np.finfo("float64").tiny))
    if activation != "linear":
        raise ValueError(
            "`activation` must be 'linear' or 'softmax' to give probabilities. "
            f"Received: activation={activation!r}"
        )
    shifted = outputs - outputs.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

"""What a model says of one image, as a line of text, and names of its pictures."""

import collections
import pathlib
from collections.abc import Sequence

import numpy as np

from ..config import ViTConfig
from ..heads import HEADS, probabilities


def describe_outputs(
    outputs: np.ndarray, labels: list[str] | None, config: ViTConfig, top: int = 3
) -> str:
    """Format a model's outputs by its head.

    The `top` most probable classes; of two, the more probable one; all labels of at
    least 50 %, or that none is, with the most probable one; all values.

    Arguments:
        outputs: (C,), of one image.
        labels: names of classes, labels or values, or None for numbers.
        config: of the model.
        top: most classes to name.
    """
    kind = HEADS[config.head]
    names = labels or [str(i) for i in range(kind.names(len(outputs)))]
    if kind.probability is None:
        pairs = zip(names, outputs, strict=True)
        return ", ".join(f"{name} {value:.5g}" for name, value in pairs)
    shares = probabilities(outputs[None], config.head, config.activation)[0]
    best, before = np.argsort(-shares, kind="stable"), ""
    if config.head == "multi_label":
        likely = [i for i in best if shares[i] >= 0.5]
        best, before = likely or best[:1], "" if likely else "none of 50%; "
    else:
        best = best[: 1 if kind.binary else top]
    return before + ", ".join(f"{names[i]} {shares[i]:.1%}" for i in best)


def check_names_differ(files: Sequence[pathlib.Path]) -> None:
    """Check that pictures called after images do not replace each other.

    Raises:
        ValueError: two images have the same name, whatever their suffix.
    """
    names = collections.Counter(file.stem for file in files)
    twice = [str(file) for file in files if names[file.stem] > 1]
    if twice:
        raise ValueError(
            "images must have different names for their pictures. "
            f"Received: {', '.join(twice)}"
        )

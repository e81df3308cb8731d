"""Comparison of two versions of an artefact, before one replaces the other."""

import dataclasses
import os

from numpy.typing import ArrayLike

from . import runners
from .benchmark import benchmark
from .parity import Parity, measure_outputs
from .reference import UNNAMED
from .verify import read_sidecar


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The differences between two versions.

    Attributes:
        parity: of the new version's outputs against the old one's; of several that of
            the first.
        others: {name: the same} of further outputs.
        old_ms, new_ms: median time of one image, timed alternately.
        same_labels: whether the reports beside both have the same class names in the
            same order; true if one has none.
    """

    parity: Parity
    old_ms: float
    new_ms: float
    same_labels: bool = True
    others: dict[str, Parity] = dataclasses.field(default_factory=dict)

    def __str__(self):
        ratio = self.new_ms / self.old_ms
        return (
            f"{self.parity}; {self.new_ms:.2f} ms instead of {self.old_ms:.2f} ms "
            f"({ratio:.2f}x)"
            + ("" if self.same_labels else "; the labels differ, so outputs do, too")
            + "".join(f"; {name}: {parity}" for name, parity in self.others.items())
        )


def compare(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    images: ArrayLike,
    *,
    runs: int = 30,
) -> Comparison:
    """Compare two artefacts on the same images.

    Arguments:
        old, new: `.tflite` files or SavedModel directories.
        images: (N, H, W, C), inputs of both.
        runs: timed runs of each.

    Raises:
        ValueError: the artefacts or images do not fit each other, or have other names
            of outputs.
        FileNotFoundError: an artefact does not exist.
    """
    before, now = (runners.load(path).all(images) for path in (old, new))
    if len(before) == len(now) == 1:
        before, now = ({UNNAMED: next(iter(x.values()))} for x in (before, now))
    if before.keys() != now.keys():
        raise ValueError(
            "`old` and `new` must have outputs of the same names. Received: "
            f"{', '.join(before)} and {', '.join(now)}"
        )
    others = measure_outputs(before, now)
    parity = others.pop(next(iter(now)))
    times = [row.latency_ms for row in benchmark([old, new], runs=runs)]
    labels = [read_sidecar(path).get("labels") for path in (old, new)]
    same = labels[0] == labels[1] or None in labels
    return Comparison(parity, *times, same_labels=same, others=others)

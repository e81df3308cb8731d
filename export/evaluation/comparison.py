"""Two versions of a model side by side, before one takes the other's place."""

import dataclasses

from . import runners
from .benchmark import benchmark
from .verify import Parity, read_sidecar
from .verify import compare as parity_of


@dataclasses.dataclass(frozen=True)
class Canary:
    """What would change.

    Attributes:
        parity: of the new version's outputs with the old one's.
        old_ms, new_ms: median time of one image, both timed in one run.
        same_labels: whether the reports beside both name the same classes, in the same
            order; true if one of them names none.
    """

    parity: Parity
    old_ms: float
    new_ms: float
    same_labels: bool = True

    def __str__(self):
        ratio = self.new_ms / self.old_ms
        return (
            f"{self.parity}; {self.new_ms:.2f} ms instead of {self.old_ms:.2f} ms "
            f"({ratio:.2f}x)"
            + ("" if self.same_labels else "; the labels differ, so outputs do, too")
        )


def compare(old, new, images, *, runs=30) -> Canary:
    """Compare two artefacts on the same images.

    Arguments:
        old, new: `.tflite` files or SavedModel directories.
        images: (N, H, W, C), what both take.
        runs: how often each is timed.

    Raises:
        ValueError: the artefacts or images do not fit each other.
        FileNotFoundError: there is no such artefact.
    """
    outputs = [runners.load(path)(images) for path in (old, new)]
    times = [row.latency_ms for row in benchmark([old, new], runs=runs)]
    labels = [read_sidecar(path).get("labels") for path in (old, new)]
    same = labels[0] == labels[1] or None in labels
    return Canary(parity_of(*outputs), *times, same_labels=same)

"""Which file of a report to take: the rule, and what it finds."""

import dataclasses
import math
from collections.abc import Sequence

from .measure_file import MeasuredFile

# Standard errors that a loss may be from chance: 95 % of a normal distribution.
CHANCE = 2.0


@dataclasses.dataclass(frozen=True)
class CostLimits:
    """What the file to take may cost; None is any.

    Arguments:
        max_mb: size of the file, in 10^6 bytes.
        max_ms: latency of one image here, in milliseconds.
        max_drop: loss against Keras, of shares in percentage points.

    Raises:
        ValueError: a number is not positive, or `max_drop` below 0.
    """

    max_mb: float | None = None
    max_ms: float | None = None
    max_drop: float | None = None

    def __post_init__(self):
        for name, least in (("max_mb", 0.0), ("max_ms", 0.0)):
            value = getattr(self, name)
            if value is not None and not value > least:
                raise ValueError(f"`{name}` must be above 0. Received: {value!r}")
        if self.max_drop is not None and not self.max_drop >= 0:
            raise ValueError(
                f"`max_drop` must be 0 points or more. Received: {self.max_drop!r}"
            )

    @property
    def rule(self) -> str:
        """What is taken, in words."""
        limits = []
        if self.max_mb is not None:
            limits.append(f"at most {self.max_mb:g} MB")
        if self.max_ms is not None:
            limits.append(f"at most {self.max_ms:g} ms")
        if self.max_drop is not None:
            limits.append(f"a loss of at most {self.max_drop:g} points")
        if not limits:
            return (
                "the smallest file whose loss against Keras is within chance: at most "
                f"{CHANCE:g} standard errors of it"
            )
        which = "most accurate" if self.max_drop is None else "smallest"
        return f"the {which} file with {' and '.join(limits)}"

    def is_met(self, file: MeasuredFile) -> bool:
        """Whether a file that was measured costs no more."""
        scores = file.scores
        if scores is None or not file.fits or file.size_bytes is None:
            return False
        if math.isnan(scores.drop):  # nobody knows what it is worth
            return False
        if self == CostLimits():
            return scores.drop <= CHANCE * scores.drop_noise
        return (
            (self.max_mb is None or file.size_bytes <= 1e6 * self.max_mb)
            and (self.max_ms is None or _ms(file) <= self.max_ms)
            and (self.max_drop is None or scores.drop <= self.max_drop)
        )


def choose(files: Sequence[MeasuredFile], budget: CostLimits) -> MeasuredFile | None:
    """Return the file that the rule of a budget takes; None if none meets it.

    Of equally accurate files the smaller one is taken, of equally large ones the more
    accurate, then the faster.
    """
    able = [file for file in files if budget.is_met(file)]
    by_accuracy = budget.max_drop is None and budget != CostLimits()

    def order(file):
        drop = file.scores.drop
        first = (drop, file.size_bytes) if by_accuracy else (file.size_bytes, drop)
        return (*first, _ms(file))

    return min(able, key=order, default=None)


def _ms(file):
    return math.inf if file.latency_ms is None else file.latency_ms

"""The scale of a chart's axis."""

import math
from collections.abc import Sequence

WIDE = 8.0  # ratio of the largest to the smallest value from which an axis is log


class Axis:
    """A scale from values to pixels, with round ticks.

    Arguments:
        values: that it must show.
        start, end: pixels.
        log: whether equal ratios have equal lengths.
    """

    def __init__(self, values: Sequence[float], start: float, end: float, log=False):
        low, high = min(values), max(values)
        self.log = log and low > 0 and high / low > WIDE
        if self.log:
            low, high = low / 1.25, high * 1.25
        else:
            margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
            low = max(0.0, low - margin) if low >= 0 else low - margin
            high += margin
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round values inside."""
        if self.log:
            decades = range(
                math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1
            )
            every = [m * 10.0**d for d in decades for m in (1, 2, 5)]
            return [v for v in every if self.low <= v <= self.high]
        raw = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw)
        first = math.ceil(self.low / step)
        number = math.floor(self.high / step + 1e-9) - first + 1
        return [(first + i) * step for i in range(number)]

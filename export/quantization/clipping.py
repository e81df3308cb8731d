"""From the values that a tensor had on images to the range that its integers cover.

A narrow range has small steps and clips what lies beyond. `RANGES` are the ways to
choose; every range includes zero, which integers must give exactly.
"""

import math
from typing import Any

import numpy as np

BINS = 4096  # for either sign: at least 8 to a step of int8 over all values
STEPS = 255
SHARES = np.linspace(1, 0.3, 71)  # of the extremes that are tried
PERCENTILE = 99.99  # of the values, half of the others beyond either end


class Histogram:
    """The values of a tensor: its extremes, and if asked for, a histogram.

    The bins are aligned on zero. For a value beyond them all, neighbours are merged in
    pairs, so one pass over the images is enough, in bounded memory.

    Arguments:
        counted: whether to keep the histogram.

    Attributes:
        low, high: the extremes.
        counts: (2 * BINS,), how many values fell into each bin, or None.
        width: of a bin.
    """

    def __init__(self, counted=True):
        self.low, self.high = math.inf, -math.inf
        self.counts: Any = np.zeros(2 * BINS, "int64") if counted else None
        self.width = np.finfo("float32").tiny

    def add(self, values):
        """Take note of float values, one at least.

        Raises:
            ValueError: one is not finite.
        """
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("infinite ones, or NaN")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.counts is None:
            return
        beyond = max(-low, high) / (BINS * self.width)
        if beyond > 1:
            self._widen(math.ceil(math.log2(beyond)))
        index = np.floor(values / self.width).astype("int64").ravel() + BINS
        index = np.clip(index, 0, 2 * BINS - 1)  # the greatest value itself
        self.counts += np.bincount(index, minlength=2 * BINS)

    def _widen(self, times):
        """Bins of `2 ** times` the width."""
        for _ in range(times):
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(merged, BINS // 2)
        self.width *= 2.0**times

    @property
    def centres(self):
        """(2 * BINS,), of the bins."""
        return (np.arange(2 * BINS) - BINS + 0.5) * self.width


def min_max(seen: Histogram) -> tuple[float, float]:
    """The extremes: nothing is clipped."""
    return seen.low, seen.high


def mse(seen: Histogram) -> tuple[float, float]:
    """Where the squared error of int8 is least: first the upper end, then the lower,
    each of `SHARES` of the extreme."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    filled = seen.counts > 0
    values, counts = seen.centres[filled], seen.counts[filled]

    def error(low, high):
        step = (high - low) / STEPS or 1.0
        zero = np.round(-low / step)
        levels = np.clip(np.round(values / step) + zero, 0, STEPS)
        return np.sum(counts * ((levels - zero) * step - values) ** 2)

    high = min(SHARES * high, key=lambda value: error(low, value))
    low = min(SHARES * low, key=lambda value: error(value, high))
    return float(low), float(high)


def percentile(seen: Histogram) -> tuple[float, float]:
    """The range that includes `PERCENTILE` percent of the values."""
    cut = (1 - PERCENTILE / 100) / 2
    shares = np.cumsum(seen.counts) / np.sum(seen.counts)
    first = np.searchsorted(shares, cut, side="right")
    last = np.searchsorted(shares, 1 - cut)
    low = max((first - BINS) * seen.width, seen.low)
    high = min((last + 1 - BINS) * seen.width, seen.high)
    return float(min(low, 0.0)), float(max(high, 0.0))


RANGES = {"min_max": min_max, "mse": mse, "percentile": percentile}

"""Computation of a tensor's quantisation range from its calibration values.

A narrow range has small steps and clips the values beyond it. `RANGES` lists the
methods; every range includes zero, which integers must represent exactly.
"""

import math
from typing import Any

import numpy as np

BINS = 4096  # for each sign: at least 8 per int8 step over the whole range
STEPS = 255
SHARES = np.linspace(1, 0.3, 71)  # fractions of the extremes to try
PERCENTILE = 99.99  # of the values inside; half of the others beyond either end


class Histogram:
    """Extremes of a tensor's values and, optionally, their histogram.

    The bins are aligned on zero. For a value beyond them, neighbours are merged in
    pairs, so that one pass over the images is enough, in bounded memory.

    Arguments:
        counted: whether to keep the histogram.

    Attributes:
        low, high: the extremes.
        counts: (2 * BINS,), number of values in each bin, or None.
        width: of a bin.
    """

    def __init__(self, counted=True):
        self.low, self.high = math.inf, -math.inf
        self.counts: Any = np.zeros(2 * BINS, "int64") if counted else None
        self.width = np.finfo("float32").tiny

    def add(self, values):
        """Add float values, at least one.

        Raises:
            ValueError: a value is not finite.
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
        """Multiply the width of the bins by `2 ** times`."""
        for _ in range(times):
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(merged, BINS // 2)
        self.width *= 2.0**times

    @property
    def centres(self):
        """Centres of the bins, (2 * BINS,)."""
        return (np.arange(2 * BINS) - BINS + 0.5) * self.width


def min_max(seen: Histogram) -> tuple[float, float]:
    """Return the extremes: nothing is clipped."""
    return seen.low, seen.high


def mse(seen: Histogram) -> tuple[float, float]:
    """Return the range with the least squared error of int8: first the upper end is
    chosen, then the lower, each among `SHARES` of the extreme."""
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
    """Return the range that includes `PERCENTILE` percent of the values."""
    cut = (1 - PERCENTILE / 100) / 2
    shares = np.cumsum(seen.counts) / np.sum(seen.counts)
    first = np.searchsorted(shares, cut, side="right")
    last = np.searchsorted(shares, 1 - cut)
    low = max((first - BINS) * seen.width, seen.low)
    high = min((last + 1 - BINS) * seen.width, seen.high)
    return float(min(low, 0.0)), float(max(high, 0.0))


RANGES = {"min_max": min_max, "mse": mse, "percentile": percentile}

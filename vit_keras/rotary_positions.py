"""Conventions of rotary positions, as a table, and their angles."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rotary:
    """A convention of rotary positions: what an angle is, and which channels it turns.

    Attributes:
        source: of the convention.
        coordinates: "index" (0, 1, 2, ...), or "centred" (centres of the patches, from
            -1 to 1 over the image, times 2 pi).
        temperature: of the frequencies, `temperature ** (-4 k / d)`, k < d / 4.
        pairs: channels that are turned together: "halves" (k and k + d / 2) or
            "adjacent" (2 k and 2 k + 1).
        first: axis of the first half of the angles, "y" or "x".
        offset: added to each index.
    """

    source: str
    coordinates: str
    temperature: float
    pairs: str
    first: str = "y"
    offset: float = 0.0


ROTARY = {
    "dinov3": Rotary("arXiv 2508.10104, 3.2", "centred", 100.0, "halves"),
    "eva02": Rotary("arXiv 2303.11331, 2.1", "index", 10_000.0, "adjacent"),
    "rope_vit": Rotary("arXiv 2403.13298, 3.2", "index", 100.0, "adjacent", "x"),
    "pe": Rotary("arXiv 2504.13181, 2.1", "index", 10_000.0, "adjacent", "x", 1.0),
}


def rotary_angles(
    kind: str,
    grid: Sequence[int],
    head_dim: int,
    temperature: float | None = None,
    reference_grid: Sequence[int] | None = None,
) -> np.ndarray:
    """Return the angle of each pair of channels at each patch.

    Arguments:
        kind: a name in `ROTARY`.
        grid: (rows, columns), P = rows * columns.
        head_dim: d, a multiple of 4.
        temperature: another one than the convention's.
        reference_grid: the grid of the training, to which indices are rescaled.

    Returns:
        float64 (P, d / 2) in radians, row by row.
    """
    row = ROTARY[kind]
    temperature = temperature or row.temperature
    frequencies = temperature ** (-np.arange(head_dim // 4) / (head_dim // 4))
    axes = []
    for size, reference in zip(grid, reference_grid or grid, strict=True):
        if row.coordinates == "centred":
            axes.append(2 * np.pi * (2 * (np.arange(size) + 0.5) / size - 1))
        else:
            axes.append((np.arange(size) + row.offset) / size * reference)
    y, x = np.repeat(axes[0], grid[1]), np.tile(axes[1], grid[0])
    order = (y, x) if row.first == "y" else (x, y)
    return np.concatenate([v[:, None] * frequencies for v in order], axis=1)


def channel_pairs(pairs: str, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the second channel of each pair, (d / 2,) each."""
    channels = np.arange(head_dim)
    if pairs == "halves":
        return channels[: head_dim // 2], channels[head_dim // 2 :]
    return channels[::2], channels[1::2]

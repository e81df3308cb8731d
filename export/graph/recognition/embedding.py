"""From an image, or a map of features, to tokens: the patch embedding of a graph.

Letters: T tokens, P of them patches, p, q height and width of a patch, C channels.
"""

import dataclasses

import numpy as np

from ..vit_weights import Linear
from .probes import equal, noise, probe_linear
from .traced_graph import TracedGraph, Unrecognised

MOVES = 1e-12  # what depends on an image changes by more


@dataclasses.dataclass(frozen=True)
class Embedding:
    """The tokens before the first block.

    Attributes:
        linear: of a flattened patch (p*q*C, D).
        prefix: (T - P, D), tokens that do not depend on the image.
        positions: (P, D).
        image_size, patch_size: height and width.
        channels: C.
        layout: of what is embedded: "NHWC", "NCHW", or "tokens" (1, T, C), which are
            an image of one row.
    """

    linear: Linear
    prefix: np.ndarray
    positions: np.ndarray
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    channels: int
    layout: str


def read_embedding(graph: TracedGraph, start: int, end: int) -> Embedding:
    """The embedding between two tensors.

    Raises:
        Unrecognised: a token depends on more than a patch of its own.
    """
    part, shape = graph.part(start, end), graph.shapes[start]
    tokens, width = graph.shapes[end][-2:]

    def function(image):
        return part(image).reshape(tokens, width)

    zero = function(np.zeros(shape))
    moves = np.abs(function(noise(*shape)) - zero).max(-1) > MOVES
    prefix = int(np.argmax(moves))
    if not moves[prefix:].all():
        raise Unrecognised("a class or register token that is not the first one")
    for layout, size in _layouts(shape):
        for grid in _grids(size, tokens - prefix):
            patch = size[0] // grid[0], size[1] // grid[1]
            image = _images(grid, patch, size[2], layout, shape)
            kernel = _kernel(function, image, zero, prefix, patch[0] * patch[1], size)
            if kernel is None:
                continue
            # A float does not see how bias and positions share a constant; int8 does.
            bias = zero[prefix:].mean(0)
            return Embedding(
                *(Linear(kernel, bias), zero[:prefix], zero[prefix:] - bias),
                *(size[:2], patch, size[2], layout),
            )
    raise Unrecognised("tokens that are not one patch of the image each")


def _layouts(shape):
    """[(layout, (height, width, channels))] that a shape may mean."""
    if len(shape) == 3:
        return [("tokens", (1, *shape[1:]))]
    if len(shape) != 4 or shape[0] != 1:
        return []
    _, *sizes = shape
    return [("NHWC", tuple(sizes)), ("NCHW", (sizes[1], sizes[2], sizes[0]))]


def _grids(size, count):
    """The ways to cut an image into so many equal patches: (rows, columns)."""
    height, width, _ = size
    for rows in range(1, height + 1):
        if height % rows == 0 and count % rows == 0 and width % (count // rows) == 0:
            yield rows, count // rows


def _images(grid, patch, channels, layout, shape):
    """Function from flattened patches (P, p*q*C) to what is embedded."""
    (rows, columns), (height, width) = grid, patch

    def image(patches):
        x = patches.reshape(rows, columns, height, width, channels)
        x = x.transpose(0, 2, 1, 3, 4)
        x = x.reshape(1, rows * height, columns * width, channels)
        return (x.transpose(0, 3, 1, 2) if layout == "NCHW" else x).reshape(shape)

    return image


def _kernel(function, image, zero, prefix, pixels, size):
    """(p*q*C, D), or None if the patches are not these."""
    count, width = len(zero) - prefix, pixels * size[2]
    first = np.zeros((count, width))
    first[0] = 1.0
    moved = np.abs(function(image(first)) - zero).max(-1) > MOVES
    if moved.nonzero()[0].tolist() != [prefix]:
        return None
    try:
        kernel, _ = probe_linear(
            lambda x: (function(image(x)) - zero)[prefix:], count, width
        )
    except Unrecognised:
        return None
    return kernel


def read_input_scale(graph: TracedGraph):
    """(scale, offset), (C,) each, with which a graph begins, or None.

    A model that scales its input takes pixels. What was folded into the patch
    projection can not be seen.
    """
    shape, last = graph.input_shape, graph.input
    for point in graph.cuts(graph.input, graph.output)[1:]:
        op = graph.maker[point]
        if op.name not in ("ADD", "SUB", "MUL", "DIV") or graph.shapes[point] != shape:
            break
        last = point
    if last == graph.input or len(shape) != 4:
        return None
    part = graph.part(graph.input, last)
    offset = part(np.zeros(shape))
    found = part(np.ones(shape)) - offset, offset
    for axes in ((0, 1, 2), (0, 2, 3)):  # channels last, or first
        means = [value.mean(axes, keepdims=True) for value in found]
        pairs = zip(means, found, strict=True)
        if all(equal(value, np.broadcast_to(m, shape)) for m, value in pairs):
            return means[0].ravel(), means[1].ravel()
    return None

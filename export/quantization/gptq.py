"""Weights rounded so that the errors of a layer's output cancel.

GPTQ (arXiv 2210.17323): the weights of one input after the other are rounded, and those
of the inputs to come make up for the error, as far as the inputs go together on real
images. What is left lies on the grid that the quantiser finds again by itself.
"""

import dataclasses

import numpy as np

IMAGES = 32  # thousands of tokens: more change nothing
DAMPING = 0.01  # of the mean diagonal, as in the paper
SHARES = np.linspace(1, 0.7, 13)  # of the greatest weight, tried as the last step


@dataclasses.dataclass(frozen=True)
class Grid:
    """How a recipe of litert-quantizer stores the weights of linear layers.

    Arguments:
        last: the greatest integer, 7 of int4; the least is its negative.
        block: how many inputs share a scale, for each output; None for all.
    """

    last: int
    block: int | None = None

    def scale(self, peaks):
        """Of blocks whose greatest absolute weights these are, to the last bit."""
        scale = np.asarray(peaks / self.last, "float32")
        if self.block is not None:  # stored as float16, with the mantissa of bfloat16
            import ml_dtypes

            scale = scale.astype(ml_dtypes.bfloat16).astype("float16")
        return np.where(scale > 0, scale, 1).astype("float64")


GRIDS = {"dynamic_wi4b32_afp32": Grid(7, 32)}


def round_weights(graph, images, grid: Grid):
    """Round all linear layers of a graph's ViT, each seeing what the rounded ones
    before it give.

    Arguments:
        graph: a `Graph` with a `layer`; the variables of that are changed.
        images: (N, H, W, C), what the graph takes; the first are used.
        grid: a value of `GRIDS`.
    """
    layer, held = graph.layer, {}

    def visit(linear, x):
        if held.get("input") is not x:  # queries, keys and values have the same
            x_ = np.asarray(x).reshape(-1, x.shape[-1])
            held.update(input=x, gram=_gram(x_), factor=None)
            held["factor"] = upper_factor(held["gram"])
        kernel = np.asarray(linear.kernel, "float64")
        importance = np.diag(held["gram"])
        linear.kernel.assign(rounded(kernel, held["factor"], importance, grid))

    layer.seen, layer.visit = [], visit  # the first keeps queries, keys, values apart
    try:
        graph.function(np.asarray(images[:IMAGES], "float32"))
    finally:
        layer.seen = layer.visit = None


def _gram(x):
    """`x^T x / rows` (I, I) in float64, with damping."""
    gram = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), 4096):
        part = x[start : start + 4096].astype("float64")
        gram += part.T @ part
    gram /= len(x)
    return gram + DAMPING * max(np.trace(gram) / len(gram), 1e-12) * np.eye(len(gram))


def upper_factor(gram):
    """`U` (I, I), upper triangular, with `U^T U = gram^-1`: row i tells how the inputs
    after i make up for an error at i."""
    return np.linalg.cholesky(np.linalg.inv(gram)).T


def rounded(kernel, factor, importance, grid: Grid):
    """A kernel on its grid.

    Arguments:
        kernel: (I, O), float64.
        factor: (I, I), of `upper_factor`.
        importance: (I,), mean squares of the inputs.
        grid: of the result.

    Returns:
        (I, O). In each block the greatest weight is the last step, so that whoever
        divides by it finds the same scale.
    """
    left, result = kernel.copy(), np.empty_like(kernel)
    inputs, outputs = kernel.shape
    scale = peak = sign = np.empty(0)
    span = 32 if grid.block is None else grid.block
    for start in range(0, inputs, span):
        rows, stop = left[start : start + span], min(start + span, inputs)
        if grid.block is not None or start == 0:
            block = rows if grid.block is not None else left
            squares = importance[start : start + len(block)]
            scale = _best_scale(block, squares, grid)
            peak = start + np.abs(block).argmax(0)
            sign = np.sign(left[peak, np.arange(outputs)])
        errors = np.empty_like(rows)
        for i in range(start, stop):
            weights = left[i]
            levels = np.clip(np.round(weights / scale), -grid.last, grid.last)
            levels = np.where(peak == i, sign * grid.last, levels)
            result[i] = levels * scale
            errors[i - start] = (weights - result[i]) / factor[i, i]
            left[i + 1 : stop] -= np.outer(factor[i, i + 1 : stop], errors[i - start])
        left[stop:] -= factor[start:stop, stop:].T @ errors
    return result


def _best_scale(block, importance, grid):
    """(O,): of the scales at or below that of the greatest weight, the one with the
    least error of plain rounding."""
    peaks = np.abs(block).max(0)
    best, least = None, None
    for share in SHARES:
        scale = grid.scale(peaks * share)
        levels = np.clip(np.round(block / scale), -grid.last, grid.last)
        error = importance @ (levels * scale - block) ** 2
        if best is None:
            best, least = scale, error
        else:
            best = np.where(error < least, scale, best)
            least = np.minimum(error, least)
    return best

"""GPTQ: weight rounding that cancels the errors of a layer's outputs.

GPTQ (arXiv 2210.17323) rounds the weights of one input after another, and adjusts those
of the remaining inputs to compensate, according to the inputs' correlation on images.
The result lies on the grid that the quantiser computes by itself.
"""

import dataclasses
import math

import einops
import numpy as np

DAMPING = 0.01  # times the mean diagonal, as in the paper
SHARES = np.linspace(1, 0.7, 13)  # fractions of the greatest weight, tried as range
SPAN = 32  # inputs per block; later blocks are adjusted after each


@dataclasses.dataclass(frozen=True)
class Grid:
    """Integer grid of a scheme's weights, and the layers to round.

    Arguments:
        last: the greatest integer, such as 7 for int4; the least is its negative.
        block: number of inputs that share a scale, for each output; None for all.
        layers: "patches", their projection, or "linear", the other linear layers.
        patches: number of patches that give the inputs' correlation.
    """

    last: int
    block: int | None
    layers: str
    patches: int

    def scale(self, peaks):
        """Return the stored scales of blocks with these greatest absolute weights."""
        scale = np.asarray(peaks / self.last, "float32")
        if self.block is not None:  # in float16, with the mantissa of bfloat16
            import ml_dtypes

            scale = scale.astype(ml_dtypes.bfloat16).astype("float16")
        return np.where(scale > 0, scale, 1).astype("float64")


# Name of the weights in `SCHEMES` -> grid. In int8 the patch projection loses more than
# all other layers together: neighbouring pixels are alike, so its errors add up. With
# int4 weights it stays in float.
GRIDS = {
    "int8": Grid(last=127, block=None, layers="patches", patches=4096),
    "int4 in blocks of 32": Grid(last=7, block=32, layers="linear", patches=16384),
}


def round_weights(graph, images, grid: Grid) -> int:
    """Round a ViT's layers in order, each on the outputs of the rounded ones before.

    Arguments:
        graph: a `Graph` with a `layer`, whose variables are changed.
        images: (N, H, W, C), inputs of the graph; the last are used, since parity is
            measured on the first.
        grid: a value of `GRIDS`.

    Returns:
        The number of images used.
    """
    layer, known = graph.layer, {}
    embedding, config = layer.graph_weights().embedding, layer.graph_weights().config
    rows, columns = config.grid

    def visit(linear, x):
        projects = linear is embedding
        # The converter folds a norm in front of the projection into its weights.
        if projects and layer.source_weights.patch_norms is not None:
            return
        if projects != (grid.layers == "patches"):
            return
        if known.get("input") is not x:  # queries, keys and values share their input
            pattern, sizes = "... i -> (...) i", {}
            if len(x.shape) == 4:  # of a convolution
                pattern = "n (r h) (c w) k -> (n r c) (h w k)"
                sizes = {"r": rows, "c": columns}
                if not projects:  # merges tokens
                    k = math.isqrt(linear.kernel.shape[0] // config.hidden_size)
                    sizes = {"h": k, "w": k}
            gram = second_moment(einops.rearrange(np.asarray(x), pattern, **sizes))
            known.update(input=x, gram=gram, factor=upper_factor(gram))
        kernel = np.asarray(linear.kernel, "float64")
        linear.kernel.assign(round_kernel(kernel, known["gram"], known["factor"], grid))
        if projects:
            raise _Rounded

    chosen = images[-max(1, grid.patches // (rows * columns)) :]
    layer.seen, layer.visit = [], visit  # `seen` turns off `heads_apart`
    try:
        graph.function(np.asarray(chosen, "float32"))
    except _Rounded:
        pass
    finally:
        layer.seen = layer.visit = None
    return len(chosen)


class _Rounded(Exception):
    """All layers are rounded: the rest of the network need not be computed."""


def second_moment(x):
    """Return `x^T x / rows` of x (rows, I), float64, with damping."""
    gram = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), 1024):
        part = x[start : start + 1024]
        gram += part.T @ part
    gram /= len(x)
    damping = DAMPING * np.trace(gram) / len(gram)
    return gram + max(damping, 1e-12) * np.eye(len(gram))


def upper_factor(gram):
    """Return `U` (I, I), upper triangular, with `U^T U = gram^-1`: row i holds how the
    inputs after i compensate for an error at i."""
    from scipy.linalg import solve_triangular

    # With the inputs in reverse order, this is the inverse of a Cholesky factor.
    lower = np.linalg.cholesky(gram[::-1, ::-1])
    inverse = solve_triangular(lower, np.eye(len(gram)), lower=True)
    return np.ascontiguousarray(inverse[::-1, ::-1])


def round_kernel(kernel, gram, factor, grid: Grid):
    """Round a kernel to its grid.

    Arguments:
        kernel: (I, O), float64.
        gram: (I, I), of `second_moment`.
        factor: (I, I), of `upper_factor`.
        grid: of the result.

    Returns:
        (I, O). In each block the greatest weight is on the last step, so that the
        quantiser, which divides by it, finds the same scale.
    """
    left, result = kernel.copy(), np.empty_like(kernel)
    squares, count = np.diag(gram), len(kernel)
    span = grid.block or SPAN
    scale = peak = sign = np.empty(0)
    for start in range(0, count, span):
        stop = min(start + span, count)
        if grid.block is not None or start == 0:
            block = left[start : start + (grid.block or count)]
            scale = _best_scale(block, squares[start : start + len(block)], grid)
            peak = start + np.abs(block).argmax(0)
            sign = np.sign(np.take_along_axis(left, peak[None], 0)[0])
        errors = np.empty_like(left[start:stop])
        for i in range(start, stop):
            levels = np.clip(np.round(left[i] / scale), -grid.last, grid.last)
            levels = np.where(peak == i, sign * grid.last, levels)
            result[i] = levels * scale
            error = (left[i] - result[i]) / factor[i, i]
            left[i + 1 : stop] -= np.outer(factor[i, i + 1 : stop], error)
            errors[i - start] = error
        left[stop:] -= factor[start:stop, stop:].T @ errors
    return result


def _best_scale(block, squares, grid):
    """Return the scales (O,) with the least error of plain rounding, among those at or
    below the scale of the greatest weight."""
    peaks = np.abs(block).max(0)
    scales = [grid.scale(peaks * share) for share in SHARES]
    best, least = scales[0], np.full(len(peaks), np.inf)
    for scale in scales:
        levels = np.clip(np.round(block / scale), -grid.last, grid.last)
        error = squares @ (levels * scale - block) ** 2
        best = np.where(error < least, scale, best)
        least = np.minimum(error, least)
    return best

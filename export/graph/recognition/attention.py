"""The attention of a block in a traced graph.

Letters: T tokens, D width, H heads, d width of a head. All in float64.
"""

import dataclasses

import numpy as np

from ..vit_weights import Attention, Linear, Norm
from .probes import (
    EXACT,
    equal,
    noise,
    normalise,
    piece_kind,
    probe_linear,
    products_of_two,
    read_norm,
    steps,
)
from .traced_graph import TracedGraph, Unrecognised

CLOSE = 1e-7  # products of three float64 matrices, and a softmax
MASKED = -1e3  # no score of a trained model is as small


@dataclasses.dataclass(frozen=True)
class Projection:
    """Queries, keys or values of all heads: kernel (D, H*d), bias, norm of a head."""

    kernel: np.ndarray
    bias: np.ndarray
    norm: Norm | None
    heads: int

    def __call__(self, tokens):
        """(T, D) to (H, T, d)."""
        y = (tokens @ self.kernel + self.bias).reshape(len(tokens), self.heads, -1)
        y = y.transpose(1, 0, 2)
        return y if self.norm is None else normalise(y, self.norm)

    @property
    def linear(self) -> Linear:
        """Of `Weights`."""
        return Linear(self.kernel, self.bias)

    @property
    def size(self) -> int:
        """d."""
        return len(self.bias) // self.heads


def read_attention(graph: TracedGraph, source: int, end: int, tokens: int) -> Attention:
    """The attention of one branch.

    Arguments:
        graph: the graph.
        source: the normed tokens (T, D).
        end: what is added to the stream (T, D).
        tokens: T.
    """
    softmaxes = [op for op in graph.between(source, end) if op.name == "SOFTMAX"]
    if not softmaxes:
        raise Unrecognised("attention without softmax")
    if len(softmaxes) > 1:
        raise Unrecognised(f"{len(softmaxes)} softmaxes in one branch")
    scores, shares = softmaxes[0].inputs[0], softmaxes[0].outputs[0]
    before, after = graph.between(source, scores), graph.between(shares, end)
    firsts, seconds = products_of_two(graph, before), products_of_two(graph, after)
    if len(firsts) != 1 or len(seconds) != 1:
        raise Unrecognised("attention that is not one product, softmax, one product")
    first, second = firsts[0], seconds[0]
    left = read_projection(graph, source, first, 0, tokens)
    right = read_projection(graph, source, first, 1, tokens)
    heads, size = left.heads, left.size
    behind = {o for op in after for o in op.outputs} | {shares}
    values_first = second.inputs[0] not in behind
    operand = 0 if values_first else 1
    value = read_projection(graph, source, second, operand, tokens, of_values=True)
    if (value.size, value.norm) != (size, None):
        raise Unrecognised(f"values of width {value.size} and queries of {size}")
    product = second.outputs[0]  # (H, T, d), or (H, d, T) where values come first
    part, axes = graph.part(product, end), (1, 2, 0) if values_first else (1, 0, 2)

    def output(x):
        x = x.reshape(tokens, heads, size).transpose(axes)
        return part(x).reshape(tokens, -1)

    kernel, bias = probe_linear(output, tokens, heads * size)
    x = noise(tokens, len(left.kernel))
    actual = graph.part(source, scores)(x).reshape(heads, tokens, tokens)
    query, key, scale = _scaled_product(graph, first, scores, actual, left, right, x)
    y = softmax(actual) @ value(x)
    y = y.transpose(1, 0, 2).reshape(tokens, -1) @ kernel + bias
    if not equal(graph.part(source, end)(x).reshape(tokens, -1), y, CLOSE):
        raise Unrecognised("attention weights that are changed behind the softmax")
    return Attention(
        *(query.linear, key.linear, value.linear, Linear(kernel, bias)),
        *(heads, scale, query.norm, key.norm),
    )


def softmax(x) -> np.ndarray:
    """Over the last axis."""
    shares = np.exp(x - x.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def _scaled_product(graph, product, scores, actual, left, right, x):
    """(query, key, scale): either operand may be the query; the softmax, over the
    keys, tells which."""
    expected = left(x) @ right(x).swapaxes(1, 2)
    squares = np.vdot(expected, expected)
    for query, key in ((left, right), (right, left)):
        scale = float(np.vdot(expected, actual) / squares)
        if equal(actual, scale * expected, CLOSE):
            return query, key, scale
        expected = np.ascontiguousarray(expected.swapaxes(1, 2))
    made = product.outputs[0]
    if piece_kind(graph, graph.between(made, scores)) != "linear":
        raise Unrecognised("scores that are capped")
    added = graph.part(made, scores)(np.zeros(graph.shapes[made]))
    if added.min() < MASKED:
        raise Unrecognised("an attention mask")
    if np.ptp(added):
        raise Unrecognised("relative position bias")
    raise Unrecognised("scores that are mixed between heads (talking heads)")


def read_projection(
    graph, source, product, operand, tokens, of_values=False
) -> Projection:
    """One operand of a matrix product, as it is made from the normed tokens.

    Arguments:
        graph: the graph.
        source: the normed tokens (T, D).
        product: the operator.
        operand: 0 or 1.
        tokens: T.
        of_values: whether the product is that with the values.
    """
    target = product.inputs[operand]
    *_, rows, columns = graph.shapes[target]
    # The first operand contracts its last axis, the second its last but one; unless
    # adjoint. Queries and keys contract d, values T.
    adjoint = product.options.adjX if operand == 0 else product.options.adjY
    turned = ((operand == 0) != bool(adjoint)) == of_values
    seen = columns if turned else rows
    if seen != tokens:
        raise Unrecognised(f"attention among {seen} of {tokens} tokens (windows)")

    def by_token(y):  # (T, H, d)
        y = y.reshape(-1, rows, columns)
        return y.transpose((2, 0, 1) if turned else (1, 0, 2))

    way = steps(graph, source, target)
    kinds = [step.kind for step in way]
    heads = by_token(np.zeros(graph.shapes[target])).shape[1]
    width = graph.shapes[source][-1]
    if kinds == ["linear"]:
        part = graph.part(source, target)
        kernel, bias = _probe(lambda x: by_token(part(x)), tokens, width)
        return Projection(kernel, bias, None, heads)
    if kinds not in (["linear", "norm"], ["linear", "norm", "linear"]):
        raise Unrecognised(f"queries, keys or values made by {', '.join(kinds)}")
    norm = read_norm(graph, way[1])
    behind = graph.part(way[1].end, target)
    shape = graph.shapes[way[1].end]
    offset = by_token(behind(np.zeros(shape)))
    factor = by_token(behind(np.ones(shape))) - offset
    if max(np.ptp(v, (0, 1)).max() for v in (offset, factor)) > EXACT:
        raise Unrecognised("positions in the queries or keys")
    before = graph.part(source, way[0].end)
    inner = lambda x: (by_token(behind(before(x))) - offset) / factor  # noqa: E731
    kernel, bias = _probe(inner, tokens, width)
    norm.gamma = norm.gamma * factor[0, 0]
    norm.beta = norm.beta * factor[0, 0] + offset[0, 0]
    return Projection(kernel, bias, norm, heads)


def _probe(function, tokens, width):
    try:
        return probe_linear(lambda x: function(x).reshape(tokens, -1), tokens, width)
    except Unrecognised as error:
        if "from token to token" not in str(error):
            raise
        raise Unrecognised("rotary positions in the queries or keys") from error

"""Attention pooling behind the last norm of a traced graph (arXiv 2106.04560).

One query, the same for every image, attends to the tokens; an MLP follows.
Letters: T tokens, D width, H heads, d width of a head.
"""

import dataclasses
import math

import numpy as np

from ..vit_weights import Attention, Linear, Norm
from .attention import CLOSE, read_projection, softmax
from .blocks import MLPBranch, read_branch, residual_end
from .probes import equal, noise, probe_linear, products_of_two, steps
from .traced_graph import TracedGraph, Unrecognised


@dataclasses.dataclass(frozen=True)
class AttentionPool:
    """`x + mlp(norm(x))` of `x = attention(query, tokens)`.

    Attributes:
        attention: its query is a bias.
        mlp: the branch.
        end: the tensor that it gives, of D values.
    """

    attention: Attention
    mlp: MLPBranch
    end: int

    @property
    def weights(self) -> tuple[np.ndarray, Attention, Norm, Linear, Linear, str]:
        """As `Weights.pool` has it."""
        mlp, probe = self.mlp, np.zeros((1, len(self.mlp.dense2.bias)))
        parts = mlp.norm, mlp.dense1, mlp.dense2, mlp.activation
        return probe, self.attention, *parts


def read_attention_pool(graph: TracedGraph, source: int) -> AttentionPool | None:
    """The pooling of normed tokens (T, D), or None if they are not pooled so."""
    tokens, width = graph.shapes[source][-2:]
    cuts = graph.cuts(source, graph.output)
    for start, end in zip(cuts[1:], cuts[2:], strict=False):
        branch = residual_end(graph, start, end)
        if branch < 0:
            continue
        kinds = {step.kind for step in steps(graph, source, start)}
        if math.prod(graph.shapes[start]) != width or kinds - {"attention", "linear"}:
            return None
        try:
            attention = _read_attention(graph, source, start, tokens)
            mlp = read_branch(graph, start, branch)
        except Unrecognised:
            return None
        if not isinstance(mlp, MLPBranch) or mlp.out_activation is not None:
            return None
        return AttentionPool(attention, mlp, end)
    return None


def _read_attention(graph, source, end, tokens):
    ops = graph.between(source, end)
    softmaxes, products = _softmaxes(ops), products_of_two(graph, ops)
    if len(softmaxes) != 1 or len(products) != 1:
        raise Unrecognised("a pooling that is not one softmax, one product")
    scores, shares = softmaxes[0].inputs[0], softmaxes[0].outputs[0]
    if graph.shapes[scores][-1] != tokens:
        raise Unrecognised("a pooling that does not attend to all tokens")
    product = products[0]
    operand = 1 if product.inputs[0] in _reached(graph, shares, end) else 0
    value = read_projection(graph, source, product, operand, tokens, of_values=True)
    heads, size, width = value.heads, value.size, len(value.kernel)
    part = graph.part(source, scores)

    def scores_of(x):  # (T, D) to (H, T)
        return part(x).reshape(-1, tokens)

    # What the query makes of the keys: one number per head and token, which is put
    # into the first of d channels.
    kernel, bias = probe_linear(lambda x: scores_of(x).T, tokens, width)
    if len(bias) != heads:
        raise Unrecognised("a pooling of several queries")
    first = np.eye(1, size)
    key = Linear(np.kron(kernel, first), np.kron(bias, first[0]))
    query = Linear(np.zeros((width, heads * size)), np.tile(first[0], heads))
    behind = graph.part(product.outputs[0], end)
    out = probe_linear(lambda x: behind(x).reshape(1, -1), 1, heads * size)
    x = noise(tokens, width)
    pooled = softmax(scores_of(x))[:, None] @ value(x)
    pooled = pooled.reshape(1, -1) @ out[0] + out[1]
    actual = graph.part(source, end)(x).reshape(1, -1)
    if not equal(actual, pooled, CLOSE):
        raise Unrecognised("a pooling that changes its weights")
    return Attention(query, key, value.linear, Linear(*out), heads, 1.0)


def _softmaxes(ops):
    return [op for op in ops if op.name == "SOFTMAX"]


def _reached(graph, start, end):
    """The tensors on the way from one to another, the first included."""
    return {start, *(o for op in graph.between(start, end) for o in op.outputs)}

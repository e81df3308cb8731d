"""What follows the last block of a traced graph: norm, pooling, head; the rest is the
tail, which stays as it is.

Letters: T tokens, D width, O outputs of the head.
"""

import dataclasses

import numpy as np

from ..vit_weights import Linear, Norm
from .attention_pooling import AttentionPool, read_attention_pool
from .probes import equal, noise, read_linear, read_norm, steps
from .traced_graph import TracedGraph, Unrecognised


@dataclasses.dataclass(frozen=True)
class Head:
    """The end of a ViT.

    Attributes:
        norm: of the tokens, or of the pooled vector; None for none.
        pooling: "token", "gap", "map", or None for all tokens.
        linear: (D, O), or None for none.
        fc_norm: whether `norm` is that of the pooled vector.
        end: the tensor that it gives.
        features: the tensor of all tokens, normed where `norm` is theirs.
    """

    norm: Norm | None
    pooling: str | None
    linear: Linear | None
    fc_norm: bool
    end: int
    features: int
    pool: AttentionPool | None = None


def read_head(graph: TracedGraph, last: int, prefix: int) -> Head:
    """The end of a ViT.

    Arguments:
        graph: the graph.
        last: the stream (T, D) behind the last block.
        prefix: number of tokens before the patches.
    """
    way = steps(graph, last, graph.output)
    kinds = [step.kind for step in way]
    if kinds[:1] == ["norm"]:
        try:
            norm, end = read_norm(graph, way[0]), way[0].end
        except Unrecognised:
            return Head(None, None, None, False, last, last)
        found = None
        if kinds[1:2] == ["linear"]:
            found = _read_pooled(graph, end, way[1].end, prefix)
        if found is None and not prefix:
            pool = read_attention_pool(graph, end)
            if pool is not None:
                return _read_pooled_head(graph, norm, pool, end)
        if found is None:
            return Head(norm, None, None, False, end, end)
        return Head(norm, *found, False, way[1].end, end)
    if kinds[:3] == ["linear", "norm", "linear"]:
        head = _read_normed_vector(graph, last, way, prefix)
        if head is not None:
            return head
    return Head(None, None, None, False, last, last)


def _poolings(prefix):
    """{name: function from tokens (T, D) to a vector (D,)}."""
    poolings = {"gap": lambda x: x[prefix:].mean(0)}
    if prefix:
        poolings["token"] = lambda x: x[0]
    return poolings


def _read_pooled(graph, start, end, prefix):
    """(pooling, Linear) of a linear layer that reads one vector, or None."""
    tokens, width = graph.shapes[start][-2:]
    part = graph.part(start, end)

    def function(x):
        return part(x).ravel()

    zero, x = function(np.zeros((tokens, width))), noise(tokens, width)
    for name, pool in _poolings(prefix).items():
        other = noise(tokens + 1, width)[1:]
        if name == "gap":
            other = other - (pool(other) - pool(x))
        else:
            other = np.concatenate([x[:1], other[1:]])
        if not equal(function(x), function(other)):  # it reads more
            continue
        units = (np.broadcast_to(unit, (tokens, width)) for unit in np.eye(width))
        kernel = np.stack([function(unit) - zero for unit in units])
        if equal(pool(x) @ kernel + zero, function(x)):
            return name, Linear(kernel, zero)
    return None


def _read_pooled_head(graph, norm, pool, features):
    """The head that reads the pooled vector, or none.

    Arguments:
        features: the tensor of tokens that the pooling reads.
    """
    way = steps(graph, pool.end, graph.output)
    linear, end = None, pool.end
    if way and way[0].kind == "linear":
        end = way[0].end
        linear = Linear(*read_linear(graph, pool.end, end, 1))
    return Head(norm, "map", linear, False, end, features, pool)


def _read_normed_vector(graph, last, way, prefix):
    """The head of a model that pools before its last norm, or None."""
    tokens, width = graph.shapes[last][-2:]
    x = noise(tokens, width)
    pooled = graph.part(last, way[0].end)(x).ravel()
    poolings = _poolings(prefix).items()
    names = [name for name, pool in poolings if equal(pool(x), pooled)]
    if not names:
        return None
    try:
        norm = read_norm(graph, way[1])
    except Unrecognised:
        return None
    part, shape = graph.part(way[2].start, way[2].end), graph.shapes[way[2].start]
    zero = part(np.zeros(shape)).ravel()
    kernel = np.stack(
        [part(unit.reshape(shape)).ravel() - zero for unit in np.eye(width)]
    )
    return Head(norm, names[0], Linear(kernel, zero), True, way[2].end, last)

"""The encoder blocks of a traced graph.

The residual stream is cut at every `x + f(norm(x))`; attention and MLP in turn, with
nothing between them, are the blocks.
"""

import dataclasses

from ..vit_weights import Attention, Block, Linear, Norm
from .attention import read_attention
from .probes import (
    products_of_two,
    read_activation,
    read_linear,
    read_norm,
    steps,
)
from .traced_graph import TracedGraph, Unrecognised


@dataclasses.dataclass(frozen=True)
class AttentionBranch:
    """`attention(norm(x))`."""

    norm: Norm
    attention: Attention


@dataclasses.dataclass(frozen=True)
class MLPBranch:
    """`dense2(activation(dense1(norm(x))))`, and what may follow."""

    norm: Norm
    dense1: Linear
    activation: str
    dense2: Linear
    out_activation: str | None


@dataclasses.dataclass(frozen=True)
class BlockChain:
    """Blocks, the stream before the first and behind the last one."""

    blocks: list[Block]
    start: int
    end: int


def read_blocks(graph: TracedGraph) -> BlockChain:
    """The blocks of a plain ViT.

    Raises:
        Unrecognised: there are none, or attention outside of them.
    """
    if not products_of_two(graph, graph.ops):
        raise Unrecognised("no attention")
    chain = graph.cuts(graph.input, graph.output)
    pairs = list(zip(chain, chain[1:], strict=False))
    residual = [i for i, pair in enumerate(pairs) if residual_end(graph, *pair) >= 0]
    branches, reasons = {}, []
    for position, i in enumerate(residual):
        start, end = pairs[i]
        try:
            branches[i] = read_branch(graph, start, residual_end(graph, start, end))
        except Unrecognised as error:
            reasons.append(f"{error} in block {position // 2}")
    found = _longest(branches)
    if not found:
        other = "no MLP behind attention" if branches else _why_no_branch(graph, pairs)
        raise Unrecognised(reasons[0] if reasons else other)
    blocks = [
        _block(branches[i], branches[j])
        for i, j in zip(found[::2], found[1::2], strict=True)
    ]
    start, end = pairs[found[0]][0], pairs[found[-1]][1]
    for where, part in (
        ("before", graph.between(graph.input, start)),
        ("behind", graph.between(end, graph.output)),
    ):
        if _attends(graph, part, graph.shapes[start][-2]):
            reason = f"attention {where} {len(blocks)} plain blocks"
            raise Unrecognised(f"{reasons[0]}: {reason}" if reasons else reason)
    return BlockChain(blocks, start, end)


def _longest(branches):
    """The longest run of attention and MLP in turn, by their numbers."""
    runs, current = [], []
    for i in sorted(branches):
        wanted = AttentionBranch if len(current) % 2 == 0 else MLPBranch
        if current and (i != current[-1] + 1 or type(branches[i]) is not wanted):
            runs.append(current)
            current = []
        if current or isinstance(branches[i], AttentionBranch):
            current.append(i)
    longest = max((*runs, current), key=len)
    return longest[: len(longest) // 2 * 2]


def _block(attention: AttentionBranch, mlp: MLPBranch) -> Block:
    return Block(
        *(attention.norm, attention.attention, None),
        *(mlp.norm, mlp.dense1, mlp.dense2, None),
        activation=mlp.activation,
        out_activation=mlp.out_activation,
    )


def residual_end(graph: TracedGraph, start: int, end: int) -> int:
    """What is added to the stream between two cuts, or -1."""
    op = graph.maker[end]
    if op.name != "ADD" or start not in op.inputs:
        return -1
    others = [i for i in op.inputs if i != start and i not in graph.constants]
    return others[0] if others else -1


def _attends(graph, ops, tokens):
    """Whether there is attention among all tokens; that of one query is a pooling."""
    return bool(products_of_two(graph, ops)) and any(
        op.name == "SOFTMAX" and tokens in graph.shapes[op.outputs[0]][-2:-1]
        for op in ops
    )


def _why_no_branch(graph, pairs):
    """The reason why the stream has no branch `x + f(norm(x))`."""
    for start, end in pairs:
        op = graph.maker[end]
        made = [graph.maker[i] for i in graph.moving(op) if i in graph.maker]
        inner = [o for o in made if o.name == "ADD" and start in o.inputs]
        if op.name == "ADD" and inner:
            return "attention and MLP in parallel in block 0"
    return "no residual branch x + f(norm(x)) between two tensors that all data passes"


def read_branch(graph: TracedGraph, start: int, end: int):
    """What is added to the stream, as a branch of either kind.

    Arguments:
        graph: the graph.
        start: the stream (T, D).
        end: what is added to it.
    """
    way = steps(graph, start, end)
    kinds = [step.kind for step in way]
    if len(graph.shapes[start]) < 2:
        raise Unrecognised("a residual branch of a vector")
    tokens = graph.shapes[start][-2]
    attends = "attention" in kinds
    if kinds[:1] != ["norm"]:
        name = "attention" if attends else "MLP"
        raise Unrecognised(f"no norm in front of the {name} (post-norm)")
    if "norm" in kinds[1:]:
        raise Unrecognised("a norm behind attention or MLP (sandwich norm)")
    norm, source = read_norm(graph, way[0]), way[0].end
    if attends:
        if [kind for kind in kinds[1:] if kind != "linear"] != ["attention"]:
            raise Unrecognised(f"attention made by {', '.join(kinds)}")
        return AttentionBranch(norm, read_attention(graph, source, end, tokens))
    return MLPBranch(norm, *_read_mlp(graph, way[1:], tokens))


def _read_mlp(graph, way, tokens):
    kinds = [step.kind for step in way]
    plain = ["linear", "elementwise", "linear"]
    ops = graph.between(way[0].start, way[-1].end) if way else []
    if any(op.name == "DEPTHWISE_CONV_2D" for op in ops):
        raise Unrecognised("a convolution in the MLP")
    if kinds[:1] == ["elementwise"]:
        raise Unrecognised("a gated MLP (SwiGLU)")
    if kinds not in (plain, [*plain, "elementwise"]):
        raise Unrecognised(f"an MLP made by {', '.join(kinds)}")
    names = [read_activation(graph, s) for s in way if s.kind == "elementwise"]
    first, second = (
        Linear(*read_linear(graph, step.start, step.end, tokens))
        for step in way
        if step.kind == "linear"
    )
    return first, names[0], second, names[1] if len(names) > 1 else None

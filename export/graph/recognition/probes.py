"""What a piece of a traced graph computes: guessed by its operators, proven by runs.

Letters: T tokens, D width, I inputs and O outputs of a linear layer. All in float64.
"""

import dataclasses
import math

import numpy as np

from ..activations import ACTIVATIONS, activate
from ..vit_weights import Norm
from .traced_graph import TracedGraph, Unrecognised

# Linear in what moves, and with a constant; the rest of a linear layer.
LINEAR = {
    *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "CONCATENATION", "PACK"),
    *("SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "UNPACK", "GATHER", "PAD"),
    *("BROADCAST_TO", "TILE", "REVERSE_V2", "DYNAMIC_UPDATE_SLICE", "IDENTITY"),
    *("SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "AVERAGE_POOL_2D", "MEAN", "SUM", "NEG"),
    *("ADD", "SUB", "ADD_N", "FULLY_CONNECTED", "CONV_2D"),
}
PRODUCTS = {"MUL", "DIV", "BATCH_MATMUL"}
ROOTS = {"RSQRT", "SQRT", "POW"}
EXACT = 1e-9  # a linear map of float32 weights in float64
NEAR = 1e-6  # a function with a root, an exponential or an error function


@dataclasses.dataclass(frozen=True)
class Step:
    """A piece between two cuts: "linear", "norm", "attention" or "elementwise"."""

    kind: str
    start: int
    end: int


def equal(a, b, tolerance=EXACT) -> bool:
    """Whether two arrays are the same, relative to the first one's greatest value."""
    if a.shape != b.shape:
        return False
    return bool(np.abs(a - b).max() <= tolerance * max(1.0, np.abs(a).max()))


def noise(*shape) -> np.ndarray:
    """Random numbers, always the same ones for a shape."""
    return np.random.default_rng(math.prod(shape)).standard_normal(shape)


def products_of_two(graph: TracedGraph, ops) -> list:
    """Matrix products of which both operands depend on the image."""
    products = [op for op in ops if op.name == "BATCH_MATMUL"]
    return [op for op in products if len(graph.moving(op)) == 2]


def piece_kind(graph: TracedGraph, ops) -> str:
    """What operators may compute together, as `Step` names it."""

    def is_linear(op):
        if op.name == "DIV" and op.inputs[1] not in graph.constants:
            return False
        return op.name in LINEAR or (op.name in PRODUCTS and len(graph.moving(op)) == 1)

    names = {op.name for op in ops}
    if all(map(is_linear, ops)):
        return "linear"
    if "SOFTMAX" in names or products_of_two(graph, ops):
        return "attention"
    return "norm" if names & ROOTS else "elementwise"


def steps(graph: TracedGraph, start: int, end: int) -> list[Step]:
    """The way from one tensor to another, neighbouring linear pieces as one."""
    if start == end:
        return []
    points, parts = graph.cuts(start, end), []
    for a, b in zip(points, points[1:], strict=False):
        ops = graph.between(a, b)
        kind = piece_kind(graph, ops)
        last = parts[-1] if parts else Step("", a, a)
        if kind == "norm" and last.kind == "centre":  # `x - mean` is a cut
            parts[-1] = Step("norm", last.start, b)
        elif last.kind == "norm" and _is_per_channel(graph, ops, last.end):
            parts[-1] = Step("norm", last.start, b)
        else:
            names = {op.name for op in ops}
            centre = kind == "linear" and {"MEAN", "SUB"} <= names
            parts.append(Step("centre" if centre else kind, a, b))
    found = []
    for part in parts:
        kind = "linear" if part.kind == "centre" else part.kind
        if kind == "linear" and found and found[-1].kind == "linear":
            found[-1] = Step("linear", found[-1].start, part.end)
        else:
            found.append(Step(kind, part.start, part.end))
    return found


def _is_per_channel(graph, ops, start):
    """Whether one operator multiplies by, or adds, a number per channel: of a norm."""
    if len(ops) != 1 or ops[0].name not in ("MUL", "ADD", "SUB"):
        return False
    shape, constants = graph.shapes[start], graph.constants
    sizes = [constants[i].size for i in ops[0].inputs if i in constants]
    same = graph.shapes[ops[0].outputs[0]] == shape
    return same and all(size in (1, shape[-1]) for size in sizes)


def normalise(x, norm: Norm) -> np.ndarray:
    """What a norm makes of its last axis."""
    x = x - x.mean(-1, keepdims=True) if norm.centred else x
    y = x / np.sqrt((x * x).mean(-1, keepdims=True) + norm.epsilon)
    return y * norm.gamma + norm.beta


def read_norm(graph: TracedGraph, step: Step) -> Norm:
    """A layer norm, or RMS norm, over the last axis.

    Far from zero epsilon does not matter, and the sum and the difference of the norm
    of x and -x tell beta and gamma; close to zero it tells epsilon.
    """
    shape = graph.shapes[step.start]
    size = shape[-1]
    if graph.shapes[step.end] != shape or size < 3:
        raise Unrecognised("a norm that changes the shape")
    function = graph.part(step.start, step.end)
    base = noise(size)
    base = (base - base.mean()) / base.std()

    def of_row(row):
        return function(np.broadcast_to(row, shape)).reshape(-1, size)[0]

    up, down = of_row(1e8 * base), of_row(-1e8 * base)
    beta, gamma = (up + down) / 2, (up - down) / 2 / base
    little = 1e-3
    with np.errstate(divide="ignore", invalid="ignore"):  # where gamma is zero
        factors = little / ((of_row(little * base) - beta) / (gamma * base))
    epsilon = float(np.float32(np.nanmedian(factors**2 - little**2)))
    x = noise(*shape) * np.exp(noise(*shape[:-1], 1)) + noise(*shape[:-1], 1)
    result = function(x)
    for centred in (True, False):
        norm = Norm(gamma, beta, epsilon, centred)
        if epsilon >= 0 and equal(result, normalise(x, norm), NEAR):
            return norm
    raise Unrecognised("a norm that is neither layer norm nor RMS norm of a token")


def read_activation(graph: TracedGraph, step: Step) -> str:
    """The name of an activation function, one of `ACTIVATIONS`."""
    shape = graph.shapes[step.start]
    if graph.shapes[step.end] != shape:
        raise Unrecognised("a gated MLP (SwiGLU)")
    x = 3 * noise(*shape)
    result = graph.part(step.start, step.end)(x)
    for name in ACTIVATIONS:
        if equal(np.asarray(activate(name, x)), result, NEAR):
            return name
    raise Unrecognised("an activation function that is not known")


def probe_linear(function, tokens: int, width: int):
    """Kernel (I, O) and bias (O,) of a map that does the same with every token.

    Arguments:
        function: from (T, I) to (T, O).
        tokens, width: T and I.

    Raises:
        Unrecognised: it does not.
    """
    constant, kernel = function(np.zeros((tokens, width))), []
    for first in range(0, width, tokens):
        count = min(tokens, width - first)
        units = np.eye(tokens, width, first)
        kernel.append((function(units) - constant)[:count])
    kernel, x = np.concatenate(kernel), noise(tokens, width)
    result = function(x)
    if equal(result, x @ kernel + constant[0]):
        return kernel, constant[0]
    changed = np.concatenate([x[:-1], 2 * x[-1:]])
    if not equal(function(changed)[:-1], result[:-1]):
        raise Unrecognised("a linear layer that mixes tokens")
    raise Unrecognised("a linear layer that differs from token to token")


def read_linear(graph: TracedGraph, start: int, end: int, tokens: int):
    """Kernel (I, O) and bias (O,) of a linear layer from (T, I) to (T, O)."""
    part = graph.part(start, end)
    sizes = [math.prod(graph.shapes[number]) for number in (start, end)]
    if any(size % tokens for size in sizes):
        raise Unrecognised("a linear layer that mixes tokens")
    width = sizes[0] // tokens
    return probe_linear(lambda x: part(x).reshape(tokens, -1), tokens, width)

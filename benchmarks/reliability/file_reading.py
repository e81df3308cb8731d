"""A second reading of a `.tflite` file: its operators in NumPy, in float64.

After each operator the values are rounded as its output tensor can hold them, once, as
the specification of TFLite's quantisation has it. LiteRT rounds more often (tables of
exponentials, multipliers of 31 bits), so that an int8 value may be a step apart, and
such steps add up.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from .file_moves import MOVES
from .file_operators import OPERATORS, fused
from .file_tables import Op, Tables, Tensor, read_tables, rounded_away

# With float inputs and integer kernels, these round their input at run time.
PRODUCTS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")


class SecondReading:
    """A file that is run without LiteRT.

    Arguments:
        path: of a `.tflite` file with one input.
        int16_tables: whether functions of int16 values are read as LiteRT's tables have
            them, `int16_table`, in place of exactly.

    Attributes:
        tables: what the file says.
        outputs: {name in its signature: its `Tensor`}.
        constants: {number of a tensor: its real values}.

    Raises:
        ValueError: it has an operator or a type that is not known.
    """

    def __init__(self, path: Any, int16_tables: bool = False):
        self._int16_tables = int16_tables
        self.tables: Tables = read_tables(path)
        known = OPERATORS.keys() | MOVES.keys()
        unknown = {op.name for op in self.tables.ops} - known
        if unknown:
            raise ValueError(f"'{path}' has {', '.join(sorted(unknown))}, not known")
        tensors = self.tables.tensors
        self.outputs = {name: tensors[i] for name, i in self.tables.outputs.items()}
        self.constants = {
            i: tensor.real(tensor.stored)
            for i, tensor in enumerate(tensors)
            if tensor.stored is not None
        }

    def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Run images (N, H, W, C), as the file takes them; return {name: float64
        (N, ...)}, N a multiple of the file's batch."""
        (start,) = self.tables.inputs
        tensor, found = self.tables.tensors[start], []
        for part in np.split(images, len(images) // tensor.shape[0]):
            found.append(self._run(start, tensor.rounded(part.astype("float64"))))
        return {name: np.concatenate([f[name] for f in found]) for name in self.outputs}

    def _run(self, start, images):
        values = {**self.constants, start: images}
        for op in self.tables.ops:
            given = [None if i < 0 else values[i] for i in op.inputs]
            values.update(zip(op.outputs, self.results(op, given), strict=True))
        return {name: values[i] for name, i in self.tables.outputs.items()}

    def results(self, op: Op, given: list) -> list[np.ndarray]:
        """What the outputs of one operator hold, for real values of its inputs."""
        tensors = self.tables.tensors
        if _rounds_at_run_time(op, tensors):
            given = [_rounded_rows(*given[:2]), *given[1:]]
        entry, outs = tensors[op.inputs[0]], [tensors[i] for i in op.outputs]
        if self._int16_tables and op.name in TABLED and entry.kind == "INT16":
            function = TABLED[op.name](op)
            return [int16_table(function, given[0], entry, outs[0])]
        function = OPERATORS.get(op.name) or MOVES[op.name]
        with np.errstate(all="ignore"):  # masks of -inf, and what is not selected
            found = function(op, [out.shape for out in outs], *given)
        pairs = zip(outs, found, strict=True)
        return [_held(out, fused(op.activation, result)) for out, result in pairs]


TABLED = {  # of int16 values; all are functions of one number
    "RSQRT": lambda op: _safe_rsqrt,
    "GELU": lambda op: lambda x: OPERATORS["GELU"](op, (), x)[0],
    "EXP": lambda op: np.exp,
}


def _safe_rsqrt(x):
    return 1 / np.sqrt(np.maximum(x, 1e-30))


def int16_table(function, values, entry: Tensor, out: Tensor):
    """A function as LiteRT computes it for int16: 513 points over the whole range of
    the input, each moved by half the error between it and the next, and straight lines
    between them. Where the function is steep, near zero for RSQRT, that is coarse."""
    ends = entry.real(np.array([-32768, 32767]))
    step = (ends[1] - ends[0]) / 512
    points = ends[0] + step * np.arange(513)
    with np.errstate(all="ignore"):
        exact, between = (function(x) / out.scale for x in (points, points + step / 2))
        held = rounded_away(exact)
        middle = rounded_away((np.roll(exact, -1) + held) / 2)
        table = held - rounded_away((middle - rounded_away(between)) / 2)
    table[-1] = held[-1]
    table = np.clip(table, -32768, 32767)
    stored = entry.store(values).astype(int)
    place, rest = 256 + (stored >> 7), stored & 127
    slope = table[place + 1] - table[place]
    return out.real(table[place] + (slope * rest + 64) // 128)


def _held(tensor: Tensor, values):
    """What a tensor holds of values; float tensors keep float64."""
    if tensor.kind in ("FLOAT32", "FLOAT64"):
        return np.asarray(values, "float64")
    return tensor.rounded(np.asarray(values))


def _rounds_at_run_time(op, tensors) -> bool:
    """Whether an operator has float activations and integer weights."""
    if op.name not in PRODUCTS or tensors[op.inputs[0]].kind != "FLOAT32":
        return False
    return tensors[op.inputs[1]].kind in ("INT8", "INT4")


def _rounded_rows(x, kernel):
    """Activations as LiteRT's dynamic kernels round them: in 255 steps from the least
    value to the largest, of zero too, of each row. A convolution of one pixel is a
    product of rows; of several it rounds whole images."""
    windows = kernel.ndim == 4 and kernel.shape[1:3] != (1, 1)
    axes = tuple(range(1, x.ndim)) if windows else (-1,)
    low = np.minimum(x.min(axes, keepdims=True), 0)
    high = np.maximum(x.max(axes, keepdims=True), 0)
    scale = np.where(high > low, (high - low) / 255, 1.0)
    zero = np.round(-128 - low / scale)
    return (np.clip(np.round(x / scale) + zero, -128, 127) - zero) * scale


def names_of_operators(path: Any) -> dict[str, int]:
    """How many of each operator a file has, by name."""
    names = [op.name for op in read_tables(path).ops]
    return {name: names.count(name) for name in sorted(set(names))}


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far two readings of an output are apart.

    Attributes:
        sqnr_db: of the second against the first, without the mean over all values.
        steps: the largest difference in steps of an integer output; of floats, NaN.
    """

    sqnr_db: float
    steps: float


def agreement(first: np.ndarray, second: np.ndarray, tensor: Tensor) -> Agreement:
    """Compare two readings of an output, both real values (N, ...)."""
    error = np.asarray(second, "float64") - np.asarray(first, "float64")
    signal = np.sum((first - np.mean(first, dtype="float64")) ** 2, dtype="float64")
    noise = np.sum(error**2)
    sqnr = np.inf if noise == 0 else 10 * np.log10(max(signal, 1e-30) / noise)
    steps = float("nan")
    if tensor.scale is not None:
        steps = float(np.abs(error / tensor.scale).max())
    return Agreement(float(sqnr), steps)

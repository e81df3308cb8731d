"""Mixed precision: the fewest parts of an int8 file that fall back to higher precision.

First the error of each part is estimated with all others in float
(`part_sensitivity.py`). The parts are sorted by it, and the shortest prefix that meets
the budget is searched on files. Errors of parts add up nearly independently: their sum
says where to begin. (Compare HAWQ, arXiv 1905.03696, which orders by curvature.)
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ..evaluation.interpreter import open_preserving, operators_of, short_name
from ..flatbuffer.op_versions import VERSIONS
from ..flatbuffer.quantizer_fixes import OP_ALIASES
from ..plan import OpOverride
from ..progress import stage
from .calibration import SAME_SCALE
from .post_training import output_pattern


@dataclasses.dataclass(frozen=True)
class Part:
    """Operators that fall back together.

    Attributes:
        name: scope of the operators, such as "encoderblock_3/attention".
        operators: (operator, name of its output) pairs.
        macs: fraction of the file's multiply-adds.
        values: fraction of all values that the file computes.
    """

    name: str
    operators: tuple[tuple[str, str], ...]
    macs: float = 0.0
    values: float = 0.0

    def overrides(self, activations: str) -> list[OpOverride]:
        """Return overrides that compute these operators in a precision."""
        return [
            OpOverride(operator, output_pattern(output), activations)
            for operator, output in self.operators
        ]


@dataclasses.dataclass(frozen=True)
class MixedPrecision:
    """The parts that fell back, and the measurements behind the choice.

    Attributes:
        demand: the budget, in words.
        unit: of the measured values, "dB" or "points".
        precision: of these parts, "int16" or "float32".
        parts: their names, the most sensitive first.
        total: number of all parts.
        cost: additional `bytes`, and the fractions of all multiply-adds (`macs`) and
            computed values (`values`) in higher precision.
        sensitivity: part -> SQNR in dB of the output if only this part is int8.
        curve: (number of parts in higher precision, measured value) per file that was
            measured on all images.
    """

    demand: str
    unit: str
    precision: str
    parts: tuple[str, ...]
    total: int
    cost: dict[str, float]
    sensitivity: dict[str, float]
    curve: tuple[tuple[int, float], ...]

    def __str__(self):
        count, cost = f"{len(self.parts)} of {self.total} parts", self.cost
        if not self.parts:
            return f"all {self.total} parts in int8, which has {self.demand}"
        return (
            f"{count} in {self.precision} for {self.demand}; {cost['macs']:.0%} of the "
            f"multiply-adds, {cost['values']:.0%} of the values, "
            f"{cost['bytes'] / 1e3:+.0f} kB: {', '.join(self.parts)}"
        )


def find_parts(path, precision: str, operators=None) -> list[Part]:
    """Return the parts of a float file that can fall back.

    Arguments:
        path: a float32 `.tflite` file.
        precision: "int16" or "float32".
        operators: those that support it; None for all.
    """
    interpreter, _, tensors = open_preserving(path)
    inputs = {interpreter.get_input_details()[0]["index"]}
    found: dict[str, list] = {}
    rows = operators_of(interpreter)
    shapes = {t["index"]: t["shape"] for t in interpreter.get_tensor_details()}
    work = np.array([_work(op, shapes) for op in rows])
    work = work / np.maximum(work.sum(0), 1)
    last = {end["index"] for end in interpreter.get_output_details()}
    for op in reversed(rows):  # operators that only move an output share its dtype
        if last & set(op["outputs"]) and op["op_name"] in SAME_SCALE:
            last.add(op["inputs"][0])
    for op, shares in zip(rows, work, strict=True):
        kind, output = op["op_name"], op["outputs"][0]
        # Input and output of the file have fixed dtypes.
        fixed = output in last or inputs & set(op["inputs"])
        unable = operators is not None and kind not in operators
        if precision == "int16":
            known = "INT16" in VERSIONS.get(kind, ())
            unable = unable or not known or kind in OP_ALIASES
        if fixed or unable or output not in tensors:
            continue
        name = tensors[output]["name"]
        found.setdefault(_scope(name), []).append((kind, name, shares))
    return [
        Part(name, tuple(op[:2] for op in group), *np.sum([op[2] for op in group], 0))
        for name, group in found.items()
    ]


def _scope(name):
    """Return the part of the model that a tensor is in: block and kind of layer."""
    scopes = short_name(name).split("/")[:-1]
    if len(scopes) == 1 and scopes[0].startswith("encoderblock_"):
        return f"{scopes[0]}/residual"
    return "/".join(scopes[:2]) or "whole"


def _work(op, shapes):
    """Return (multiply-adds, computed values) of an operator."""
    inputs, values = op["inputs"], int(np.prod(shapes[op["outputs"][0]]))
    if op["op_name"] == "BATCH_MATMUL":
        return values * int(shapes[inputs[0]][-1]), values
    if op["op_name"] in ("FULLY_CONNECTED", "CONV_2D"):
        return values * int(np.prod(shapes[inputs[1]][1:])), values
    return 0, values


def fewest_parts(
    order: Sequence[Part],
    measure: Callable[[Sequence[Part]], float],
    is_enough: Callable[[float], bool],
    first: int = 1,
) -> tuple[Sequence[Part], dict[int, float]]:
    """Find a short prefix of the parts to fall back, by doubling steps and bisection.

    Arguments:
        order: the parts, the most sensitive first; no fallback is known to fail.
        measure: writes the file with these parts in higher precision and measures it.
        is_enough: whether a measured value meets the budget.
        first: the number of parts to try first.

    Returns:
        The parts, and the measured values: number of parts -> value. If nothing is
        enough, all parts.
    """
    tried: dict[int, float] = {}

    def good(count):
        stage(f"trying {count} of {len(order)} parts in higher precision")
        tried[count] = measure(order[:count])
        return is_enough(tried[count])

    low, high, step = 0, first, 1  # the least sufficient number is in (low, high]
    if good(high):
        while high - step > low and good(high - step):
            high, step = high - step, 2 * step
        low = max(low, high - step)
    else:
        enough = False
        while not enough:
            if high == len(order):
                return order, tried
            low, high, step = high, min(high + step, len(order)), 2 * step
            enough = good(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return order[:high], tried


def foreseen_parts(order: Sequence[Part], errors, value, wanted: float) -> int:
    """Foresee how many parts must fall back, from their noise powers.

    Arguments:
        order: the parts, the most sensitive first.
        errors: part -> SQNR in dB if only this part is int8.
        value: SQNR in dB with all parts in int8.
        wanted: SQNR in dB, higher.

    Returns:
        A number from 1 to that of all parts.
    """
    powers = np.array([10 ** (-errors[part.name] / 10) for part in order])
    left = powers.sum() - np.cumsum(powers)
    enough = np.nonzero(left < powers.sum() * 10 ** ((value - wanted) / 10))[0]
    return int(enough[0]) + 1 if len(enough) else len(order)


def without_infinite(errors) -> dict[str, float]:
    """Return errors for JSON, without infinite ones (parts without any error)."""
    return {k: round(v, 2) for k, v in errors.items() if np.isfinite(v)}

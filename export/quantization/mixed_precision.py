"""Mixed precision: the fewest parts of an int8 file in more bits that meet a demand.

First the error that each part makes alone: everything else in float. The parts are then
raised in this order, and a list that meets the demand while half of it does not is
searched with real files, as short as bisection finds it. Errors of parts add up nearly
independently, so this order is the best there is without trying all subsets (compare
HAWQ, arXiv 1905.03696, which orders by curvature).
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from ..evaluation.runners import load
from ..evaluation.tensor_errors import open_preserving, short_name
from ..evaluation.verify import compare
from ..flatbuffer.quantizer_fixes import STAND_INS
from ..progress import stage
from .calibration import SAME_SCALE
from .post_training import Rule, only, static

BITS = {"int16": 16, "float32": 32}
IMAGES = 16  # for the order; the demand is measured on all


@dataclasses.dataclass(frozen=True)
class Part:
    """Operators that are raised together.

    Attributes:
        name: of the scope they are in, such as "encoderblock_3/attention".
        operators: (operator, name of its output) each.
        macs: share of the file's multiply-adds that they do.
        values: share of the values that its operators compute.
    """

    name: str
    operators: tuple[tuple[str, str], ...]
    macs: float = 0.0
    values: float = 0.0

    def rules(self, bits) -> list[Rule]:
        """That compute these operators with this many bits."""
        return [
            Rule(operator, f"^{re.escape(output)};?$", activations=bits)
            for operator, output in self.operators
        ]


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was raised, and why.

    Attributes:
        demand: in words.
        unit: of what was measured, "dB" or "points".
        precision: of the raised parts, "int16" or "float32".
        raised: names of the parts, the worst first.
        total: number of parts there are.
        cost: of raising them: `bytes` more, and the shares of all multiply-adds
            (`macs`) and computed values (`values`) that now have more bits.
        sensitivity: part -> SQNR in dB of the output if this part alone is int8.
        curve: (number of parts raised, what was measured) of every file tried.
    """

    demand: str
    unit: str
    precision: str
    raised: tuple[str, ...]
    total: int
    cost: dict[str, float]
    sensitivity: dict[str, float]
    curve: tuple[tuple[int, float], ...]

    def __str__(self):
        count, cost = f"{len(self.raised)} of {self.total} parts", self.cost
        if not self.raised:
            return f"{count} raised: int8 has {self.demand}"
        return (
            f"{count} in {self.precision} for {self.demand}; {cost['macs']:.0%} of the "
            f"multiply-adds, {cost['values']:.0%} of the values, "
            f"{cost['bytes'] / 1e3:+.0f} kB: {', '.join(self.raised)}"
        )


def parts(path, precision: str, kinds=None) -> list[Part]:
    """What can be raised in a float file.

    Arguments:
        path: a float32 `.tflite` file.
        precision: a key of `BITS`.
        kinds: operators that can be raised; None for all.
    """
    interpreter, _, tensors = open_preserving(path)
    ends = {interpreter.get_input_details()[0]["index"]}
    found: dict[str, list] = {}
    operators = interpreter._get_ops_details()
    shapes = {t["index"]: t["shape"] for t in interpreter.get_tensor_details()}
    work = np.array([_work(op, shapes) for op in operators])
    work = work / np.maximum(work.sum(0), 1)
    last = {interpreter.get_output_details()[0]["index"]}
    for op in reversed(operators):  # what moves the output has its type
        if last & set(op["outputs"]) and op["op_name"] in SAME_SCALE:
            last |= {int(op["inputs"][0])}
    for op, shares in zip(operators, work, strict=True):
        kind, output = op["op_name"], int(op["outputs"][0])
        # Both ends of the file have types of their own.
        fixed = output in last or ends & set(map(int, op["inputs"]))
        unable = kinds is not None and kind not in kinds
        if precision == "int16":
            unable = unable or kind in STAND_INS
        if fixed or unable or output not in tensors:
            continue
        name = tensors[output]["name"]
        found.setdefault(_scope(name), []).append((kind, name, shares))
    return [
        Part(name, tuple(op[:2] for op in held), *np.sum([op[2] for op in held], 0))
        for name, held in found.items()
    ]


def _scope(name):
    """Part of the model that a tensor is in: block and kind of layer."""
    scopes = short_name(name).split("/")[:-1]
    if len(scopes) == 1 and scopes[0].startswith("encoderblock_"):
        return f"{scopes[0]}/residual"
    return "/".join(scopes[:2]) or "whole"


def _work(op, shapes):
    """(multiply-adds, values computed) of an operator."""
    inputs, values = op["inputs"], int(np.prod(shapes[int(op["outputs"][0])]))
    if op["op_name"] == "BATCH_MATMUL":
        return values * int(shapes[int(inputs[0])][-1]), values
    if op["op_name"] in ("FULLY_CONNECTED", "CONV_2D"):
        return values * int(np.prod(shapes[int(inputs[1])][1:])), values
    return 0, values


def sensitivity(path, ranges, images, candidates: Sequence[Part]) -> dict[str, float]:
    """SQNR in dB of the output with one part in int8 and everything else in float.

    Arguments:
        path: the float32 `.tflite` file.
        ranges: of its tensors.
        images: (N, H, W, C).
        candidates: the parts.
    """
    images, found = images[:IMAGES], {}
    reference = load(path)(images)
    alone = pathlib.Path(path).with_name("alone.tflite")
    for number, part in enumerate(candidates, 1):
        stage(f"sensitivity of part {number} of {len(candidates)}")
        rules = [*only(()), *part.rules(8)]
        alone.write_bytes(static(path, ranges, "float32", "float32", rules))
        found[part.name] = compare(reference, load(alone)(images)).sqnr_db
    alone.unlink(missing_ok=True)
    return found


def fewest(
    order: Sequence[Part],
    measure: Callable[[Sequence[Part]], float],
    enough: Callable[[float], bool],
) -> tuple[Sequence[Part], dict[int, float]]:
    """A short list of parts to raise: doubled until it is enough, then halved back.

    Arguments:
        order: the parts, the worst first; none raised is known not to be enough.
        measure: writes the file with these parts raised and says how good it is.
        enough: whether that meets the demand.

    Returns:
        The parts, and what was measured: number raised -> value. If nothing is enough,
        all parts.
    """
    tried: dict[int, float] = {}

    def good(count):
        stage(f"trying {count} of {len(order)} parts raised")
        tried[count] = measure(order[:count])
        return enough(tried[count])

    low, high = 0, 1  # the least number that is enough is in (low, high]
    while not good(high):
        if high == len(order):
            return order, tried
        low, high = high, min(2 * high, len(order))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return order[:high], tried


def finite(errors):
    """For JSON, which has no infinity: a part without any error is left out."""
    return {k: round(v, 2) for k, v in errors.items() if np.isfinite(v)}

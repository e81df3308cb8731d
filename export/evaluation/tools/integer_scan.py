"""Checker for integer-only targets: every tensor must be an integer."""

import collections

from .result import CheckResult, UnsupportedOp

FIX = "export with scheme='int8' and target='npu'"


def check_integers(path, found, name) -> CheckResult:
    """Check that a file has no float arithmetic or conversions inside."""
    return CheckResult("scan of operators and types", float_islands(found))


def float_islands(found) -> tuple[UnsupportedOp, ...]:
    """Return operators inside an integer file that compute in float or convert.

    The first operator may quantise the input, the last ones dequantise the outputs.
    """
    inside = list(found)
    if inside and inside[0].name == "QUANTIZE":
        inside = inside[1:]
    while inside and inside[-1].name in ("DEQUANTIZE", "QUANTIZE"):
        inside.pop()
    counts = collections.Counter()
    for op in inside:
        floats = [t for t in (*op.inputs, *op.outputs) if t.startswith("FLOAT")]
        # QUANTIZE between int8 and int16 is integer arithmetic, too.
        converts = op.name == "DEQUANTIZE" or op.name == "QUANTIZE" and floats
        if floats or converts:
            kinds = f"{', '.join(op.inputs)} -> {', '.join(op.outputs)}"
            counts[op.name, kinds] += 1
    return tuple(
        UnsupportedOp(operator, count, f"{kinds} is not integer arithmetic", FIX)
        for (operator, kinds), count in counts.items()
    )


def float_note(found) -> tuple[str, ...]:
    """What the user should know of a file that is to compute with integers.

    An offset that is added to the outputs at the end is meant to be in float.

    Returns:
        One line, or none if it does.
    """
    found = list(found)
    while found and (
        found[-1].name in ("DEQUANTIZE", "QUANTIZE")
        or (found[-1].name == "ADD" and found[-1].outputs == ("FLOAT32",))
    ):
        found.pop()
    counts = collections.Counter()
    for island in float_islands(found):
        counts[island.operator] += island.count
    names = [
        f"{name} x{count}"
        for name, count in counts.items()
        if name not in ("QUANTIZE", "DEQUANTIZE")
    ]
    if not names:
        return ()
    return (
        f"stays in float: {', '.join(names)} (litert-quantizer has no integer kernel)",
    )

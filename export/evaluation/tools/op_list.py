"""Checker for accelerators whose compiler is not here, by published lists."""

import collections

from .result import BY_LIST, CheckResult, UnsupportedOp
from .vendor_ops import OP_LISTS

FIX = "export with target='{}'"


def check_op_list(path, found, name) -> CheckResult:
    """Check the operators by a published list; the compiler may refuse listed ones."""
    known = OP_LISTS[name]
    counts = collections.Counter(op.name for op in found)
    unsupported = [
        UnsupportedOp(operator, count, "not in the published list")
        for operator, count in counts.items()
        if operator not in known.operators
    ]
    refuted = collections.Counter(
        (op.name, op.inputs[0]) for op in found if op.inputs[:1]
    )
    unsupported += [
        UnsupportedOp(key[0], refuted[key], reason, FIX.format(name))
        for key, reason in known.refuted.items()
        if key in refuted
    ]
    types = collections.Counter(
        op.outputs[0]
        for op in found
        if op.outputs and op.outputs[0] not in (*known.dtypes, "INT32", "BOOL")
    )
    unsupported += [
        UnsupportedOp(
            "", 0, f"{count} tensors are {dtype}, but must be of {known.dtypes}"
        )
        for dtype, count in types.items()
    ]
    tool = f"{BY_LIST} of {known.date}, not by compiler: {known.source}"
    return CheckResult(tool, tuple(unsupported), {"notes": known.notes})

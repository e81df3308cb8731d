"""Accelerators whose compiler needs a vendor's account: their published lists."""

import collections

from .result import Refusal, Verdict
from .vendor_ops import OP_LISTS


def judge(path, found, name) -> Verdict:
    """By list, not by compiler: it promises nothing."""
    known = OP_LISTS[name]
    counts = collections.Counter(op.name for op in found)
    refusals = [
        Refusal(operator, count, "not in the published list")
        for operator, count in counts.items()
        if operator not in known.operators
    ]
    types = collections.Counter(
        op.outputs[0]
        for op in found
        if op.outputs and op.outputs[0] not in (*known.dtypes, "INT32", "BOOL")
    )
    refusals += [
        Refusal("", 0, f"{count} tensors are {dtype}, where it takes {known.dtypes}")
        for dtype, count in types.items()
    ]
    tool = f"by list of {known.date}, not by compiler: {known.source}"
    return Verdict(tool, tuple(refusals), {"notes": known.notes})

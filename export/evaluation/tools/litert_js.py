"""Checker for LiteRT.js: float32 and int32 tensors and fixed shapes only."""

from .. import runners
from .result import CheckResult, UnsupportedOp

TYPES = ("float32", "int32")
FIX = "export with target='web'"
RULES = "rules of @litertjs/core 2.5.3"


def check_litert_js(path, found, name) -> CheckResult:
    """Check the rules of @litertjs/core 2.5; it supports every builtin operator."""
    runner = runners.TFLiteRunner(path)
    dtypes = {"input": runner.input_dtype, **runner.output_dtypes}
    unsupported = tuple(
        UnsupportedOp(
            "", 0, f"{name} is {dtype}, but must be {' or '.join(TYPES)}", FIX
        )
        for name, dtype in dtypes.items()
        if dtype not in TYPES
    )
    return CheckResult(RULES, unsupported)

"""LiteRT.js: its tensors hold float32 and int32 only, and its shapes are fixed."""

from .. import runners
from .result import Refusal, Verdict

TYPES = ("float32", "int32")
CURE = "export with target='web'"


def judge(path, found, name) -> Verdict:
    """Rules of @litertjs/core 2.5; WebAssembly holds every builtin operator."""
    runner = runners.TFLiteRunner(path)
    ends = {"input": runner.input_dtype, "output": runner.output_dtype}
    refusals = tuple(
        Refusal("", 0, f"{end} is {dtype}, where it takes {' and '.join(TYPES)}", CURE)
        for end, dtype in ends.items()
        if dtype not in TYPES
    )
    return Verdict("rules of @litertjs/core 2.5.3", refusals)

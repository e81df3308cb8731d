"""Checker for LiteRT for Microcontrollers, whose interpreter runs the file here."""

import importlib.metadata
import os
import pathlib
import re
import sys

from ...child_process import answer, run_check
from ...errors import missing
from .. import runners
from .result import CheckResult, UnsupportedOp
from .second_runtime import differences, litert_outputs, samples, stacked, too_far

# Against LiteRT's reference kernels, with nearly the same arithmetic; XNNPACK rounds
# products of int8 differently. It adds up over the blocks: 7 of 255 steps over 6.
LIMITS = {"of the range": 1e-4, "LSB": 10}
FIX = "export with target='micro'"


def check_micro(path, found, name) -> CheckResult:
    """Compare the outputs with LiteRT on random pixels, and measure the arena."""
    try:
        version = importlib.metadata.version("tflite-micro")
    except importlib.metadata.PackageNotFoundError as error:
        raise missing("tflite-micro", "edge") from error
    said, stderr = run_check(f"{__name__}:run_micro", pathlib.Path(path).resolve())
    tool = f"tflite-micro {version}"
    if not said:
        return CheckResult(tool, (micro_unsupported(stderr, found),))
    unsupported, facts = too_far(said["apart"], LIMITS, found)
    facts["arena_bytes"] = said["arena"]
    return CheckResult(tool, unsupported, facts)


def micro_unsupported(text, found) -> UnsupportedOp:
    """Return the operator and reason that stopped the interpreter."""
    for pattern, reason in (
        (r"Didn't find op for builtin opcode '(\w+)'", "there is no such kernel"),
        (r"Node (\w+) \(number \d+\) failed to prepare", "no kernel for these types"),
    ):
        if match := re.search(pattern, text):
            operator = match[1]
            count = sum(op.name == operator for op in found)
            return UnsupportedOp(operator, count, reason, FIX)
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return UnsupportedOp(
        "", 0, f"it stops: {lines[-1] if lines else 'without a message'}", FIX
    )


def run_micro(path):
    """Run both interpreters and answer; called in the child process."""
    from ai_edge_litert.interpreter import OpResolverType
    from tflite_micro.python.tflite_micro import runtime

    runner = runners.TFLiteRunner(path)
    inputs, number = samples(runner), len(runner.output_shapes)
    arena = 4 * pathlib.Path(path).stat().st_size + 64_000_000
    interpreter, results = runtime.Interpreter.from_file(path, arena_size=arena), []
    for one in inputs:
        interpreter.set_input(one, 0)
        interpreter.invoke()
        results.append([interpreter.get_output(i) for i in range(number)])
    reference = {"experimental_op_resolver_type": OpResolverType.BUILTIN_REF}
    expected = litert_outputs(path, inputs, **reference)

    def allocates(size):
        if (child := os.fork()) == 0:  # it may abort instead of raising an error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
            try:
                runtime.Interpreter.from_file(path, arena_size=size)
            except RuntimeError:
                os._exit(1)
            os._exit(0)
        return os.waitpid(child, 0)[1] == 0

    needed = smallest_size(allocates, arena)
    answer(apart=differences(expected, stacked(results)), arena=needed)


def smallest_size(suffices, most: int) -> int:
    """Bytes that suffice, a multiple of 16 at most 1 % above the fewest.

    What the interpreter says that it uses is less: planning takes memory for a while.

    Arguments:
        suffices: function of a number of bytes.
        most: a number that does.
    """
    low, high = 0, 16384
    while high < most and not suffices(high):
        low, high = high, 2 * high
    high = min(high, most)
    while high - low > max(16, high // 100):
        middle = (low + high) // 32 * 16
        if suffices(middle):
            high = middle
        else:
            low = middle
    return high

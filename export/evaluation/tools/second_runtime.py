"""Comparison of another runtime with LiteRT, on the same inputs."""

import numpy as np

from ..interpreter import new_interpreter
from .result import UnsupportedOp

FLOAT_OF_INTEGERS = 0.1  # of the range: floats at the end of integers


def samples(runner, number=4):
    """Return random inputs of a file, (number, batch, H, W, C), in its own dtype."""
    draws = np.random.default_rng(0)
    shape, dtype = (number, *runner.input_shape), np.dtype(runner.input_dtype)
    if dtype.kind == "f":
        return draws.uniform(0, 255, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return draws.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def litert_outputs(path, inputs, **options):
    """Run LiteRT on inputs of the file's own dtype; return a list of each output's
    values as stored, (number, ...).

    `options` are those of LiteRT's interpreter.
    """
    interpreter, results = new_interpreter(path, **options), []
    ends = [end["index"] for end in interpreter.get_output_details()]
    for one in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], one)
        interpreter.invoke()
        results.append([interpreter.get_tensor(end) for end in ends])
    return stacked(results)


def stacked(results):
    """Return the outputs of several runs, [run][output], as a list of arrays."""
    return [np.stack(values) for values in zip(*results, strict=True)]


def differences(expected, received):
    """Return {unit: the largest difference} of outputs, lists of arrays: integer steps
    ("LSB"), or a fraction of an output's range of floats."""
    found = {}
    for values in zip(expected, received, strict=True):
        apart, unit = _difference(*values)
        found[unit] = max(apart, found.get(unit, 0.0))
    return found


def too_far(apart, limits, found, fix=""):
    """Return the result of a comparison.

    Arguments:
        apart: of `differences`.
        limits: {unit: the largest allowed difference}.
        found: the operators of the file.
        fix: how to avoid a difference.

    Returns:
        (problems, facts).
    """
    problems, facts = [], {}
    for unit, value in apart.items():
        limit = limits[unit]
        if unit == "of the range" and integers_inside(found):
            limit = FLOAT_OF_INTEGERS
        if not value <= limit:
            text = f"outputs differ from LiteRT's by {value:.2g} {unit}"
            problems.append(UnsupportedOp("", 0, text, fix))
        facts[f"difference ({unit})"] = float(f"{value:.2g}")
    return tuple(problems), facts


def _difference(expected, received):
    received = received.reshape(expected.shape)
    apart = np.abs(received.astype("float64") - expected.astype("float64")).max()
    if expected.dtype.kind == "f":
        return float(apart / max(np.ptp(expected), 1e-6)), "of the range"
    return float(apart), "LSB"


def integers_inside(found):
    """Return whether a file computes with integers, so that rounding may differ."""
    return any("INT8" in op.inputs or "INT16" in op.inputs for op in found)

"""Comparison of another runtime with LiteRT, on the same inputs."""

import numpy as np

from ..interpreter import new_interpreter


def samples(runner, number=4):
    """Return random inputs of a file, (number, batch, H, W, C), in its own dtype."""
    draws = np.random.default_rng(0)
    shape, dtype = (number, *runner.input_shape), np.dtype(runner.input_dtype)
    if dtype.kind == "f":
        return draws.uniform(0, 255, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return draws.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def litert_outputs(path, inputs, **options):
    """Run LiteRT on inputs of the file's own dtype; return outputs as stored.

    `options` are those of LiteRT's interpreter.
    """
    interpreter, results = new_interpreter(path, **options), []
    for one in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], one)
        interpreter.invoke()
        output = interpreter.get_output_details()[0]["index"]
        results.append(interpreter.get_tensor(output))
    return np.stack(results)


def difference(expected, received):
    """Return the largest difference: integer steps, or a fraction of the float range.

    Returns:
        (number, its unit).
    """
    apart = np.abs(received.astype("float64") - expected.astype("float64")).max()
    if expected.dtype.kind == "f":
        return float(apart / max(np.ptp(expected), 1e-6)), "of the range"
    return float(apart), "LSB"


def integers_inside(found):
    """Return whether a file computes with integers, so that rounding may differ."""
    return any("INT8" in op.inputs or "INT16" in op.inputs for op in found)

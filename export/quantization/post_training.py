"""Quantisation after training, by litert-quantizer.

Ranges come from `calibration`: the library's own calibration is a moving average, which
clips outliers and costs decibels.
"""

import contextlib
import dataclasses
import io
import logging
import os
import pathlib
import re
import warnings
from collections.abc import Iterable

import numpy as np

from ..errors import missing
from ..evaluation.interpreter import new_interpreter, open_preserving, operators_of
from ..flatbuffer.float_fixes import clip_masks
from ..flatbuffer.io_dtypes import set_io_dtypes
from ..flatbuffer.quantizer_fixes import (
    aliases_in,
    remove_idle_quantize,
    replace_operators,
    set_operator_versions,
)
from ..plan import OpOverride
from .calibration import symmetric

BITS = {"int4": 4, "int8": 8, "int16": 16}
INT4_OPERATORS = ("FULLY_CONNECTED",)  # int8 with int4 weights in LiteRT


def _library():
    try:
        from litert_quantizer import algorithm_manager, qtyping, quantizer, recipe
    except ImportError as error:
        raise missing("litert-quantizer") from error
    operators = qtyping.TFLOperationName
    skip = algorithm_manager.AlgorithmName.NO_QUANTIZE
    return quantizer.Quantizer, recipe, operators, skip


@contextlib.contextmanager
def _quiet():
    """Silence the library: it prints its progress, and warns of its own calibration and
    of every recipe entry that a later one overrides."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.setLevel(level)


def quantize_weights(path, recipe_name) -> bytes:
    """Quantise weights only; activations are float, or dynamic with per-token ranges.

    Arguments:
        path: a float32 `.tflite` file.
        recipe_name: of litert-quantizer.

    Returns:
        The quantised file, as bytes.

    Raises:
        ValueError: a layer's inputs are no multiple of the recipe's block size.
    """
    new_quantizer, recipe, operators, skip = _library()
    quantizer = new_quantizer(os.fspath(path), getattr(recipe, recipe_name)())
    # Attention products have no weights; a constant operand, such as the probe of
    # attention pooling, stays float, since there is no kernel for a mixed product.
    quantizer.update_quantization_recipe(
        regex=".*", operation_name=operators.BATCH_MATMUL, algorithm_key=skip
    )
    try:
        with _quiet():
            content = bytes(quantizer.quantize().quantized_model)
    except ValueError as error:
        if "divisible by block size" not in str(error):
            raise
        raise ValueError(
            "`scheme` with weights in blocks needs layers whose inputs are a multiple "
            f"of the block. {error}"
        ) from error
    return set_operator_versions(remove_idle_quantize(content))


def output_pattern(tensor_name) -> str:
    """Return the regular expression of an output for litert-quantizer's recipes."""
    return f"^{re.escape(tensor_name)};?$"


def score_overrides(path) -> list[OpOverride]:
    """Return overrides for int8 attention scores in an otherwise float file.

    XNNPACK supports a product of two int8 tensors if the right one has zero point 0.

    Arguments:
        path: a float32 `.tflite` file.
    """
    interpreter, _, tensors = open_preserving(path)
    found = operators_of(interpreter)
    read = {op["inputs"][0] for op in found if op["op_name"] == "SOFTMAX"}
    made = {output for op in found for output in op["outputs"]}
    return [
        OpOverride(
            "BATCH_MATMUL",
            output_pattern(tensors[op["outputs"][0]]["name"]),
            symmetric_rhs=True,
        )
        for op in found
        if op["op_name"] == "BATCH_MATMUL"
        and op["outputs"][0] in read
        and made.issuperset(op["inputs"])  # no constant
    ]


def quantize_static(
    path, ranges, input_dtype, output_dtype, overrides: Iterable[OpOverride] = ()
) -> bytes:
    """Quantise weights and activations to int8: integers from input to output.

    Arguments:
        path: a float32 `.tflite` file with a float32 input.
        ranges: tensor name -> (min, max), from `calibration.measure_ranges`.
        input_dtype, output_dtype: "uint8", "int8" or "float32"; of several outputs
            {name: dtype}.
        overrides: for operators that differ; the last match wins.

    Returns:
        The quantised file, as bytes.
    """
    new_quantizer, recipe, _, _ = _library()
    overrides, content = list(overrides), pathlib.Path(path).read_bytes()
    content = clip_masks(content, ranges)
    aliases = aliases_in(content)
    aliased = replace_operators(content, aliases)
    with _quiet():
        quantizer = new_quantizer(bytearray(aliased), recipe.static_wi8_ai8())
        _add_overrides(quantizer, overrides, aliases)
        # One run on a grey image, only for names and shapes.
        signature, entry, shape = _signature(path)
        grey = np.full(shape, 127, "float32")
        statistics = quantizer.calibrate({signature: [{entry: grey}]})
        ranges = _with_symmetric(path, ranges, overrides)
        for name, values in statistics.items():
            if "min" in values and name in ranges:  # else truth values
                low, high = ranges[name]
                values["min"] = np.full_like(values["min"], low)
                values["max"] = np.full_like(values["max"], high)
        content = bytes(quantizer.quantize(statistics).quantized_model)
    originals = {alias: name for name, alias in aliases.items()}
    content = replace_operators(remove_idle_quantize(content), originals, version=2)
    return set_operator_versions(set_io_dtypes(content, input_dtype, output_dtype))


def _add_overrides(quantizer, overrides, aliases):
    """Add overrides to a recipe, and keep input and output in float: `set_io_dtypes`
    changes them last."""
    from litert_quantizer import qtyping

    _, _, operators, skip = _library()
    for row in _one_scale(overrides):
        operator = operators[aliases.get(row.operator, row.operator)]
        if row.activations == "float32":
            quantizer.update_quantization_recipe(
                regex=row.outputs, operation_name=operator, algorithm_key=skip
            )
        elif row.activations == "dynamic":
            quantizer.add_dynamic_config(row.outputs, operator, BITS[row.weights])
        else:
            quantizer.add_static_config(
                row.outputs,
                operator,
                BITS[row.activations],
                BITS[row.weights],
                qtyping.QuantGranularity(row.granularity),
            )
    for end in (operators.INPUT, operators.OUTPUT):
        quantizer.update_quantization_recipe(
            regex=".*", operation_name=end, algorithm_key=skip
        )


def _with_symmetric(path, ranges, overrides):
    """Return ranges that give right operands zero point 0."""
    patterns = [row.outputs for row in overrides if row.symmetric_rhs]
    if not patterns:
        return ranges
    interpreter, _, tensors = open_preserving(path)
    ranges, names = dict(ranges), {i: t["name"] for i, t in tensors.items()}
    for op in operators_of(interpreter):
        output = names.get(op["outputs"][0], "")
        if any(re.search(pattern, output) for pattern in patterns):
            right = names[op["inputs"][1]]
            ranges[right] = symmetric(ranges[right])
    return ranges


def _one_scale(overrides):
    """Return overrides with per-tensor scales for products of two activations, even if
    one is constant: LiteRT's kernel reads only the first scale."""
    yield OpOverride("BATCH_MATMUL", granularity="TENSORWISE")
    for row in overrides:
        yield row
        products = row.operator in ("BATCH_MATMUL", "ALL_SUPPORTED")
        if products and row.activations != "float32":
            yield dataclasses.replace(
                row, operator="BATCH_MATMUL", granularity="TENSORWISE"
            )


def _signature(path):
    """Return the names of the signature and its input, and the input's shape."""
    interpreter = new_interpreter(path)
    ((name, ends),) = interpreter.get_signature_list().items()
    shape = interpreter.get_input_details()[0]["shape"]
    return name, ends["inputs"][0], tuple(int(n) for n in shape)

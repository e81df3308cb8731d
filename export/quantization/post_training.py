"""Quantisation after training, by litert-quantizer.

Our part is the ranges: the library's own calibration is a moving average, which loses
outliers and decibels.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import re
import warnings

import numpy as np

from ..errors import missing
from ..evaluation.tensor_errors import open_preserving
from ..flatbuffer.io_dtypes import set_ends
from ..flatbuffer.quantizer_fixes import STAND_INS, complete, swap, tidy


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
    """The library prints its progress, and warns of its own way to calibrate."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)
        yield


def weights_only(path, recipe_name) -> bytes:
    """Quantised weights; activations in float, or quantised row by row at run time.

    Arguments:
        path: a float32 `.tflite` file.
        recipe_name: of litert-quantizer.

    Returns:
        The quantised file.

    Raises:
        ValueError: a layer can not be divided into the recipe's blocks.
    """
    new_quantizer, recipe, operators, skip = _library()
    quantizer = new_quantizer(os.fspath(path), getattr(recipe, recipe_name)())
    # Attention has no weights; a constant operand, such as the probe of attention
    # pooling, must stay float, since there is no kernel for a mixed product.
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
    return complete(tidy(content))


@dataclasses.dataclass(frozen=True)
class Rule:
    """How some operators are computed where it is not all in int8.

    Arguments:
        operator: its name; "ALL_SUPPORTED" for every one.
        outputs: regular expression of the names of the outputs.
        activations: bits, 8 or 16; 32 leaves the operator in float; 0 gives it floats,
            which it quantises row by row as it runs.
        weights: bits, 8 or 4.
        granularity: "CHANNELWISE" or "TENSORWISE", what has a scale of the weights.
        centred: the zero point of the right operand is 0.
    """

    operator: str
    outputs: str = ".*"
    activations: int = 8
    weights: int = 8
    granularity: str = "CHANNELWISE"
    centred: bool = False


def only(operators) -> list[Rule]:
    """Rules that leave all others in float."""
    return [Rule("ALL_SUPPORTED", activations=32), *map(Rule, operators)]


def by_row(path, operators) -> list[Rule]:
    """Rules for files with floats between the operators, for CPUs: these quantise their
    inputs as they run; of the others only the scores of attention are in int8.

    XNNPACK takes a product of two int8 tensors if the zero point of the right one is 0.

    Arguments:
        path: a float32 `.tflite` file.
        operators: names of those with weights.
    """
    interpreter, _, tensors = open_preserving(path)
    found = interpreter._get_ops_details()
    read = {int(op["inputs"][0]) for op in found if op["op_name"] == "SOFTMAX"}
    made = {int(output) for op in found for output in op["outputs"]}
    scores = [
        f"^{re.escape(tensors[int(op['outputs'][0])]['name'])};?$"
        for op in found
        if op["op_name"] == "BATCH_MATMUL"
        and int(op["outputs"][0]) in read
        and made.issuperset(map(int, op["inputs"]))  # no constant
    ]
    return [
        Rule("ALL_SUPPORTED", activations=32),
        *(Rule(name, activations=0) for name in operators),
        *(Rule("BATCH_MATMUL", name, centred=True) for name in scores),
    ]


def static(path, ranges, input_dtype, output_dtype, rules=()) -> bytes:
    """int8 weights, int8 activations: integers from input to output.

    Arguments:
        path: a float32 `.tflite` file with a float32 input.
        ranges: tensor name -> (min, max), from `calibration.measure_ranges`.
        input_dtype, output_dtype: "uint8", "int8" or "float32".
        rules: for operators that differ, a `Rule` each; later ones prevail.

    Returns:
        The quantised file.
    """
    new_quantizer, recipe, operators, skip = _library()
    from litert_quantizer import qtyping

    known = swap(pathlib.Path(path).read_bytes(), STAND_INS)
    quantizer = new_quantizer(bytearray(known), recipe.static_wi8_ai8())
    for rule in _one_scale(rules):
        operator = operators[STAND_INS.get(rule.operator, rule.operator)]
        if rule.activations == 32:
            quantizer.update_quantization_recipe(
                regex=rule.outputs, operation_name=operator, algorithm_key=skip
            )
        elif rule.activations == 0:
            quantizer.add_dynamic_config(rule.outputs, operator, rule.weights)
        else:
            quantizer.add_static_config(
                *(rule.outputs, operator, rule.activations, rule.weights),
                qtyping.QuantGranularity(rule.granularity),
            )
    # Float at both ends, so that the last step can give each end the wanted type.
    for end in (operators.INPUT, operators.OUTPUT):
        quantizer.update_quantization_recipe(
            regex=".*", operation_name=end, algorithm_key=skip
        )
    with _quiet():
        # One run on a grey image, for the names and shapes only.
        signature, entry, shape = _signature(path)
        grey = np.full(shape, 127, "float32")
        statistics = quantizer.calibrate({signature: [{entry: grey}]})
        ranges = _centre(path, ranges, rules)
        for name, values in statistics.items():
            if "min" in values:
                low, high = ranges[name]
                values["min"] = np.full_like(values["min"], low)
                values["max"] = np.full_like(values["max"], high)
        content = bytes(quantizer.quantize(statistics).quantized_model)
    content = swap(tidy(content), {b: a for a, b in STAND_INS.items()}, version=2)
    return complete(set_ends(content, input_dtype, output_dtype))


def _centre(path, ranges, rules):
    """Ranges with which `centred` operands have the zero point 0: from -128 to 127."""
    patterns = [rule.outputs for rule in rules if rule.centred]
    if not patterns:
        return ranges
    interpreter, _, tensors = open_preserving(path)
    ranges, names = dict(ranges), {i: t["name"] for i, t in tensors.items()}
    for op in interpreter._get_ops_details():
        output = names.get(int(op["outputs"][0]), "")
        if any(re.search(pattern, output) for pattern in patterns):
            right = names[int(op["inputs"][1])]
            peak = max(map(abs, ranges[right]))
            ranges[right] = (-peak * 128 / 127, peak)
    return ranges


def _one_scale(rules):
    """The same rules, where a product of two activations has one scale for either even
    if one of them is constant: LiteRT's kernel reads no more than the first scale."""
    yield Rule("BATCH_MATMUL", granularity="TENSORWISE")
    for rule in rules:
        yield rule
        if rule.operator in ("BATCH_MATMUL", "ALL_SUPPORTED") and rule.activations < 32:
            yield dataclasses.replace(
                rule, operator="BATCH_MATMUL", granularity="TENSORWISE"
            )


def _signature(path):
    """Name of the signature, of its input, and the input's shape."""
    from ..evaluation.runners import new_interpreter

    interpreter = new_interpreter(path)
    ((name, ends),) = interpreter.get_signature_list().items()
    shape = interpreter.get_input_details()[0]["shape"]
    return name, ends["inputs"][0], tuple(int(n) for n in shape)

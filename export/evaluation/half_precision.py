"""Whether a float file can be computed in half precision, as GPUs do.

float16 ends at 65504, which sums of squares of a large ViT pass. Two files are derived
from the one in question and run by LiteRT: in one every operator also gives its largest
value and sum; in the other every result is rounded to float16.
"""

import copy
import dataclasses
import math
import os
import pathlib
import tempfile

import numpy as np
from numpy.typing import ArrayLike

from ..flatbuffer.first_run import making_files
from ..flatbuffer.float_fixes import SCORES
from ..flatbuffer.graph_editor import GraphEditor
from ..flatbuffer.operators import read_operators
from ..graph.stream_scale import LARGEST
from .interpreter import check_images, new_interpreter, short_name, threads
from .parity import least_sqnr
from .runners import TFLiteRunner

IMAGES = 8
# Operators that add up, and which of their inputs: the bias of a product comes behind.
SUMS = {"AVERAGE_POOL_2D": (0,), "MEAN": (0,), "SUM": (0,)}
PRODUCTS = {
    "BATCH_MATMUL": (0, 1),
    "CONV_2D": (0, 1),
    "DEPTHWISE_CONV_2D": (0, 1),
    "FULLY_CONNECTED": (0, 1),
    "TRANSPOSE_CONV": (1, 2),
}
RESULT, SUM, PRODUCT = "result", "sum", "product"


@dataclasses.dataclass(frozen=True)
class Peak:
    """The largest magnitude of something in a file, over the images.

    Attributes:
        name: of the tensor that is computed.
        operator: that computes it.
        value: magnitude, in float32.
    """

    name: str
    operator: str
    value: float

    def __str__(self):
        if not self.name:
            return "none"
        return f"{self.value:.4g} ({self.operator} {self.name})"


@dataclasses.dataclass(frozen=True)
class HalfPrecision:
    """How a float file stands half precision.

    Attributes:
        images: their number.
        source: where they come from.
        result: the largest result of an operator.
        sum: the largest sum inside a mean or sum, of the terms' magnitudes; of squares
            it is what any order of addition reaches.
        product: the largest sum of the magnitudes of products, inside a linear layer,
            convolution or product of attention: a bound that no order passes, and that
            most stay far below.
        sqnr_db: of the outputs against float32, `10 log10(sum (ref - mean)^2 /
            sum (ref - out)^2)`, the least of several, with weights, results and the
            sums inside means rounded to float16, and products added up in float32;
            NaN after an overflow.
    """

    images: int
    source: str
    result: Peak
    sum: Peak
    product: Peak
    sqnr_db: float

    @property
    def headroom(self) -> float:
        """How many times the largest result and sum fit into float16."""
        return LARGEST / max(self.result.value, self.sum.value, 1e-30)

    @property
    def passed(self) -> bool:
        """Whether all results and sums fit, and outputs in float16 are finite."""
        return self.headroom >= 1 and not math.isnan(self.sqnr_db)

    @property
    def worst(self) -> Peak:
        """The larger of result and sum."""
        return max(self.result, self.sum, key=lambda peak: peak.value)

    def __str__(self):
        sqnr = "none" if math.isnan(self.sqnr_db) else f"{self.sqnr_db:.1f} dB"
        return (
            f"float16: headroom {self.headroom:.3g} on {self.images} {self.source}; "
            f"largest sum {self.sum}, result {self.result}; sums of products below "
            f"{self.product}; SQNR {sqnr}"
        )


def half_precision(
    path: str | os.PathLike[str], images: ArrayLike | None = None
) -> HalfPrecision:
    """Measure how far a float file is from the end of float16, and what it loses there.

    Arguments:
        path: a `.tflite` file that computes in floats.
        images: (N, H, W, C), inputs of the file; the first 8 are used. None takes
            random pixels, which activate a trained model less than photographs.

    Raises:
        ValueError: the path is no TFLite file, computes with integers, or does not take
            the images.
        FileNotFoundError: the file does not exist.
    """
    if not computes_in_float(read_operators(path)):
        raise ValueError(
            f"`path` must be a file that computes in floats. '{path}' has integers"
        )
    runner, source = TFLiteRunner(path, threads()), "images given"
    if images is None:
        shape, draws = (IMAGES, *runner.input_shape[1:]), np.random.default_rng(0)
        images, source = (
            draws.integers(0, 256, shape, "uint8"),
            "images of random pixels",
        )
    chosen = check_images(np.asarray(images)[:IMAGES], runner.input_shape)
    content = pathlib.Path(path).read_bytes()
    with tempfile.TemporaryDirectory() as folder, making_files():
        rounded = pathlib.Path(folder) / "rounded.tflite"
        rounded.write_bytes(_rounded(content))
        outputs = TFLiteRunner(rounded, threads()).all(chosen)
    peaks = _measure(content, runner, chosen)
    return HalfPrecision(
        images=len(chosen),
        source=source,
        result=peaks[RESULT],
        sum=peaks[SUM],
        product=peaks[PRODUCT],
        sqnr_db=least_sqnr(runner.all(chosen), outputs),
    )


def computes_in_float(found) -> bool:
    """Whether no operator of a file adds up integers."""
    sums = [op for op in found if op.name in (*SUMS, *PRODUCTS)]
    return all(kind == "FLOAT32" for op in sums for kind in op.outputs)


def _rounded(content) -> bytes:
    """A file with every constant and result rounded to float16."""
    editor = GraphEditor(content)
    operators = list(editor.graph.operators)
    constants = {int(i) for op in operators for i in op.inputs if i >= 0}
    with np.errstate(over="ignore"):  # becomes infinite there, too
        for index in filter(editor.is_float, constants):
            if (values := editor.constant(index)) is not None:
                half = values.astype("float16").astype("float32")
                editor.make_constant(index, half)
    for op, after in zip(operators, [*operators[1:], None], strict=True):
        for place, index in enumerate(op.outputs):
            if not editor.is_float(index):
                continue
            shape = editor.shape(index)
            exact = editor.new_tensor(shape, "float32", "exact")
            outputs = [int(i) for i in op.outputs]
            outputs[place] = exact
            op.outputs = outputs
            if editor.kind(op) == "MEAN":
                count = math.prod(editor.shape(op.inputs[0])) / math.prod(shape)
                exact = _times(editor, after, exact, count)
                total = editor.new_tensor(shape, "float32", "sum")
                _round(editor, after, exact, total)
                exact = _times(editor, after, total, 1 / count)
            _round(editor, after, exact, index)
    return editor.content()


def _times(editor, after, index, factor):
    constant = editor.new_constant(np.array(factor, "float32"), "factor")
    result = editor.new_tensor(editor.shape(index), "float32", "times")
    editor.insert_before(after, "MUL", [index, constant], [result], "MulOptions")
    return result


def _round(editor, after, index, result):
    half = editor.new_tensor(editor.shape(index), "float16", "half")
    for old, new in ((index, half), (half, result)):
        op = editor.insert_before(after, "CAST", [old], [new], "CastOptions")
        op.builtinOptions.inDataType = editor.graph.tensors[old].type
        op.builtinOptions.outDataType = editor.graph.tensors[new].type


def _measure(content, runner, images) -> dict[str, Peak]:
    """The largest result, sum and sum of products of a file."""
    editor, watched = GraphEditor(content), []
    operators, scores = list(editor.graph.operators), _scores(editor)
    for op, after in zip(operators, [*operators[1:], None], strict=True):
        kind, floats = editor.kind(op), [i for i in op.outputs if editor.is_float(i)]
        if kind == "DEQUANTIZE" or not floats:  # of weights
            continue
        name = short_name(editor.graph.tensors[floats[0]].name.decode())
        for index in floats:
            largest = _largest(editor, after, index, signed=index in scores)
            watched.append((RESULT, name, kind, largest, 1.0))
        if (row := _magnitudes(editor, after, op)) is not None:
            index, factor = row
            what = SUM if kind in SUMS else PRODUCT
            watched.append((what, name, kind, _largest(editor, after, index), factor))
    outputs = [int(index) for index in editor.graph.outputs]
    editor.graph.outputs = [*outputs, *(row[3] for row in watched)]
    editor.model.signatureDefs = []
    interpreter = new_interpreter("", editor.content(), num_threads=threads())
    (entry,) = interpreter.get_input_details()
    values = np.zeros(len(watched))
    for start in range(0, len(images), runner.input_shape[0]):
        chunk = images[start : start + runner.input_shape[0]]
        filled = np.resize(chunk, runner.input_shape).astype(entry["dtype"])
        interpreter.set_tensor(entry["index"], filled)
        interpreter.invoke()
        found = [interpreter.get_tensor(row[3]) for row in watched]
        values = np.maximum(values, np.ravel(found))
    peaks = {what: Peak("", "", 0.0) for what in (RESULT, SUM, PRODUCT)}
    for (what, name, kind, _, factor), value in zip(watched, values, strict=True):
        # `not <=`: a NaN is the largest.
        if not value * factor <= peaks[what].value:
            peaks[what] = Peak(name, kind, float(value * factor))
    return peaks


def _scores(editor) -> set[int]:
    """The tensors in front of a softmax, in which a mask may have put -1e9: float16's
    minus infinity does as well."""
    makers = {int(i): op for op in editor.graph.operators for i in op.outputs}
    softmax = (op for op in makers.values() if editor.kind(op) == "SOFTMAX")
    waiting, found = [int(op.inputs[0]) for op in softmax], set()
    while waiting:
        found.add(index := waiting.pop())
        if (kind := editor.kind(makers.get(index))) in SCORES:
            waiting += [int(i) for i in makers[index].inputs[SCORES[kind]]]
    return found


def _largest(editor, after, index, signed=False) -> int:
    """The index of a new tensor (), the largest magnitude or value in a tensor."""
    shape = editor.shape(index)
    if not signed:
        size = editor.new_tensor(shape, "float32", "magnitude")
        editor.insert_before(after, "ABS", [index], [size], "AbsOptions")
        index = size
    axes = editor.new_constant(np.arange(len(shape), dtype="int32"), "axes")
    most = editor.new_tensor((), "float32", "largest")
    editor.insert_before(after, "REDUCE_MAX", [index, axes], [most], "ReducerOptions")
    return most


def _magnitudes(editor, after, op):
    """The same operator on magnitudes: (index of its result, factor to a sum), or None
    for one that does not add up floats."""
    kind = editor.kind(op)
    places = (SUMS | PRODUCTS).get(kind)
    if places is None or not all(editor.is_float(op.inputs[i]) for i in places):
        return None
    inputs = [int(index) for index in op.inputs]
    for place, index in enumerate(inputs):
        if index < 0 or not editor.is_float(index):
            continue
        if (values := editor.constant(index)) is not None:
            inputs[place] = editor.new_constant(np.abs(values), "magnitude")
        else:
            inputs[place] = editor.new_tensor(
                editor.shape(index), "float32", "magnitude"
            )
            editor.insert_before(after, "ABS", [index], [inputs[place]], "AbsOptions")
    shape = editor.shape(op.outputs[0])
    result = editor.new_tensor(shape, "float32", "sum")
    new = editor.insert_before(after, kind, inputs, [result])
    new.opcodeIndex = op.opcodeIndex
    new.builtinOptions = copy.copy(op.builtinOptions)
    new.builtinOptionsType = op.builtinOptionsType
    if hasattr(new.builtinOptions, "fusedActivationFunction"):
        new.builtinOptions.fusedActivationFunction = 0
    count = 1.0
    if kind == "MEAN":
        count = math.prod(editor.shape(op.inputs[0])) / math.prod(shape)
    elif kind == "AVERAGE_POOL_2D":
        options = op.builtinOptions
        count = float(options.filterHeight * options.filterWidth)
    return result, count

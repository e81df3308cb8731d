"""Graphs of other libraries in int8: rewritten exactly, without a float in between."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import export
from export.evaluation import runners
from export.evaluation.tools.integer_scan import float_islands
from export.flatbuffer.operators import read_operators
from export.graph.build import inference_graph
from export.quantization.mixed_precision import find_parts
from export.resolve import resolve
from export.tflite.converter import convert
from export.tflite.integer_ready import fold_constants, make_integer_ready
from tests.export import stock
from tests.models import exported, slow_but
from vit_keras import Preprocessing


def attention_of_maps():
    """Attention over rows and columns at once: a softmax over two axes."""
    inputs, x = stock.patches()
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, stock.WIDTH // 2)(y, y)
    return stock.finished(inputs, layers.Reshape((stock.TOKENS, stock.WIDTH))(x))


MODELS = {
    "pre-norm": stock.transformer,
    "post-norm": lambda: stock.transformer(post_norm=True),
    "attention in 4-D": attention_of_maps,
    "log-sum-exp": lambda: stock.activated(
        lambda x: x - ops.logsumexp(x, axis=-1, keepdims=True)
    ),
    "softmax over height and width": lambda: stock.activated(
        lambda x: x * layers.Softmax(axis=(1, 2))(x)
    ),
    "square": lambda: stock.activated(lambda x: ops.square(x) + ops.abs(x)),
    "softplus": lambda: stock.activated(lambda x: ops.log(1 + ops.exp(x))),
    "leaky": lambda: stock.activated(lambda x: ops.leaky_relu(x, 0.1)),
}

# `test_rewrites_are_exact` has them all.
INT8_FIRST = ("post-norm", "attention in 4-D", "square", "softplus")


@pytest.fixture(scope="module")
def float_files(tmp_path_factory):
    """Name -> the converted file, before it is made ready for integers."""
    folder, found = tmp_path_factory.mktemp("float"), {}

    def make(name):
        if name not in found:
            found[name] = folder / f"{len(found)}.tflite"
            export.to_tflite(MODELS[name](), found[name])
        return found[name]

    return make


@pytest.mark.parametrize("name", MODELS)
def test_rewrites_are_exact(float_files, name, tmp_path):
    ready = tmp_path / "ready.tflite"
    ready.write_bytes(float_files(name).read_bytes())
    make_integer_ready(ready)
    kinds = {op.name for op in read_operators(ready)}
    assert not kinds & {"NEG", "SQUARE", "EQUAL", "SELECT_V2"}
    images = stock.images(8)
    expected, got = (runners.load(f)(images) for f in (float_files(name), ready))
    # The order of float32 sums differs, nothing else; outputs are of order 1.
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("name", slow_but(INT8_FIRST, MODELS))
def test_no_float_between_input_and_output(name, tmp_path):
    path = tmp_path / "m.tflite"
    report = export.to_tflite(
        MODELS[name](), path, scheme="int8", calibration=stock.images()
    )
    assert float_islands(read_operators(path)) == ()
    assert not any("stays in float" in note for note in report.notes)
    # What int8 gives for these without a mask or an offset: 23 to 45 dB.
    assert report.parity.sqnr_db > 20
    assert export.check(path, "npu").passed


def test_softmax_over_two_axes_becomes_one_operator(float_files, tmp_path):
    ready = tmp_path / "ready.tflite"
    ready.write_bytes(float_files("attention in 4-D").read_bytes())
    make_integer_ready(ready)
    kinds = [op.name for op in read_operators(ready)]
    assert kinds.count("SOFTMAX") == 1 and not {"EXP", "LOG"} & set(kinds)


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "map", "qk_norm": True},
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in ({}, {"pooling": "map"}, {"qk_norm": True})
        ),
    ],
)
def test_graphs_of_ours_stay_as_they_are(options, tmp_path):
    model, path = exported(**options), tmp_path / "m.tflite"
    plan = resolve("int8", has_calibration=True)
    graph = inference_graph(model, Preprocessing(), stock.images(), plan.graph)
    convert(graph.function, model, path, plan)
    before = path.read_bytes()
    make_integer_ready(path)
    assert path.read_bytes() == before


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the layer is of this process alone"
)
def test_what_depends_on_no_input_is_folded(tmp_path):
    model, path = stock.scored(stock.Constant()), tmp_path / "m.tflite"
    export.to_tflite(model, path)
    assert "DYNAMIC_UPDATE_SLICE" in {op.name for op in read_operators(path)}
    folded = tmp_path / "folded.tflite"
    content = fold_constants(path.read_bytes())
    assert content is not None
    folded.write_bytes(content)
    assert fold_constants(content) is None
    assert "DYNAMIC_UPDATE_SLICE" not in {op.name for op in read_operators(folded)}
    images = stock.images(8)
    # No order of sums changes: the same values are added.
    np.testing.assert_array_equal(
        runners.load(folded)(images), runners.load(path)(images)
    )
    report = export.to_tflite(model, path, scheme="int8", calibration=stock.images())
    assert export.check(path, "npu").passed
    assert report.parity.sqnr_db > 25


def test_what_stays_in_float_is_said_at_once(tmp_path):
    model, path = stock.activated(ops.sin), tmp_path / "m.tflite"
    report = export.to_tflite(model, path, scheme="int8", calibration=stock.images())
    (note,) = [note for note in report.notes if "stays in float" in note]
    assert "SIN x1" in note and "litert-quantizer has no integer kernel" in note
    refused = export.check(path, "npu")
    assert {row.operator for row in refused.unsupported} >= {"SIN"}
    # The file was made by that very call.
    assert "export with scheme" not in str(refused)
    assert "target='cpu'" in str(refused)


def test_a_fix_is_the_call_that_helps(tmp_path):
    """In float the file has not been made for integers, nor for a CPU in int8."""
    model, path = stock.transformer(), tmp_path / "m.tflite"
    export.to_tflite(model, path)
    assert "scheme='int8' and target='npu'" in str(export.check(path, "npu"))
    options = {"scheme": "int8", "target": "cpu", "calibration": stock.images()}
    report = export.to_tflite(model, path, **options)
    assert "scheme='int8' and target='npu'" in str(export.check(path, "npu"))
    assert not any("stays in float" in note for note in report.notes)


def test_truth_values_have_no_range(tmp_path):
    model = stock.activated(lambda x: ops.where(x > 0, x, 0.1 * x))
    path = tmp_path / "m.tflite"
    report = export.to_tflite(model, path, scheme="int8", calibration=stock.images())
    assert report.parity.sqnr_db > 20
    assert any("GREATER x1" in note for note in report.notes)


def test_mixed_precision_leaves_what_int16_has_not(float_files):
    """Stock layer norms hold SQUARED_DIFFERENCE, which int16 has not."""
    path = float_files("post-norm")
    for precision, there in (("int16", False), ("float32", True)):
        parts = find_parts(path, precision)
        kinds = {kind for part in parts for kind, _ in part.operators}
        assert ("SQUARED_DIFFERENCE" in kinds) == there
        assert "BATCH_MATMUL" in kinds

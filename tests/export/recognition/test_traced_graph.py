"""A float flatbuffer as a graph: its parts give what LiteRT gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.evaluation.runners import TFLiteRunner
from export.graph.inference_layer import InferenceViT
from export.graph.recognition.function import batched, function_of, takes_batches
from export.graph.recognition.recognise import recognise
from export.graph.recognition.traced_graph import TracedGraph, Unrecognised
from export.resolve import resolve
from export.tflite.converter import convert
from tests.export.recognition import builders
from tests.export.recognition.conftest import converted

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="converts in this process"
)


def flatbuffer(function, *shapes, quantised=False):
    """Of a function of TensorFlow."""
    specs = [tf.TensorSpec(shape) for shape in shapes]
    concrete = tf.function(function).get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


def test_the_whole_graph_runs(traced):
    case = traced(builders.class_token)
    graph = case.graph
    part = graph.part(graph.input, graph.output)
    outputs = np.concatenate([part(image) for image in case.images])
    np.testing.assert_allclose(outputs, case.outputs, atol=1e-5)


def test_cuts_divide_it(traced):
    graph = traced(builders.class_token).graph
    cuts = graph.cuts(graph.input, graph.output)
    assert (cuts[0], cuts[-1]) == (graph.input, graph.output)
    x = traced(builders.class_token).images[0]
    value = x
    for start, end in zip(cuts, cuts[1:], strict=False):
        value = graph.part(start, end)(value)
    np.testing.assert_allclose(value, graph.part(cuts[0], cuts[-1])(x), rtol=1e-12)


def test_float16_weights(traced, tmp_path):
    case = traced(builders.class_token)
    content = converted(case.model, tmp_path / "half.tflite", "float16")
    graph = TracedGraph(content)
    found = recognise(graph)
    function = function_of(graph, found, InferenceViT(found.weights))
    limit = 1e-2 * np.ptp(case.outputs)
    np.testing.assert_allclose(function(case.images), case.outputs, atol=limit)


def test_open_batch(traced):
    """Shapes are those of one image, whatever the file leaves open."""
    case = traced(builders.class_token)
    shape = (None, *case.model.input_shape[1:])
    content = flatbuffer(lambda x: case.model(x, training=False), shape)
    graph = TracedGraph(content)
    assert graph.input_shape == (1, *shape[1:])
    found = recognise(graph)
    function = function_of(graph, found, InferenceViT(found.weights))
    limit = 1e-5 * np.ptp(case.outputs)
    np.testing.assert_allclose(function(case.images), case.outputs, atol=limit)


def test_function_is_traced_for_any_batch(traced):
    case = traced(builders.hybrid)
    found = recognise(case.graph)
    function = function_of(case.graph, found, InferenceViT(found.weights))
    limit = 1e-5 * np.ptp(case.outputs)
    for size in (len(case.images), None):
        spec = tf.TensorSpec((size, *case.images.shape[1:]))
        outputs = tf.function(function, input_signature=[spec])(case.images)
        np.testing.assert_allclose(outputs, case.outputs, atol=limit)


def test_function_is_converted(traced, tmp_path):
    case = traced(builders.hybrid)
    found = recognise(case.graph)
    layer = InferenceViT(found.weights)
    function = function_of(case.graph, found, layer)
    path = tmp_path / "again.tflite"
    convert(function, case.model, path, resolve(input_dtype="float32", batch=4))
    outputs = TFLiteRunner(path)(case.images)
    limit = 1e-5 * np.ptp(case.outputs)
    np.testing.assert_allclose(outputs, case.outputs, rtol=0, atol=limit)


@pytest.mark.parametrize("size", [3, None])
def test_a_part_that_takes_no_batches(size):
    """The mean over the first axis would mix images: they go one after another."""

    def mixing(x):
        y = tf.reshape(x, (4, 6))
        return tf.reshape(y - tf.reduce_mean(y, 0, keepdims=True), (1, 24))

    graph = TracedGraph(flatbuffer(mixing, (1, 4, 6)))
    assert not takes_batches(graph, graph.input, graph.output)
    function = batched(graph, graph.input, graph.output)
    images = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")
    spec = tf.TensorSpec((size, 4, 6))
    outputs = tf.function(function, input_signature=[spec])(images)
    expected = (images - images.mean(1, keepdims=True)).reshape(3, 24)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


def test_fused_activations_and_constants():
    weights = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")

    def function(x):
        y = tf.nn.relu(tf.matmul(x, weights) + tf.range(4.0))
        return tf.split(tf.nn.relu6(y * y + 1.0), 2, axis=-1)[1]

    graph = TracedGraph(flatbuffer(function, (1, 6)))
    names = [op.name for op in graph.ops]
    assert "RELU" in names and "RELU6" in names
    x = np.random.default_rng(1).normal(size=(1, 6))
    expected = function(tf.constant(x, "float32"))
    found = graph.part(graph.input, graph.output)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_unknown_operator_is_a_reason():
    graph = TracedGraph(flatbuffer(lambda x: tf.sort(x), (1, 6)))
    assert any(op.name == "TOPK_V2" for op in graph.ops)
    with pytest.raises(Unrecognised, match="the operator TOPK_V2, which is not known"):
        graph.part(graph.input, graph.output)(np.zeros(6))
    with pytest.raises(Unrecognised, match="no attention"):
        recognise(graph)


def test_only_one_input():
    content = flatbuffer(lambda x, y: x + y, (1, 6), (1, 6))
    with pytest.raises(Unrecognised, match="2 inputs and 1 outputs"):
        TracedGraph(content)


def test_quantised_files_are_refused():
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    content = flatbuffer(lambda x: tf.matmul(x, weights), (1, 64), quantised=True)
    with pytest.raises(Unrecognised, match="a quantised file"):
        TracedGraph(content)

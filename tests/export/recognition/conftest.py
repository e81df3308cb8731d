"""Each model is built and converted once, when the first test asks for it."""

import dataclasses
import functools

import keras
import numpy as np
import pytest

from export.graph.recognition.traced_graph import TracedGraph
from export.resolve import resolve
from export.tflite.converter import convert
from tests.export.recognition import builders


@dataclasses.dataclass
class Traced:
    model: keras.Model
    content: bytes
    graph: TracedGraph
    images: np.ndarray
    outputs: np.ndarray


def converted(model, path, scheme="float32"):
    plan = resolve(scheme, input_dtype="float32")
    convert(lambda x: model(x, training=False), model, path, plan)
    return path.read_bytes()


@pytest.fixture(scope="session")
def traced(tmp_path_factory):
    """Function from a builder and its arguments to a `Traced`."""

    @functools.cache
    def make(build, *args):
        keras.utils.set_random_seed(1)
        model = builders.randomise(build(*args))
        path = tmp_path_factory.mktemp("traced") / "model.tflite"
        content = converted(model, path)
        images = builders.images(model)
        outputs = [np.asarray(model(x[None], training=False)) for x in images]
        graph = TracedGraph(content)
        return Traced(model, content, graph, images, np.concatenate(outputs))

    return make

"""Opening the model to export: a Keras model, its file, or any float `.tflite` file."""

import os
import pathlib
from typing import Any

import keras
import numpy as np

from ..flatbuffer.first_run import check_first_run
from .model_input import ModelInput, read_model_input
from .recognition.function import batched
from .recognition.traced_graph import TracedGraph, Unrecognised
from .source_model import as_functional

CHANNELS = (1, 3, 4)


@keras.saving.register_keras_serializable(package="vit_keras_export")
class TracedFile(keras.layers.Layer):
    """The operators of a float `.tflite` file, which take images (N, H, W, C)."""

    def __init__(self, graph: TracedGraph, channels_first: bool, **kwargs):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.channels_first, self.graph = channels_first, graph
        self._function = batched(graph, graph.input, graph.output)

    def call(self, images):
        """(N, H, W, C) to what the file gives."""
        if self.channels_first:
            images = keras.ops.transpose(images, (0, 3, 1, 2))
        return self._function(images)


def open_source(path: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Open the file of a model: `.keras`, or a float `.tflite` file of any maker.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no such model.
    """
    from vit_keras.model_file import open_model

    if not os.fspath(path).endswith(".tflite"):
        return open_model(path, custom_objects)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no model file '{path}'")
    return open_tflite(path)


def open_for_export(
    source: Any,
    *,
    preprocessing: Any = None,
    input_shape: Any = None,
    output: Any = None,
    outputs: Any = None,
    custom_objects: dict[str, Any] | None = None,
) -> tuple[Any, ModelInput]:
    """Return the functional model of what a user names, and what its input means.

    Arguments:
        source: a Keras model, or the path of a file that `open_source` opens.
        preprocessing, input_shape, output, outputs, custom_objects: see `to_tflite`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be exported, or `preprocessing` does not fit it.
    """
    if isinstance(source, str | os.PathLike):
        source = open_source(source, custom_objects)
    model = as_functional(source, input_shape, output, outputs)
    return model, read_model_input(model, preprocessing, source)


def open_tflite(path: str | os.PathLike[str]) -> Any:
    """Return a float `.tflite` file as a Keras model.

    Arguments:
        path: of a file with one float32 input, (N, H, W, C) or (N, C, H, W), and one
            output.

    Returns:
        A functional model of images (N, H, W, C). Its attribute `reference` runs the
        file itself in LiteRT, for parity.

    Raises:
        ValueError: the file is damaged, quantised, or has another input.
        ChildProcessError: its first run was killed from outside.
    """
    path = pathlib.Path(path)
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise ValueError(f"`model` must be a TFLite file. '{path}' is not")
    for delegates in (True, False):  # the reference, and shapes of an open batch
        check_first_run(path, delegates)
    try:
        graph = TracedGraph(content)
    except Unrecognised as error:
        raise ValueError(
            f"`model` must be a float file. '{path}' is {error}"
        ) from error
    except Exception as error:  # struct, index and type errors of a damaged flatbuffer
        raise ValueError(f"'{path}' is damaged: {error!r}") from error
    shape, dtype = graph.input_shape, graph.types[graph.input]
    if len(shape) != 4 or dtype != "float32":
        cure = "; `to_tflite` writes such a file with input_dtype='float32'"
        raise ValueError(
            "`model` must take float32 images (N, H, W, C) or (N, C, H, W). "
            f"'{path}' takes {dtype} {shape}{cure if dtype != 'float32' else ''}"
        )
    first = shape[1] in CHANNELS and shape[3] not in CHANNELS
    size = (*shape[2:], shape[1]) if first else shape[1:]
    try:
        images = keras.Input(size, name="images")
        outputs = TracedFile(graph, first, name="traced_file")(images)
        model = keras.Model(images, outputs, name=_name(path))
        model.reference = _in_litert(content, first)
    except Exception as error:  # shapes that do not fit, found as Keras traces it
        raise ValueError(
            f"'{path}' is damaged: {' '.join(str(error).split())}"
        ) from error
    return model


def _name(path):
    """The file's name as Keras allows it for a model."""
    return "".join(c if c.isalnum() else "_" for c in path.stem) or "model"


def _in_litert(content, channels_first):
    """Function from float32 images (N, H, W, C) to the file's own outputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    entry = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(entry["index"], [1, *entry["shape"][1:]])
    interpreter.allocate_tensors()
    output = interpreter.get_output_details()[0]["index"]

    def function(images):
        images = np.asarray(images, "float32")
        if channels_first:
            images = images.transpose(0, 3, 1, 2)
        found = []
        for image in images:
            interpreter.set_tensor(entry["index"], image[None])
            interpreter.invoke()
            found.append(interpreter.get_tensor(output))
        return np.concatenate(found)

    return function

"""Any plain ViT in Keras as a `vit_keras.VisionTransformer`."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from vit_keras.preprocessing import Preprocessing, normalize

from .find_vit import find_vit
from .float_file import float_file
from .found_vit import as_it_is
from .model_input import ModelInput, read_model_input
from .open_source import open_for_export
from .recognition.recognise import RecognisedViT, recognise
from .recognition.traced_graph import TracedGraph, Unrecognised
from .rewrites import fold_input
from .source_model import in_float32, nodes_of
from .vit_weights import Weights
from .write_weights import build_vit

# Of the output's range; rounding gives 3e-6. More means that something was misread.
EQUAL = 1e-5
NEAR = 1e-4  # a tensor of the model and the same one traced, in float32 and float64
ACTIVATIONS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}  # of a head


def to_vit(
    model: "keras.Model",
    *,
    preprocessing: "Preprocessing | str | None" = None,
    input_shape: Sequence[int] | None = None,
    output: str | int | None = None,
) -> "keras.Model":
    """Return the plain Vision Transformer in a Keras model as one of this package.

    It is found in the traced graph, whatever library made it, and can be trained,
    saved, fine-tuned and exported like any other. Needs Keras on TensorFlow.

    Arguments:
        model: functional, sequential or subclassed: a keras-hub task or backbone, a ViT
            of stock layers, ...
        preprocessing: what turns pixels 0..255 into what the model was trained on, if
            no layer in front says so; see `to_tflite`.
        input_shape: (H, W, C) of a subclassed model that was never called.
        output: name or index of the output to take, of a model with several.

    Returns:
        A `vit_keras.VisionTransformer` of normalised images, as all of this package;
        or, where the model has more in front of it or behind, a functional model of
        those layers with the `VisionTransformer` in it. Outputs are the model's but
        for rounding.

    Raises:
        ValueError: the model holds no plain ViT, the message is the reason; or what its
            input means is not known; or Keras runs on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "`to_vit` traces the model, with Keras on TensorFlow: start Python with "
            "KERAS_BACKEND=tensorflow, and save what it returns for other backends. "
            f"Received: backend={keras.backend.backend()!r}"
        )
    options = {"input_shape": input_shape, "output": output}
    functional, meaning = open_for_export(model, preprocessing=preprocessing, **options)
    if find_vit(functional) is functional:
        return functional
    try:
        content = float_file(
            as_it_is(functional, None), (1, *functional.input_shape[1:])
        )
        graph = TracedGraph(content)
        found = recognise(graph)
        if found.differences:
            raise Unrecognised(", ".join(found.differences))
        result = _assembled(functional, graph, found, meaning)
    except Unrecognised as error:
        raise ValueError(
            f"`model` must hold a plain ViT of the kind of vit_keras: {error}"
        ) from error
    _check_equal(functional, result, meaning)
    return result


def _assembled(model, graph, found, meaning):
    """The ViT, with the model's own layers in front of it and behind."""
    weights = _classifier(graph, found)
    whole = weights is not None
    if weights is None:
        weights = _features(found.weights)
    if found.front is None:
        weights = _of_normalised(weights, meaning)
    vit = build_vit(weights)
    if whole and found.front is None:
        return vit
    if found.front is None:
        images = entry = keras.Input(vit.input_shape[1:], name="images")
    else:
        images, entry = model.inputs[0], _own_tensor(model, graph, found.front[1])
        entry = keras.layers.Reshape(vit.input_shape[1:])(entry)
    outputs = vit(entry)
    if not whole:
        tokens = _own_tensor(model, graph, found.features, outputs.shape)
        if tokens is not model.outputs[0]:
            outputs = keras.Model(tokens, model.outputs[0], name="tail")(outputs)
        elif found.front is None:
            return vit
    return keras.Model(images, outputs, name=model.name)


def _classifier(graph: TracedGraph, found: RecognisedViT) -> Weights | None:
    """The weights of a classifier with all that follows, or None if more follows."""
    weights = found.weights
    if weights.task != "classify" or found.tail is None:
        return weights if weights.task == "classify" else None
    names = [op.name for op in graph.between(*found.tail) if op.name != "RESHAPE"]
    if len(names) != 1 or names[0] not in ACTIVATIONS:
        return None
    activation, several = ACTIVATIONS[names[0]], weights.config.classes > 1
    head = "softmax"
    if activation == "sigmoid":
        head = "multi_label" if several else "sigmoid"
    config = dataclasses.replace(weights.config, activation=activation, head=head)
    return dataclasses.replace(weights, config=config)


def _features(weights: Weights) -> Weights:
    """The weights without head: what follows the tokens is the model's own."""
    if weights.config.fc_norm:
        raise Unrecognised("more than a head behind a norm of the pooled vector")
    config = dataclasses.replace(weights.config, pooling=None, include_top=False)
    return dataclasses.replace(weights, config=config, task="features", heads=[])


def _of_normalised(weights: Weights, meaning: ModelInput) -> Weights:
    """The weights with the model's own normalisation taken out of the first layer,
    and into the configuration."""
    inside = meaning.inside
    if inside is None:
        if not meaning.own.takes_pixels:
            raise Unrecognised(
                "what its input means is not known; give `preprocessing`, such as "
                "'0..1'"
            )
        scale, offset = meaning.own.scale, meaning.own.offset
        inside = Preprocessing.of(scale, offset)
        # Pixels are what the layer reads: (x - offset) / scale of normalised x.
        weights = dataclasses.replace(weights, scale=1 / scale, offset=-offset / scale)
        fold_input(weights)
    config = dataclasses.replace(weights.config, preprocessing=inside)
    return dataclasses.replace(weights, config=config)


def _own_tensor(model, graph, number, shape=None):
    """The last tensor of a Keras model with the values of one of its traced graph.

    Arguments:
        shape: that it must have; None for any.
    """
    draws = np.random.default_rng(0)
    images = draws.uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")
    part = graph.part(graph.input, number)
    expected = np.stack([part(image[None]).ravel() for image in images])
    size = expected.shape[1]
    candidates = [
        tensor
        for node in nodes_of(model)
        for tensor in node.outputs
        if None not in tensor.shape[1:]
        and np.prod(tensor.shape[1:]) == size
        and (shape is None or tensor.shape[1:] == shape[1:])
    ]
    found = None
    if candidates:
        named = {str(i): tensor for i, tensor in enumerate(candidates)}
        values = in_float32(keras.Model(model.inputs[0], named))(images)
        for i, value in values.items():
            value = np.asarray(value).reshape(expected.shape)
            if np.abs(value - expected).max() <= NEAR * np.abs(expected).max():
                found = named[i]
    if found is None:
        raise Unrecognised(
            "what is in front of the ViT or behind it is inside a layer of its own"
        )
    return found


def _check_equal(model, result, meaning):
    """Refuse a result that does not compute what the model computes."""
    draws = np.random.default_rng(1)
    pixels = draws.uniform(0, 255, (4, *model.input_shape[1:])).astype("float32")
    inside = meaning.inside
    fed = pixels if inside is None else normalize(pixels, inside)
    expected = np.asarray(in_float32(model)(fed))
    own = read_model_input(result)
    given = pixels if own.inside is None else normalize(pixels, own.inside)
    actual = np.asarray(in_float32(result)(given)).reshape(expected.shape)
    error = np.abs(actual - expected).max() / max(np.ptp(expected), 1e-6)
    if not error <= EQUAL:
        raise ValueError(
            f"the ViT that was read from `model` differs from it by {error:.1e} of the "
            "range of the outputs"
        )

"""What happens inside a model: its attention scores, and gradients by them."""

import weakref
from typing import Any

import keras
import numpy as np
from keras import ops

from .gradients import gradient_of
from .layers import AttentionPooling, EncoderBlock

_KNOWN: Any = weakref.WeakKeyDictionary()  # each graph is traced and compiled once


def instrument(model) -> "Instrument":
    """Return the `Instrument` of a model.

    Raises:
        ValueError: the model has no `EncoderBlock` at its top level.
    """
    if model not in _KNOWN:
        _KNOWN[model] = Instrument(model)
    return _KNOWN[model]


class Instrument:
    """Graphs of a model's layers, with its weights, that also return scores.

    Letters: L blocks, N images, H heads, T tokens, P patches, C classes.
    """

    def __init__(self, model):
        self.blocks = [x for x in model.layers if isinstance(x, EncoderBlock)]
        pooling = [x for x in model.layers if isinstance(x, AttentionPooling)]
        if not self.blocks:
            raise ValueError(
                "`model` must hold EncoderBlock layers at its top level. Received: "
                f"{model.name!r} with layers {[layer.name for layer in model.layers]}"
            )
        self.watched = [*self.blocks, *pooling]
        plain = keras.Model(model.inputs, model.outputs)
        self._forward = _with_scores(plain, self.watched, [])
        self._model, self._graph = plain, None
        self._gradient: Any = None

    def scores(self, images) -> tuple[np.ndarray, list[np.ndarray]]:
        """Compute outputs and attention.

        Arguments:
            images: (N, H, W, C), normalised.

        Returns:
            The model's output, and the float32 scores of each block (N, H, T, T) and
            last of attention pooling (N, H, 1, P), if the model has it.
        """
        output, *scores = self._forward.predict([images], verbose=0)
        return np.asarray(output), [np.asarray(x, "float32") for x in scores]

    def gradients(self, images, scores, classes) -> list[np.ndarray]:
        """Compute the gradients of each image's class by the scores.

        Arguments:
            images: (N, H, W, C), normalised.
            scores: of `scores`, whose shapes the gradients have.
            classes: int (N,). Before a softmax, sigmoid or other activation.
        """
        if self._graph is None:
            self._graph, self._gradient = self._differentiable()
        chosen = ops.one_hot(classes, self._graph.outputs[0].shape[-1])
        gradients = self._gradient(
            [ops.zeros(x.shape) for x in scores],
            *(ops.convert_to_tensor(images, "float32"), chosen),
            [w.value for w in self._graph.trainable_variables],
            [w.value for w in self._graph.non_trainable_variables],
        )
        return [ops.convert_to_numpy(x) for x in gradients]

    def _differentiable(self):
        """Return a graph of [images, *offsets], and its gradient by the offsets."""
        offsets = [keras.Input(x.shape[1:]) for x in self._forward.outputs[1:]]
        graph = _with_scores(self._model, self.watched, offsets)

        # Weights are arguments, so that compiled code does not keep old ones.
        def of_classes(zeros, images, chosen, trainable, others):
            (logits, *_), _ = graph.stateless_call(
                trainable, others, [images, *zeros], training=False
            )
            return ops.sum(ops.cast(logits, "float32") * chosen)

        return graph, gradient_of(of_classes)


def _with_scores(model, watched, offsets):
    """Return a model of the same layers that also returns their scores.

    Arguments:
        model: functional, with one input and one output.
        watched: layers that return attention scores, in order.
        offsets: an input for each of them, that is added to its scores, or none. With
            them, the activation of the head is left out.

    Returns:
        A model from [images, *offsets] to [output, *scores].
    """
    # Unused, they make a model of the right inputs for `clone_model`.
    model = keras.Model([*model.inputs, *offsets], [*model.outputs, *offsets])
    last = model.outputs[0]._keras_history.operation
    added = dict(zip((layer.name for layer in watched), offsets, strict=False))
    found = {}

    def call(layer, *args, **kwargs):
        if layer in watched:
            both = _Scores(layer)(*args, scores_offset=added.get(layer.name))
            output, found[layer.name] = both
            return output
        if layer is last and offsets:
            return _logits(layer, *args, **kwargs)
        return layer(*args, **kwargs)

    copy = keras.models.clone_model(
        model, model.inputs, clone_function=lambda layer: layer, call_function=call
    )
    scores = [found[layer.name] for layer in watched]
    return keras.Model(copy.inputs, [copy.outputs[0], *scores])


class _Scores(keras.layers.Layer):
    """A layer that also returns its scores: Keras wants one number of outputs."""

    def __init__(self, layer):
        super().__init__(dtype=layer.dtype_policy)
        self.layer = layer

    def call(self, inputs, scores_offset=None):
        return self.layer(
            inputs, return_attention_scores=True, scores_offset=scores_offset
        )

    def compute_output_spec(self, inputs, scores_offset=None):
        return self.layer.compute_output_spec(inputs, return_attention_scores=True)


class _Logits(keras.layers.Layer):
    """A Dense layer without its activation."""

    def __init__(self, dense):
        super().__init__(dtype=dense.dtype_policy)
        self.dense = dense

    def call(self, inputs):
        logits = ops.matmul(inputs, self.dense.kernel)
        return logits if self.dense.bias is None else logits + self.dense.bias


def _logits(layer, inputs):
    """Call the last layer of a classifier, without an activation."""
    if isinstance(layer, keras.layers.Activation | keras.layers.Softmax):
        return inputs
    if getattr(layer, "activation", keras.activations.linear) is not (
        keras.activations.linear
    ):
        return _Logits(layer)(inputs)
    return layer(inputs)

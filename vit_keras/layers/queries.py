"""Layers of decoders that read other tokens than the patches: queries, classes."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from .types import Shape, Tensor

# Below it a score counts as nothing: its logarithm stays a number.
LEAST_SCORE = 1e-6


@keras.saving.register_keras_serializable(package="vit_keras")
class FirstTokens(keras.layers.Layer):
    """Keep the first tokens of a sequence alone.

    Arguments:
        number: how many, Q.

    Call arguments:
        inputs: (N, T, D). Returns (N, Q, D).
    """

    def __init__(self, number: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.number = number

    def call(self, inputs: Tensor) -> Tensor:
        return inputs[:, : self.number]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.number, input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "number": self.number}


@keras.saving.register_keras_serializable(package="vit_keras")
class Readout(keras.layers.Layer):
    """Put the class token beside each patch (DPT, arXiv 2103.13413, section 3.1).

    Arguments:
        num_prefix_tokens: tokens before the patches, of which the first is read.

    Call arguments:
        inputs: (N, T, D). Returns (N, P, 2 D), the patch first.
    """

    def __init__(self, num_prefix_tokens: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_prefix_tokens = num_prefix_tokens

    def call(self, inputs: Tensor) -> Tensor:
        patches = inputs[:, self.num_prefix_tokens :]
        token = ops.broadcast_to(inputs[:, :1], ops.shape(patches))
        return ops.concatenate([patches, token], axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        number, tokens, width = input_shape
        return (number, tokens - self.num_prefix_tokens, 2 * width)

    def get_config(self) -> dict[str, Any]:
        own = {"num_prefix_tokens": self.num_prefix_tokens}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="vit_keras")
class QueryScores(keras.layers.Layer):
    """Logits of classes from masks of queries (MaskFormer, arXiv 2107.06278, 3.4).

    A pixel's score of class c is `sum_q softmax(classes_q)_c sigmoid(mask_q)`, without
    the last class, "nothing"; the logit is `log(score + 1e-6)`. So the class with the
    largest logit is that with the largest score, and a softmax of the logits gives the
    share that each score has in their sum.

    Call arguments:
        inputs: masks (N, P, Q) and classes (N, Q, C + 1), both as logits.

    Returns:
        (N, P, C).
    """

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        masks, classes = inputs
        shares = ops.softmax(classes, axis=-1)[..., :-1]
        return ops.log(ops.matmul(ops.sigmoid(masks), shares) + LEAST_SCORE)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        masks, classes = input_shape
        return (*masks[:2], classes[-1] - 1)

"""Layer normalisation that converts to int8 operators."""

from typing import Any

import keras
from keras import ops

from .types import Shape, Tensor


@keras.saving.register_keras_serializable(package="vit_keras")
class LayerNormalization(keras.layers.Layer):
    """Layer norm over the last axis (arXiv 1607.06450).

    `y = (x - mean) * rsqrt(variance + epsilon) * gamma + beta`, in this order. The
    Keras layer computes `x * inv + (beta - mean * inv)`, whose negation has no int8
    kernel in TFLite and would stay in float in a quantised file.

    Statistics are computed in float32 at least, for every dtype policy.

    Arguments:
        epsilon: added to the variance.

    Call arguments:
        inputs: (..., D). Returns the same shape and the layer's compute dtype.

    Weights: gamma (D,), beta (D,).
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: Shape) -> None:
        shape = (input_shape[-1],)
        # autocast=False: under mixed precision gamma and beta are float32 as well.
        self.gamma = self.add_weight(
            shape=shape, initializer="ones", name="gamma", autocast=False
        )
        self.beta = self.add_weight(
            shape=shape, initializer="zeros", name="beta", autocast=False
        )

    def call(self, inputs: Tensor) -> Tensor:
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        x = ops.cast(inputs, dtype)
        centered = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(centered * centered, axis=-1, keepdims=True)
        y = centered * ops.rsqrt(variance + self.epsilon) * self.gamma + self.beta
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}

"""The MLP of an encoder block."""

from typing import Any

import keras
from keras import ops

from .types import Shape, Tensor

# Published weights differ in the form of GELU (arXiv 1606.08415): Google's JAX code
# uses the tanh approximation, PyTorch's the exact one. Both are one TFLite operator.
ACTIVATIONS = {
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
}


@keras.saving.register_keras_serializable(package="vit_keras")
class MlpBlock(keras.layers.Layer):
    """Dense, GELU, Dense, with dropout after each (arXiv 2010.11929, section 3.1).

    Arguments:
        mlp_dim: M, width between the two layers.
        activation: "gelu" (exact) or "gelu_tanh".
        dropout: rate, in training only.

    Call arguments:
        inputs: (N, T, D). Returns the same shape.

    Weights: `dense1` (D, M), `dense2` (M, D), with biases.
    """

    def __init__(
        self,
        mlp_dim: int,
        activation: str = "gelu",
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` must be one of {sorted(ACTIVATIONS)}. "
                f"Received: activation={activation!r}"
            )
        self.mlp_dim = mlp_dim
        self.activation = activation
        self.dropout = dropout
        policy = self.dtype_policy
        self.dropout1 = keras.layers.Dropout(dropout, dtype=policy, name="dropout1")
        self.dropout2 = keras.layers.Dropout(dropout, dtype=policy, name="dropout2")

    def build(self, input_shape: Shape) -> None:
        policy, width = self.dtype_policy, input_shape[-1]
        self.dense1 = keras.layers.Dense(self.mlp_dim, dtype=policy, name="dense1")
        self.dense1.build(input_shape)
        self.dense2 = keras.layers.Dense(width, dtype=policy, name="dense2")
        self.dense2.build((*input_shape[:-1], self.mlp_dim))

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        x = ACTIVATIONS[self.activation](self.dense1(inputs))
        x = self.dropout1(x, training=training)
        return self.dropout2(self.dense2(x), training=training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mlp_dim": self.mlp_dim,
            "activation": self.activation,
            "dropout": self.dropout,
        }

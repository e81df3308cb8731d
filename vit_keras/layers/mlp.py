"""The MLP of an encoder block."""

from typing import Any

import keras
from keras import ops

from .norm import LayerNormalization
from .types import Shape, Tensor

# Published weights differ in the form of GELU (arXiv 1606.08415): Google's JAX code
# uses the tanh approximation, PyTorch's the exact one. Both are one TFLite operator.
ACTIVATIONS = {
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * ops.sigmoid(1.702 * x),  # of CLIP
    "relu": ops.relu,
    "silu": ops.silu,
    "tanh": ops.tanh,
}


@keras.saving.register_keras_serializable(package="vit_keras")
class MlpBlock(keras.layers.Layer):
    """Dense, GELU, Dense, with dropout after each (arXiv 2010.11929, section 3.1).

    With a gate, the first layer's output is multiplied by the activation of another
    one's: `activation(gate(x)) * dense1(x)` (SwiGLU, arXiv 2002.05202, section 2).

    Arguments:
        mlp_dim: M, width between the two layers.
        activation: of the first layer, one of `ACTIVATIONS`.
        dropout: rate, in training only.
        out_activation: of the second layer, or None.
        gated: whether there is a gate.
        inner_norm: layer norm over M before the second layer (EVA-02, arXiv 2303.11331,
            section 2.1).
        norm_epsilon: epsilon of this norm.

    Call arguments:
        inputs: (N, T, D). Returns the same shape.

    Weights: `dense1` (D, M), `gate` (D, M), `dense2` (M, D), with biases; `inner_norm`
    over M.
    """

    def __init__(
        self,
        mlp_dim: int,
        activation: str = "gelu",
        dropout: float = 0.0,
        out_activation: str | None = None,
        gated: bool = False,
        inner_norm: bool = False,
        norm_epsilon: float = 1e-6,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        for name, value in (
            ("activation", activation),
            ("out_activation", out_activation or "gelu"),
        ):
            if value not in ACTIVATIONS:
                raise ValueError(
                    f"`{name}` must be one of {sorted(ACTIVATIONS)}. "
                    f"Received: {name}={value!r}"
                )
        self.mlp_dim = mlp_dim
        self.activation = activation
        self.out_activation = out_activation
        self.dropout = dropout
        self.gated = gated
        self.norm_epsilon = norm_epsilon
        policy = self.dtype_policy
        self.dropout1 = keras.layers.Dropout(dropout, dtype=policy, name="dropout1")
        self.dropout2 = keras.layers.Dropout(dropout, dtype=policy, name="dropout2")
        self.gate = self.inner_norm = None
        if gated:
            self.gate = keras.layers.Dense(mlp_dim, dtype=policy, name="gate")
        if inner_norm:
            options = {"epsilon": norm_epsilon, "dtype": policy}
            self.inner_norm = LayerNormalization(name="inner_norm", **options)

    def build(self, input_shape: Shape) -> None:
        policy, width = self.dtype_policy, input_shape[-1]
        self.dense1 = keras.layers.Dense(self.mlp_dim, dtype=policy, name="dense1")
        self.dense1.build(input_shape)
        if self.gate is not None:
            self.gate.build(input_shape)
        if self.inner_norm is not None:
            self.inner_norm.build((*input_shape[:-1], self.mlp_dim))
        self.dense2 = keras.layers.Dense(width, dtype=policy, name="dense2")
        self.dense2.build((*input_shape[:-1], self.mlp_dim))

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        activation = ACTIVATIONS[self.activation]
        if self.gate is None:
            x = activation(self.dense1(inputs))
        else:
            x = activation(self.gate(inputs)) * self.dense1(inputs)
        x = self.dropout1(x, training=training)
        x = x if self.inner_norm is None else self.inner_norm(x)
        x = self.dense2(x)
        if self.out_activation is not None:
            x = ACTIVATIONS[self.out_activation](x)
        return self.dropout2(x, training=training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mlp_dim": self.mlp_dim,
            "activation": self.activation,
            "dropout": self.dropout,
            "out_activation": self.out_activation,
            "gated": self.gated,
            "inner_norm": self.inner_norm is not None,
            "norm_epsilon": self.norm_epsilon,
        }

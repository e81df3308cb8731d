"""Pooling of the token sequence to one vector per image."""

from typing import Any

import keras
from keras import ops

from .attention import MultiHeadAttention
from .mlp import MlpBlock
from .norm import LayerNormalization
from .types import Shape, Tensor

# A vector of zeros stays one; below what float32 can tell of a length around 1.
UNIT_EPSILON = 1e-12


@keras.saving.register_keras_serializable(package="vit_keras")
class TokenPooling(keras.layers.Layer):
    """Return one token, by default the class token.

    Arguments:
        index: position of the token in the sequence.

    Call arguments:
        inputs: (N, T, D). Returns (N, D).
    """

    def __init__(self, index: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.index = index

    def build(self, input_shape: Shape) -> None:
        tokens = input_shape[1]
        if not 0 <= self.index < tokens:
            raise ValueError(
                f"`index` must be in [0, {tokens}), the number of tokens. "
                f"Received: index={self.index}"
            )

    def call(self, inputs: Tensor) -> Tensor:
        # A slice and a reshape: `inputs[:, i]` becomes a strided slice that drops an
        # axis, which GPU delegates refuse.
        token = inputs[:, self.index : self.index + 1]
        return ops.reshape(token, (-1, inputs.shape[-1]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "index": self.index}


class _PatchPooling(keras.layers.Layer):
    """Pooling of the tokens behind a prefix."""

    def __init__(self, num_prefix_tokens: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_prefix_tokens = num_prefix_tokens

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_prefix_tokens": self.num_prefix_tokens}


@keras.saving.register_keras_serializable(package="vit_keras")
class AveragePooling(_PatchPooling):
    """Mean of the patch tokens ("gap"; arXiv 2205.01580).

    Arguments:
        num_prefix_tokens: number of first tokens that are left out.

    Call arguments:
        inputs: (N, T, D). Returns (N, D).
        sizes: (N, T, 1), how many patches each token stands for; None for one.
    """

    def call(self, inputs: Tensor, sizes: Tensor = None) -> Tensor:
        patches = inputs[:, self.num_prefix_tokens :]
        if sizes is None:
            return ops.mean(patches, axis=1)
        # In halves the sum of sizes of a large image would not be exact.
        wide = keras.backend.result_type(self.compute_dtype, "float32")
        sizes = ops.cast(sizes[:, self.num_prefix_tokens :], wide)
        sums = ops.sum(ops.cast(patches, wide) * sizes, axis=1)
        return ops.cast(sums / ops.sum(sizes, axis=1), self.compute_dtype)

    def compute_output_shape(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, inputs_shape: Shape, sizes_shape: Shape | None = None
    ) -> Shape:
        return super().compute_output_shape(inputs_shape)


@keras.saving.register_keras_serializable(package="vit_keras")
class MaxPooling(_PatchPooling):
    """Largest value of each channel over the patch tokens ("max").

    Arguments:
        num_prefix_tokens: number of first tokens that are left out.

    Call arguments:
        inputs: (N, T, D). Returns (N, D).
    """

    def call(self, inputs: Tensor) -> Tensor:
        return ops.max(inputs[:, self.num_prefix_tokens :], axis=1)


@keras.saving.register_keras_serializable(package="vit_keras")
class UnitNorm(keras.layers.Layer):
    """Divide each vector by its Euclidean length, as CLIP does (arXiv 2103.00020).

    Call arguments:
        inputs: (N, D). Returns the same shape.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)

    def call(self, inputs: Tensor) -> Tensor:
        squares = ops.sum(inputs * inputs, axis=-1, keepdims=True)
        return inputs * ops.rsqrt(squares + UNIT_EPSILON)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        # Without it Keras would store arguments of its own base class, too.
        return super().get_config()


@keras.saving.register_keras_serializable(package="vit_keras")
class AttentionPooling(keras.layers.Layer):
    """Multi-head attention pooling, "map" (arXiv 2106.04560, section 3.2).

    A learned probe attends to the patch tokens; its result passes one residual MLP.

    Arguments:
        num_heads: H.
        mlp_dim: hidden width of the MLP.
        mlp_activation: of the first MLP layer, see `MlpBlock`.
        norm_epsilon: epsilon of the norm before the MLP.
        head_dim: width of one head; None means D // H.
        num_prefix_tokens: number of first tokens that are left out.

    Call arguments:
        inputs: (N, T, D).
        return_attention_scores: also return the attention weights (N, H, 1, P) over the
            P tokens that are not left out.
        scores_offset: added to these weights, see `MultiHeadAttention`.

    Returns:
        (N, D), or with scores `(output, scores)`.

    Weights: probe (1, 1, D), and those of `attention`, `norm` and `mlp`.
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        mlp_activation: str = "gelu",
        norm_epsilon: float = 1e-6,
        head_dim: int | None = None,
        num_prefix_tokens: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_prefix_tokens = num_prefix_tokens
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.mlp_activation = mlp_activation
        self.head_dim = head_dim
        self.norm_epsilon = norm_epsilon
        policy = {"dtype": self.dtype_policy}
        self.attention = MultiHeadAttention(
            num_heads, head_dim, name="attention", **policy
        )
        self.norm = LayerNormalization(norm_epsilon, name="norm", **policy)
        self.mlp = MlpBlock(mlp_dim, mlp_activation, name="mlp", **policy)

    def build(self, input_shape: Shape) -> None:
        width = input_shape[-1]
        self.probe = self.add_weight(
            shape=(1, 1, width), initializer="glorot_uniform", name="probe"
        )
        one = (input_shape[0], 1, width)
        self.attention.build(one, input_shape)
        self.norm.build(one)
        self.mlp.build(one)

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        return_attention_scores: bool = False,
        scores_offset: Tensor = None,
    ) -> Any:
        width = inputs.shape[-1]
        probe = ops.cast(self.probe, self.compute_dtype)
        probe = ops.broadcast_to(probe, (ops.shape(inputs)[0], 1, width))
        patches = inputs
        if self.num_prefix_tokens:  # else a slice would be a needless operator
            patches = inputs[:, self.num_prefix_tokens :]
        scores = None
        x = self.attention(
            probe,
            patches,
            training=training,
            return_attention_scores=return_attention_scores,
            scores_offset=scores_offset,
        )
        if return_attention_scores:
            x, scores = x
        x = x + self.mlp(self.norm(x), training=training)
        output = ops.reshape(x, (-1, width))
        return (output, scores) if return_attention_scores else output

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[-1])

    def compute_output_spec(
        self,
        inputs: Tensor,
        training: bool | None = None,
        return_attention_scores: bool = False,
        scores_offset: Tensor = None,
    ) -> Any:
        images, length, width = inputs.shape
        output = keras.KerasTensor((images, width), self.compute_dtype)
        if not return_attention_scores:
            return output
        shape = (images, self.num_heads, 1, length - self.num_prefix_tokens)
        return output, keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "mlp_activation": self.mlp_activation,
            "head_dim": self.head_dim,
            "norm_epsilon": self.norm_epsilon,
            "num_prefix_tokens": self.num_prefix_tokens,
        }

"""The block of the Transformer encoder."""

from typing import Any

import keras

from .attention import MultiHeadAttention
from .mlp import MlpBlock
from .norm import LayerNormalization
from .regularization import DropPath, LayerScale
from .types import Shape, Tensor


@keras.saving.register_keras_serializable(package="vit_keras")
class EncoderBlock(keras.layers.Layer):
    """Pre-norm Transformer block (arXiv 2010.11929, equations 2 and 3).

    `x = x + attention(norm1(x))`, then `x = x + mlp(norm2(x))`; each branch may be
    scaled by LayerScale and dropped by stochastic depth. With `post_norm` the norms are
    at the ends of the branches: `x = x + norm1(attention(x))`, and so on.

    Arguments:
        num_heads: H, attention heads.
        mlp_dim: hidden width of the MLP.
        head_dim: width of one head; None means D // H.
        mlp_activation: of the first MLP layer, see `MlpBlock`.
        qkv_bias: whether query, key and value have a bias.
        dropout: rate after attention and in the MLP.
        attention_dropout: rate on the attention weights.
        drop_path: probability of dropping a branch.
        layer_scale_init_value: initial value of LayerScale, or None for none.
        qk_norm: layer norm on queries and keys.
        norm_epsilon: epsilon of all norms.
        mlp_out_activation: of the second MLP layer, or None.
        post_norm: whether the norms come behind attention and MLP (residual post-norm,
            arXiv 2111.09883, section 3.2).
        key_bias: whether keys have a bias, if queries and values have.
        attention_norm, mlp_norm: `inner_norm` of attention and MLP.
        mlp_gated: whether the MLP has a gate.
        rotary: arguments of `RotaryEmbedding`, or None.

    Call arguments:
        inputs: (N, T, D).
        return_attention_scores: also return the attention weights (N, H, T, T).
        scores_offset: added to these weights, see `MultiHeadAttention`.

    Returns:
        (N, T, D), or with scores `(output, scores)`.
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        head_dim: int | None = None,
        mlp_activation: str = "gelu",
        qkv_bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
        layer_scale_init_value: float | None = None,
        qk_norm: bool = False,
        norm_epsilon: float = 1e-6,
        mlp_out_activation: str | None = None,
        post_norm: bool = False,
        key_bias: bool = True,
        attention_norm: bool = False,
        mlp_norm: bool = False,
        mlp_gated: bool = False,
        rotary: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.head_dim = head_dim
        self.mlp_activation = mlp_activation
        self.qkv_bias = qkv_bias
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.drop_path = drop_path
        self.layer_scale_init_value = layer_scale_init_value
        self.qk_norm = qk_norm
        self.norm_epsilon = norm_epsilon
        self.mlp_out_activation = mlp_out_activation
        self.post_norm = post_norm
        self.key_bias = key_bias
        self.attention_norm = attention_norm
        self.mlp_norm = mlp_norm
        self.mlp_gated = mlp_gated

        policy = {"dtype": self.dtype_policy}
        self.norm1 = LayerNormalization(norm_epsilon, name="norm1", **policy)
        self.attention = MultiHeadAttention(
            num_heads,
            head_dim,
            qkv_bias,
            attention_dropout,
            qk_norm,
            norm_epsilon,
            key_bias=key_bias,
            inner_norm=attention_norm,
            rotary=rotary,
            name="attention",
            **policy,
        )
        self.attention_out_dropout = keras.layers.Dropout(
            dropout, name="attention_out_dropout", **policy
        )
        self.drop_path1 = DropPath(drop_path, name="drop_path1", **policy)
        self.norm2 = LayerNormalization(norm_epsilon, name="norm2", **policy)
        self.mlp = MlpBlock(
            mlp_dim,
            mlp_activation,
            dropout,
            mlp_out_activation,
            mlp_gated,
            mlp_norm,
            norm_epsilon,
            name="mlp",
            **policy,
        )
        self.drop_path2 = DropPath(drop_path, name="drop_path2", **policy)
        self.layer_scale1 = self.layer_scale2 = None
        if layer_scale_init_value is not None:
            value = layer_scale_init_value
            self.layer_scale1 = LayerScale(value, name="layer_scale1", **policy)
            self.layer_scale2 = LayerScale(value, name="layer_scale2", **policy)

    def build(self, input_shape: Shape) -> None:
        for layer in (self.norm1, self.attention, self.norm2, self.mlp):
            layer.build(input_shape)
        for layer in (self.layer_scale1, self.layer_scale2):
            if layer is not None:
                layer.build(input_shape)

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        return_attention_scores: bool = False,
        scores_offset: Tensor = None,
    ) -> Any:
        x = self.attended(
            inputs,
            training=training,
            return_attention_scores=return_attention_scores,
            scores_offset=scores_offset,
        )
        x, scores = x if return_attention_scores else (x, None)
        x = self.with_mlp(x, training)
        return (x, scores) if return_attention_scores else x

    def attended(self, inputs: Tensor, training: bool | None, **options: Any) -> Any:
        """Return the tokens after attention, and what else its options ask for."""
        x = inputs if self.post_norm else self.norm1(inputs)
        x = self.attention(x, training=training, **options)
        x, *more = x if isinstance(x, tuple) else (x,)
        x = self.attention_out_dropout(x, training=training)
        x = self.norm1(x) if self.post_norm else x
        if self.layer_scale1 is not None:
            x = self.layer_scale1(x)
        x = inputs + self.drop_path1(x, training=training)
        return (x, *more) if more else x

    def with_mlp(self, x: Tensor, training: bool | None) -> Tensor:
        """Return the tokens after the MLP."""
        y = self.mlp(x if self.post_norm else self.norm2(x), training=training)
        y = self.norm2(y) if self.post_norm else y
        if self.layer_scale2 is not None:
            y = self.layer_scale2(y)
        return x + self.drop_path2(y, training=training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def compute_output_spec(
        self,
        inputs: Tensor,
        training: bool | None = None,
        return_attention_scores: bool = False,
        scores_offset: Tensor = None,
    ) -> Any:
        # Computed directly: tracing `call` for it takes ten times as long.
        output = keras.KerasTensor(inputs.shape, self.compute_dtype)
        if not return_attention_scores:
            return output
        images, length = inputs.shape[:2]
        shape = (images, self.num_heads, length, length)
        return output, keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "head_dim": self.head_dim,
            "mlp_activation": self.mlp_activation,
            "qkv_bias": self.qkv_bias,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "drop_path": self.drop_path,
            "layer_scale_init_value": self.layer_scale_init_value,
            "qk_norm": self.qk_norm,
            "norm_epsilon": self.norm_epsilon,
            "mlp_out_activation": self.mlp_out_activation,
            "post_norm": self.post_norm,
            "key_bias": self.key_bias,
            "attention_norm": self.attention_norm,
            "mlp_norm": self.mlp_norm,
            "mlp_gated": self.mlp_gated,
            "rotary": self.attention.rotary,
        }

"""Multi-head attention from Dense layers and plain matrix products."""

from typing import Any

import keras
from keras import ops

from .norm import LayerNormalization
from .rotary import RotaryEmbedding
from .types import Shape, Tensor

# Backends whose `keras.ops.dot_product_attention` is not slower than matmuls. Measured
# on a CPU with 16 images of 197 tokens, D = 384, time fused / plain for inference and
# for a train step: PyTorch 0.91 and 0.99, JAX 1.61 and 1.27, TensorFlow 1.07 and 1.15.
# On TensorFlow it would also add operators that the exported graph must not have.
FUSED_BACKENDS = {"torch": True, "jax": False, "tensorflow": False}


@keras.saving.register_keras_serializable(package="vit_keras")
class MultiHeadAttention(keras.layers.Layer):
    """Multi-head dot-product attention (arXiv 1706.03762, section 3.2).

    `softmax(q k^T / sqrt(d)) v` for each head. Differs from
    `keras.layers.MultiHeadAttention` only in its graph: Dense layers on (N, T, D) and
    tensors of rank 4 at most, so that it converts to builtin TFLite operators that
    int8 kernels, GPU delegates and NPUs support. Query, key and value stay separate,
    because a fused projection needs a reshape to rank 5.

    Letters: N images, T queries, S keys, D width, H heads, d width of a head.

    Arguments:
        num_heads: H.
        head_dim: d; None means D // H.
        qkv_bias: whether the query, key and value projections have a bias.
        dropout: rate on the attention weights, in training only.
        qk_norm: layer norm over d on every query and key before their product
            (arXiv 2302.05442, section 2).
        norm_epsilon: epsilon of these norms.
        key_bias: whether the key projection has one, if the others have.
        inner_norm: layer norm over H*d on all heads' outputs before the output
            projection (EVA-02, arXiv 2303.11331, section 2.1).
        rotary: arguments of `RotaryEmbedding`, by name, for queries and keys; None for
            none.
        fused: whether to use the backend's fused attention; None: where it is faster.
            The weights are the same.

    Call arguments:
        query: (N, T, D).
        value: (N, S, D), source of keys and values; None means self-attention.
        return_attention_scores: also return the weights after the softmax.
        scores_offset: (N, H, T, S), added to these weights; zeros, to differentiate by.
        token_sizes: (N, S, 1), how often each key counts (ToMe, arXiv 2210.09461,
            section 3); None for once.
        return_keys: also return the mean of the heads' keys.

    Returns:
        (N, T, D); with scores `(output, scores)`, scores being (N, H, T, S); with keys
        `(output, keys)`, keys being (N, S, d).

    Weights: kernels of `query`, `key`, `value` (D, H*d), `out` (H*d, D), and biases;
    with `qk_norm` also `query_norm` and `key_norm` over d, and with
    `inner_norm` that one over H*d.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        qk_norm: bool = False,
        norm_epsilon: float = 1e-6,
        fused: bool | None = None,
        key_bias: bool = True,
        inner_norm: bool = False,
        rotary: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.qkv_bias = qkv_bias
        self.dropout = dropout
        self.qk_norm = qk_norm
        self.norm_epsilon = norm_epsilon
        self.fused = fused
        self.key_bias = key_bias
        self.rotary = rotary and {
            name: list(value) if isinstance(value, tuple) else value  # as in JSON
            for name, value in rotary.items()
        }
        self.attention_dropout = keras.layers.Dropout(
            dropout, dtype=self.dtype_policy, name="attention_dropout"
        )
        options = {"epsilon": norm_epsilon, "dtype": self.dtype_policy}
        self.inner_norm = None
        if inner_norm:
            self.inner_norm = LayerNormalization(name="inner_norm", **options)
        self.rotary_embedding = None
        if rotary is not None:
            self.rotary_embedding = RotaryEmbedding(
                **rotary, dtype=self.dtype_policy, name="rotary"
            )
        if qk_norm:
            self.query_norm = LayerNormalization(name="query_norm", **options)
            self.key_norm = LayerNormalization(name="key_norm", **options)

    def build(self, query_shape: Shape, value_shape: Shape | None = None) -> None:
        width = query_shape[-1]
        if self.head_dim is None and width % self.num_heads:
            raise ValueError(
                "The input's width must be a multiple of `num_heads`, or `head_dim` "
                f"given. Received: width={width}, num_heads={self.num_heads}"
            )
        inner = self.num_heads * (self.head_dim or width // self.num_heads)
        for name, units, bias, source in (
            ("query", inner, self.qkv_bias, query_shape),
            ("key", inner, self.qkv_bias and self.key_bias, value_shape or query_shape),
            ("value", inner, self.qkv_bias, value_shape or query_shape),
            ("out", width, True, (*query_shape[:-1], inner)),
        ):
            dense = keras.layers.Dense(
                units, use_bias=bias, dtype=self.dtype_policy, name=name
            )
            dense.build(source)
            setattr(self, name, dense)
        if self.inner_norm is not None:
            self.inner_norm.build((None, None, inner))
        if self.rotary_embedding is not None:
            heads = (None, query_shape[1], self.num_heads, inner // self.num_heads)
            self.rotary_embedding.build(heads)
        if self.qk_norm:
            self.query_norm.build((None, None, None, inner // self.num_heads))
            self.key_norm.build((None, None, None, inner // self.num_heads))

    def call(
        self,
        query: Tensor,
        value: Tensor = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        scores_offset: Tensor = None,
        token_sizes: Tensor = None,
        return_keys: bool = False,
    ) -> Any:
        value = query if value is None else value
        fused = self.fused
        if fused is None:
            fused = FUSED_BACKENDS.get(keras.backend.backend(), False)
        # The fused kernels neither drop attention weights nor return them.
        plain = return_attention_scores or scores_offset is not None
        plain = plain or (training and self.dropout > 0)
        scores = None
        q, k = self._split(self.query(query)), self._split(self.key(value))
        v = self._split(self.value(value))
        if self.qk_norm:
            q, k = self.query_norm(q), self.key_norm(k)
        if self.rotary_embedding is not None:
            q, k = self.rotary_embedding(q), self.rotary_embedding(k)
        keys, counts = k, None
        if token_sizes is not None:
            counts = ops.cast(ops.log(token_sizes), self.compute_dtype)
            counts = ops.reshape(counts, (-1, 1, 1, value.shape[1]))
        if fused and not plain:
            heads = ops.dot_product_attention(q, k, v, bias=counts)
        else:
            q = ops.transpose(q, (0, 2, 1, 3))
            k = ops.transpose(k, (0, 2, 3, 1))
            v = ops.transpose(v, (0, 2, 1, 3))
            q = q * (q.shape[-1] ** -0.5)  # on q: smaller than the T x S scores
            scores = ops.matmul(q, k)
            scores = ops.softmax(scores if counts is None else scores + counts, axis=-1)
            if scores_offset is not None:
                scores = scores + scores_offset
            dropped = self.attention_dropout(scores, training=training)
            heads = ops.transpose(ops.matmul(dropped, v), (0, 2, 1, 3))
        length, inner = query.shape[1], heads.shape[-1] * self.num_heads
        heads = ops.reshape(heads, (-1, length, inner))
        output = self.out(heads if self.inner_norm is None else self.inner_norm(heads))
        if return_keys:
            return output, ops.mean(keys, axis=2)
        return (output, scores) if return_attention_scores else output

    def _split(self, x):
        """Reshape (N, T, H*d) to (N, T, H, d)."""
        length, inner = x.shape[1:]
        return ops.reshape(x, (-1, length, self.num_heads, inner // self.num_heads))

    def compute_output_shape(
        self, query_shape: Shape, value_shape: Shape | None = None
    ) -> Shape:
        return query_shape

    def compute_output_spec(
        self,
        query: Tensor,
        value: Tensor = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        scores_offset: Tensor = None,
        token_sizes: Tensor = None,
        return_keys: bool = False,
    ) -> Any:
        output = keras.KerasTensor(query.shape, self.compute_dtype)
        value = query if value is None else value
        if return_keys:
            width = self.key.units // self.num_heads
            keys = keras.KerasTensor((*value.shape[:2], width), self.compute_dtype)
            return output, keys
        if not return_attention_scores:
            return output
        shape = (query.shape[0], self.num_heads, query.shape[1], value.shape[1])
        return output, keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "qkv_bias": self.qkv_bias,
            "dropout": self.dropout,
            "qk_norm": self.qk_norm,
            "norm_epsilon": self.norm_epsilon,
            "fused": self.fused,
            "key_bias": self.key_bias,
            "inner_norm": self.inner_norm is not None,
            "rotary": self.rotary,
        }

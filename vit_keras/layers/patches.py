"""Conversion of images to tokens: patch projection and extra tokens."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from .norm import LayerNormalization
from .types import Shape, Tensor


@keras.saving.register_keras_serializable(package="vit_keras")
class Patches(keras.layers.Layer):
    """Cut an image into patches and project each one to a token.

    A convolution whose stride is its kernel size (arXiv 2010.11929, section 3.1).
    Letters: N images, H x W pixels, C channels, p x q patch, P = (H/p)(W/q), D width.

    Arguments:
        patch_size: (p, q), height and width of a patch in pixels.
        hidden_size: D.
        patch_norm: layer norm on the flattened patch before the projection and on
            the token after it (lucidrains/vit-pytorch).
        norm_epsilon: epsilon of these two norms.

    Call arguments:
        images: (N, H, W, C), channels last on every backend.

    Returns:
        tokens (N, P, D), row by row.

    Weights: kernel (p, q, C, D), bias (D,); with `patch_norm` also `norm_before`
    over p*q*C, in the order row, column, channel, and `norm_after` over D.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        hidden_size: int,
        patch_norm: bool = False,
        norm_epsilon: float = 1e-6,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.patch_size = tuple(patch_size)
        self.hidden_size = hidden_size
        self.patch_norm = patch_norm
        self.norm_epsilon = norm_epsilon
        if patch_norm:
            options = {"epsilon": norm_epsilon, "dtype": self.dtype_policy}
            self.norm_before = LayerNormalization(name="norm_before", **options)
            self.norm_after = LayerNormalization(name="norm_after", **options)

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        self.kernel = self.add_weight(
            shape=(*self.patch_size, channels, self.hidden_size),
            initializer="lecun_normal",
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self.hidden_size,), initializer="zeros", name="bias"
        )
        if self.patch_norm:
            values = self.patch_size[0] * self.patch_size[1] * channels
            self.norm_before.build((None, None, values))
            self.norm_after.build((None, None, self.hidden_size))

    def call(self, images: Tensor) -> Tensor:
        if self.patch_norm:
            patches = ops.image.extract_patches(
                images, self.patch_size, data_format="channels_last"
            )
            rows, columns, values = patches.shape[1:]
            patches = ops.reshape(patches, (-1, rows * columns, values))
            kernel = ops.reshape(self.kernel, (values, self.hidden_size))
            tokens = ops.matmul(self.norm_before(patches), kernel) + self.bias
            return self.norm_after(tokens)
        tokens = ops.conv(
            images, self.kernel, self.patch_size, "valid", data_format="channels_last"
        )
        rows, columns = tokens.shape[1:3]
        tokens = ops.reshape(tokens, (-1, rows * columns, self.hidden_size))
        return tokens + self.bias

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        rows = input_shape[1] // self.patch_size[0]
        columns = input_shape[2] // self.patch_size[1]
        return (input_shape[0], rows * columns, self.hidden_size)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "hidden_size": self.hidden_size,
            "patch_norm": self.patch_norm,
            "norm_epsilon": self.norm_epsilon,
        }


@keras.saving.register_keras_serializable(package="vit_keras")
class ClassToken(keras.layers.Layer):
    """Prepend learned tokens to a sequence.

    One for the class token of the ViT paper or DeiT's distillation token, several for
    register tokens (arXiv 2309.16588).

    Arguments:
        num_tokens: T, how many.

    Call arguments:
        inputs: (N, P, D). Returns (N, T + P, D).

    Weights: token (1, T, D).
    """

    def __init__(self, num_tokens: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_tokens = num_tokens

    def build(self, input_shape: Shape) -> None:
        # Not zero: equal registers would get equal gradients and stay equal.
        self.token = self.add_weight(
            shape=(1, self.num_tokens, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="token",
        )

    def call(self, inputs: Tensor) -> Tensor:
        shape = (ops.shape(inputs)[0], self.num_tokens, inputs.shape[-1])
        token = ops.broadcast_to(ops.cast(self.token, self.compute_dtype), shape)
        return ops.concatenate([token, inputs], axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, length, width = input_shape
        return (batch, None if length is None else length + self.num_tokens, width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_tokens": self.num_tokens}

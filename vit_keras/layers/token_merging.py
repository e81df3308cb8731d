"""Fewer tokens between two blocks: neighbours of the patch grid become one."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from .types import Shape, Tensor


class _Neighbours(keras.layers.Layer):
    """What a layer of k x k neighbours of the patch grid is made from."""

    def __init__(
        self,
        grid: Sequence[int],
        num_prefix_tokens: int = 0,
        factor: int = 2,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.num_prefix_tokens = num_prefix_tokens
        self.factor = factor

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "grid": self.grid,
            "num_prefix_tokens": self.num_prefix_tokens,
            "factor": self.factor,
        }


@keras.saving.register_keras_serializable(package="vit_keras")
class TokenMerging(_Neighbours):
    """Make one token of each k x k neighbours of the patch grid, by a linear layer.

    At first their mean. Tokens before the patches stay as they are. A grid that is no
    multiple of k has its last row or column repeated: for k = 2 the mean is that of the
    neighbours that are there.

    The mean over channels of a token goes into that of the merged token alone, so that
    layer norms behind ignore it as those before do: `K - 1 (s - mean(s)) / D` is what
    the layer computes with, s being the sums over the D inputs of a neighbour. The
    exports need that to take the mean out of the residual stream.

    Letters: T tokens, h x w of them patches, D width.

    Arguments:
        grid: (h, w), rows and columns of the patches.
        num_prefix_tokens: tokens before the patches.
        factor: k.

    Call arguments:
        inputs: (N, T, D).

    Returns:
        (N, T - h * w + ceil(h / k) * ceil(w / k), D).

    Weights: kernel (k, k, D, D), bias (D,).
    """

    def build(self, input_shape: Shape) -> None:
        k, width = self.factor, input_shape[-1]
        tokens = self.num_prefix_tokens + self.grid[0] * self.grid[1]
        if input_shape[1] != tokens:
            raise ValueError(
                f"Expected {tokens} tokens: a grid of {self.grid} and "
                f"{self.num_prefix_tokens} before it. Received: {input_shape[1]}"
            )

        def mean(shape, dtype):
            kernel = np.broadcast_to(np.eye(width) / k**2, shape)
            return ops.convert_to_tensor(kernel, dtype)

        self.kernel = self.add_weight(
            shape=(k, k, width, width), initializer=mean, name="kernel"
        )
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def effective_kernel(self) -> Tensor:
        """Return what the layer computes with, (k, k, D, D)."""
        sums = ops.sum(self.kernel, axis=2, keepdims=True)
        uneven = sums - ops.mean(sums, axis=3, keepdims=True)
        return self.kernel - uneven / self.kernel.shape[2]

    def call(self, inputs: Tensor) -> Tensor:
        (rows, columns), prefix = self.grid, self.num_prefix_tokens
        k, width = self.factor, inputs.shape[-1]
        x = ops.reshape(inputs[:, prefix:], (-1, rows, columns, width))
        for axis, size in ((1, rows), (2, columns)):
            if size % k:
                last = x[:, -1:] if axis == 1 else x[:, :, -1:]
                x = ops.concatenate([x, *[last] * (-size % k)], axis=axis)
        x = (
            ops.conv(
                x, self.effective_kernel(), k, "valid", data_format="channels_last"
            )
            + self.bias
        )
        x = ops.reshape(x, (-1, x.shape[1] * x.shape[2], width))
        return ops.concatenate([inputs[:, :prefix], x], axis=1) if prefix else x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        rows, columns = (-(-size // self.factor) for size in self.grid)
        tokens = self.num_prefix_tokens + rows * columns
        return (input_shape[0], tokens, input_shape[-1])


@keras.saving.register_keras_serializable(package="vit_keras")
class TokenRepetition(_Neighbours):
    """Repeat each merged token for the k x k patches that it was made of.

    Arguments:
        grid: (h, w), rows and columns of the patches before they were merged.
        num_prefix_tokens: tokens before the patches.
        factor: k.

    Call arguments:
        inputs: (N, T, D), with ceil(h / k) * ceil(w / k) patches.

    Returns:
        (N, prefix + h * w, D).
    """

    def call(self, inputs: Tensor) -> Tensor:
        return repeat_tokens(inputs, self.grid, self.num_prefix_tokens, self.factor)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        tokens = self.num_prefix_tokens + self.grid[0] * self.grid[1]
        return (input_shape[0], tokens, input_shape[-1])


def repeat_tokens(
    inputs: Tensor, grid: Sequence[int], num_prefix_tokens: int, factor: int
) -> Tensor:
    """Return what `TokenRepetition` does, by tensors of rank 4 at most."""
    (rows, columns), prefix, width = grid, num_prefix_tokens, inputs.shape[-1]
    across, down = -(-columns // factor), -(-rows // factor)
    # (N * down, across, D), each token `factor` times, then each row.
    x = ops.reshape(inputs[:, prefix:], (-1, down * across, 1, width))
    x = ops.concatenate([x] * factor, axis=2)
    x = ops.reshape(x, (-1, down, 1, across * factor * width))
    x = ops.concatenate([x] * factor, axis=2)
    x = ops.reshape(x, (-1, down * factor, across * factor, width))
    x = ops.reshape(x[:, :rows, :columns], (-1, rows * columns, width))
    return ops.concatenate([inputs[:, :prefix], x], axis=1) if prefix else x

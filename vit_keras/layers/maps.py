"""Layers between tokens and maps: the patches of an image in rows and columns."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from .types import Shape, Tensor


@keras.saving.register_keras_serializable(package="vit_keras")
class PatchTokens(keras.layers.Layer):
    """Leave out the tokens before the patches.

    Arguments:
        num_prefix_tokens: their number, T - P.

    Call arguments:
        inputs: (N, T, D). Returns (N, P, D).
    """

    def __init__(self, num_prefix_tokens: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_prefix_tokens = num_prefix_tokens

    def call(self, inputs: Tensor) -> Tensor:
        return inputs[:, self.num_prefix_tokens :]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        number, tokens, width = input_shape
        return (number, tokens - self.num_prefix_tokens, width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_prefix_tokens": self.num_prefix_tokens}


@keras.saving.register_keras_serializable(package="vit_keras")
class Unpatchify(keras.layers.Layer):
    """Lay the values of each patch out as k x k pixels: the inverse of `Patches`.

    Behind a Dense layer it is a transposed convolution with kernel and stride k. It is
    written with reshapes and one transposition of rank 4, which every compiler knows;
    many refuse DEPTH_TO_SPACE.

    Arguments:
        factor: k.

    Call arguments:
        inputs: (N, h, w, k * k * F), of each patch row by row.

    Returns:
        (N, k * h, k * w, F).
    """

    def __init__(self, factor: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: Tensor) -> Tensor:
        k = self.factor
        _, height, width, values = inputs.shape
        x = ops.reshape(inputs, (-1, width, k, values // k))
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, k * height, k * width, values // k**2))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        number, height, width, values = input_shape
        k = self.factor
        return (number, k * height, k * width, values // k**2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="vit_keras")
class Resize(keras.layers.Layer):
    """Resize maps by bilinear interpolation.

    Arguments:
        size: (H, W) of the result.
        align_corners: whether the centres of the corner pixels stay where they are, as
            in PyTorch; else the corners of the images do.

    Attributes:
        products: whether it is computed by products with two constant matrices, as
            always with `align_corners`: for compilers that refuse RESIZE_BILINEAR.

    Call arguments:
        inputs: (N, h, w, C). Returns (N, H, W, C).
    """

    def __init__(self, size: Sequence[int], align_corners: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = tuple(size)
        self.align_corners = self.products = align_corners

    def call(self, inputs: Tensor) -> Tensor:
        if tuple(inputs.shape[1:3]) == self.size:
            return inputs
        if not self.products:
            return ops.image.resize(
                inputs, self.size, "bilinear", data_format="channels_last"
            )
        rows, columns = (
            ops.convert_to_tensor(self.matrix(*sizes).T, inputs.dtype)
            for sizes in zip(inputs.shape[1:3], self.size, strict=True)
        )
        # Along the last axis each, so that they become FULLY_CONNECTED.
        x = ops.matmul(ops.transpose(inputs, (0, 2, 3, 1)), rows)  # (N, w, C, H)
        x = ops.matmul(ops.transpose(x, (0, 3, 2, 1)), columns)  # (N, H, C, W)
        # On PyTorch Keras' products of float64 are float32.
        return ops.cast(ops.transpose(x, (0, 1, 3, 2)), inputs.dtype)

    def matrix(self, before: int, after: int) -> np.ndarray:
        """Return the interpolation along one axis, float32 (after, before)."""
        places = np.arange(after)
        if self.align_corners:
            places = places * ((before - 1) / max(after - 1, 1))
        else:
            places = (places + 0.5) * (before / after) - 0.5
        places = np.clip(places, 0, before - 1)
        low = np.floor(places).astype(int)
        high, rows = np.minimum(low + 1, before - 1), np.arange(after)
        matrix = np.zeros((after, before))
        matrix[rows, low] += 1 - (places - low)
        matrix[rows, high] += places - low
        return matrix.astype("float32")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *self.size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        own = {"size": self.size, "align_corners": self.align_corners}
        return {**super().get_config(), **own}


def concatenated(tensors: Sequence[Tensor]) -> Tensor:
    """Join the last axes of tokens of several blocks; one is returned as it is."""
    if len(tensors) == 1:
        return tensors[0]
    return keras.layers.Concatenate(name="taps")(tensors)

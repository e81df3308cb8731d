"""Rotary position embeddings of queries and keys."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..rotary_positions import ROTARY, channel_pairs, rotary_angles
from .types import Shape, Tensor


@keras.saving.register_keras_serializable(package="vit_keras")
class RotaryEmbedding(keras.layers.Layer):
    """Turn pairs of channels of queries or keys by an angle that tells their patch.

    `(a, b)` becomes `(a cos t - b sin t, b cos t + a sin t)` (arXiv 2104.09864, section
    3.2), t being of `rotary_angles`. Tokens before the patches stay as they are.

    Arguments:
        kind: a name in `ROTARY`.
        grid: (rows, columns) of the patches, P = rows * columns.
        temperature, reference_grid: as in `rotary_angles`.

    Call arguments:
        inputs: (N, T, H, d), the last P of the T tokens being patches. Returns the
            same shape.

    Raises:
        ValueError: an unknown kind, or d is no multiple of 4.
    """

    def __init__(
        self,
        kind: str,
        grid: Sequence[int],
        temperature: float | None = None,
        reference_grid: Sequence[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if kind not in ROTARY:
            raise ValueError(
                f"`kind` must be one of {', '.join(ROTARY)}. Received: kind={kind!r}"
            )
        self.kind = kind
        self.grid = tuple(grid)
        self.temperature = temperature
        self.reference_grid = reference_grid and tuple(reference_grid)

    def tables(
        self, tokens: int, head_dim: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return cosines (T, d), sines (T, d) with their signs, and partners (d,).

        A turned vector is `x * cosines + x[..., partners] * sines`; those before the
        patches have cosines 1 and sines 0.

        Raises:
            ValueError: d is no multiple of 4.
        """
        if head_dim % 4:
            raise ValueError(
                "the width of a head must be a multiple of 4 for rotary positions. "
                f"Received: {head_dim}"
            )
        more = self.temperature, self.reference_grid
        angles = rotary_angles(self.kind, self.grid, head_dim, *more)
        first, second = channel_pairs(ROTARY[self.kind].pairs, head_dim)
        cosines, sines = (np.zeros((len(angles), head_dim)) for _ in range(2))
        partners = np.zeros(head_dim, "int32")
        cosines[:, first] = cosines[:, second] = np.cos(angles)
        sines[:, first], sines[:, second] = -np.sin(angles), np.sin(angles)
        partners[first], partners[second] = second, first
        before = ((tokens - len(angles), 0), (0, 0))
        cosines = np.pad(cosines, before, constant_values=1.0)
        return cosines, np.pad(sines, before), partners

    def order(self, head_dim: int) -> np.ndarray:
        """Return the channels (d,): the first of each pair, then the second."""
        return np.concatenate(channel_pairs(ROTARY[self.kind].pairs, head_dim))

    def build(self, input_shape: Shape) -> None:
        # Here and not in each call, which is not traced on every backend.
        cosines, sines, self._partners = self.tables(input_shape[1], input_shape[3])
        self._cosines, self._sines = cosines[:, None], sines[:, None]

    def call(self, inputs: Tensor) -> Tensor:
        cosines, sines = (
            ops.convert_to_tensor(table, dtype=self.compute_dtype)
            for table in (self._cosines, self._sines)
        )
        return inputs * cosines + ops.take(inputs, self._partners, axis=-1) * sines

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kind": self.kind,
            "grid": self.grid,
            "temperature": self.temperature,
            "reference_grid": self.reference_grid,
        }

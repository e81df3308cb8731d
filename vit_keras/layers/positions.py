"""Position embeddings."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from .types import Shape, Tensor


def sincos2d(
    grid: Sequence[int], hidden_size: int, temperature: float = 10_000.0
) -> np.ndarray:
    """Return the fixed sine-cosine embedding of a 2-D grid (arXiv 2205.01580).

    A quarter of the channels each holds sin(x), cos(x), sin(y), cos(y) at D/4
    frequencies that fall geometrically from 1 to 1/temperature.

    Arguments:
        grid: (rows, columns).
        hidden_size: D, a multiple of 4.

    Returns:
        float32 array (rows * columns, D), row by row.
    """
    rows, columns = grid
    exponents = np.linspace(0.0, 1.0, hidden_size // 4)
    frequency = temperature**-exponents
    y = np.repeat(np.arange(rows), columns)[:, None] * frequency
    x = np.tile(np.arange(columns), rows)[:, None] * frequency
    table = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)
    return table.astype("float32")


@keras.saving.register_keras_serializable(package="vit_keras")
class AddPositionEmbs(keras.layers.Layer):
    """Add a position embedding to every token.

    Arguments:
        grid: (rows, columns) of the patches; P = rows * columns.
        num_prefix_tokens: T, number of tokens before the patches in the input.
        kind: "learned", one vector for each of the T + P tokens (arXiv 2010.11929,
            section 3.1), or "sincos2d", fixed, and zero for the T prefix tokens.

    Call arguments:
        inputs: (N, T + P, D). Returns the same shape.

    Weights: embedding (1, T + P, D) if learned, else none.

    Raises:
        ValueError: the input has another number of tokens.
    """

    def __init__(
        self,
        grid: Sequence[int],
        num_prefix_tokens: int = 0,
        kind: str = "learned",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.num_prefix_tokens = num_prefix_tokens
        self.kind = kind
        if kind not in ("learned", "sincos2d"):
            raise ValueError(
                f"`kind` must be 'learned' or 'sincos2d'. Received: kind={kind!r}"
            )

    def build(self, input_shape: Shape) -> None:
        tokens = self.num_prefix_tokens + self.grid[0] * self.grid[1]
        if input_shape[1] != tokens:
            raise ValueError(
                f"Expected {tokens} tokens: a grid of {self.grid} and "
                f"{self.num_prefix_tokens} before it. Received: shape={input_shape}"
            )
        if self.kind == "learned":
            self.embedding = self.add_weight(
                shape=(1, tokens, input_shape[-1]),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
                name="embedding",
            )
        else:
            table = sincos2d(self.grid, input_shape[-1])
            self._table = np.pad(table, ((self.num_prefix_tokens, 0), (0, 0)))[None]

    def call(self, inputs: Tensor) -> Tensor:
        if self.kind == "learned":
            return inputs + self.embedding
        return inputs + ops.convert_to_tensor(self._table, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "grid": self.grid,
            "num_prefix_tokens": self.num_prefix_tokens,
            "kind": self.kind,
        }

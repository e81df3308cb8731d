"""Regularisation of residual branches: LayerScale and stochastic depth."""

from typing import Any

import keras
from keras import ops

from .types import Shape, Tensor


@keras.saving.register_keras_serializable(package="vit_keras")
class LayerScale(keras.layers.Layer):
    """Multiply each channel of a residual branch by a learned factor.

    From CaiT (arXiv 2103.17239, section 2).

    Arguments:
        init_value: initial value of every factor.

    Call arguments:
        inputs: (..., D). Returns the same shape.

    Weights: gamma (D,).
    """

    def __init__(self, init_value: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        self.init_value = init_value

    def build(self, input_shape: Shape) -> None:
        self.gamma = self.add_weight(
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.init_value),
            name="gamma",
        )

    def call(self, inputs: Tensor) -> Tensor:
        return inputs * self.gamma

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "init_value": self.init_value}


@keras.saving.register_keras_serializable(package="vit_keras")
class DropPath(keras.layers.Layer):
    """Stochastic depth: drop the whole residual branch of an image at random.

    From arXiv 1603.09382. Kept branches are divided by the keep probability, so that
    the expectation is unchanged and nothing happens at inference.

    Arguments:
        rate: probability of dropping, in [0, 1).
        seed: integer for repeatable draws, or None.

    Call arguments:
        inputs: (N, ...). Returns the same shape.
    """

    def __init__(self, rate: float = 0.0, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1). Received: rate={rate}")
        self.rate = rate
        self.seed = seed
        # A generator is saved state: without a rate there is none.
        self._generator = keras.random.SeedGenerator(seed) if rate else None

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not training or self._generator is None:
            return inputs
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        uniform = keras.random.uniform(shape, seed=self._generator)
        keep = ops.cast(uniform >= self.rate, inputs.dtype)
        return inputs * (keep / (1.0 - self.rate))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}

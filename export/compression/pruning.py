"""Magnitude pruning during `fit`."""

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .kernels import kernels
from .tfmot_internals import core

UPDATES = 16  # number of mask updates while the sparsity rises


class Pruning(keras.callbacks.Callback):
    """The callback of `export.prune`.

    Before each batch the masks follow the schedule; after it, masked weights are set to
    zero again. Steps are counted across several calls of `fit`.

    Attributes:
        target: the final sparsity, or None if the schedule does not say.
    """

    def __init__(
        self,
        model: keras.Model,
        sparsity: float | str | None,
        schedule: Any,
        exclude: Sequence[str],
    ):
        super().__init__()
        if (sparsity is None) == (schedule is None):
            raise ValueError(
                "Exactly one of `sparsity` and `schedule` must be given. Received: "
                f"sparsity={sparsity!r}, schedule={schedule!r}"
            )
        self.pruned = model
        self.kernels = kernels(model, exclude)
        self.schedule = schedule
        self.pattern, self.target = _parse(sparsity)
        for name in ("final_sparsity", "target_sparsity"):
            self.target = getattr(schedule, name, self.target)
        # tfmot computes a pattern's masks at its step 1 only.
        self._step = tf.Variable(0 if self.pattern else -1, dtype="int64")
        self._update: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._update is not None:
            return
        if self.schedule is None:
            self.schedule = self._default_schedule()
        variables = [
            (k.value, tf.Variable(tf.ones(k.shape), trainable=False), tf.Variable(0.0))
            for k in self.kernels.values()
        ]
        pruning = core("Pruning")(
            training_step_fn=lambda: self._step,
            pruning_vars=variables,
            pruning_schedule=self.schedule,
            block_size=(1, 1),
            block_pooling_type="AVG",
            sparsity_m_by_n=self.pattern,
        )

        def update():
            self._step.assign_add(1)
            pruning.conditional_mask_update()
            pruning.weight_mask_op()

        self._update = tf.function(update)
        self._mask = tf.function(lambda: (pruning.weight_mask_op(), None)[1])

    def _default_schedule(self):
        """Return a schedule that reaches the sparsity after half of this `fit`."""
        if not self.params.get("steps"):
            raise ValueError(
                "`schedule` must be given to `prune`, or `steps_per_epoch` to `fit`: "
                "the number of batches is not known"
            )
        half = max(self.params["steps"] * self.params["epochs"] // 2, 1)
        frequency = -(-half // UPDATES)
        return core("PolynomialDecay")(
            initial_sparsity=0.0,
            final_sparsity=self.target,
            begin_step=0,
            end_step=half // frequency * frequency,  # a step with an update
            frequency=frequency,
        )

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._update()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._mask()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._mask()  # after an optimizer's moving average of the weights

    def sparsity(self) -> float:
        """Return the fraction of zeros in the kernels."""
        zeros = sum(np.sum(np.asarray(k.value) == 0) for k in self.kernels.values())
        return float(zeros / sum(np.prod(k.shape) for k in self.kernels.values()))

    def strip(self) -> keras.Model:
        """End the pruning.

        Returns:
            The model that was pruned, a plain Keras model with zeros in its kernels.

        Raises:
            ValueError: training ended before the sparsity was reached.
        """
        if self._update is not None:
            self._mask()
        reached = self.sparsity()
        rounding = len(self.kernels) / sum(
            np.prod(k.shape) for k in self.kernels.values()
        )
        if self.target is not None and reached < self.target - rounding:
            raise ValueError(
                f"Training must go on until the sparsity is {self.target:g}; it ended "
                f"at {reached:.3f}, after {max(int(self._step), 0)} steps"
            )
        return self.pruned


def _parse(sparsity):
    """Return ((M, N) or None, fraction) of the user's argument."""
    if sparsity is None:
        return None, None
    if isinstance(sparsity, str):
        match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", sparsity)
        if match and int(match[1]) < int(match[2]):
            zeros, of = int(match[1]), int(match[2])
            return (zeros, of), zeros / of
    elif isinstance(sparsity, float) and 0 < sparsity < 1:
        return None, sparsity
    raise ValueError(
        "`sparsity` must be a share in (0, 1) or a pattern such as '2:4'. "
        f"Received: sparsity={sparsity!r}"
    )

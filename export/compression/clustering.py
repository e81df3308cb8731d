"""Weight clustering during `fit`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .kernels import kernels
from .tfmot_internals import core

LLOYD = 20  # rounds of k-means after its initialisation


@dataclasses.dataclass
class _Clustered:
    """A kernel, its unclustered weights, and its cluster centroids."""

    kernel: Any
    original: Any
    centroids: Any
    algorithm: Any
    zero: Any  # index of the centroid kept at zero, or None
    mask: Any  # 0 where weights stay zero, or None


class Clustering(keras.callbacks.Callback):
    """The callback of `export.cluster`.

    As in tfmot, a centroid follows the mean of the optimizer's updates of its members,
    and each unclustered weight its own update, so that it may change to another
    centroid (a straight-through gradient). Between batches the kernels hold clustered
    weights.
    """

    def __init__(
        self,
        model: keras.Model,
        clusters: int,
        keep_zeros: bool,
        exclude: Sequence[str],
    ):
        super().__init__()
        if not isinstance(clusters, int) or clusters < 2 + bool(keep_zeros):
            raise ValueError(
                f"`clusters` must be an integer >= {2 + bool(keep_zeros)}. "
                f"Received: clusters={clusters!r}"
            )
        self.clustered, self.clusters = model, clusters
        self.kernels = kernels(model, exclude)
        for path, kernel in self.kernels.items():
            if np.prod(kernel.shape) < clusters:
                raise ValueError(
                    f"`clusters` must be at most the weights of each kernel; '{path}' "
                    f"has {np.prod(kernel.shape)}. Received: clusters={clusters}"
                )
        self._states = [
            _start(kernel.value, clusters, keep_zeros)
            for kernel in self.kernels.values()
        ]
        self._follow = tf.function(lambda: [_follow(state) for state in self._states])
        self._snap()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._follow()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._snap()  # after an optimizer's moving average of the weights

    def _snap(self):
        for state in self._states:
            nearest = state.algorithm.get_pulling_indices(state.kernel)
            state.kernel.assign(tf.gather(state.centroids, nearest))

    def values(self) -> dict[str, int]:
        """Return {path: number of distinct values in a kernel}."""
        return {
            path: len(np.unique(np.asarray(kernel.value)))
            for path, kernel in self.kernels.items()
        }

    def strip(self) -> keras.Model:
        """End the clustering.

        Returns:
            The model that was clustered, a plain Keras model.
        """
        self._snap()
        return self.clustered


def _start(kernel, clusters, keep_zeros):
    """Cluster a kernel's weights by k-means, initialised by tfmot (k-means++)."""
    weights = tf.convert_to_tensor(kernel)
    guess = core("KmeansPlusPlusCentroidsInitialisation")(
        weights, clusters, preserve_sparsity=keep_zeros
    )
    centroids = tf.Variable(guess.get_cluster_centroids())
    algorithm = core("ClusteringAlgorithm")(
        centroids, cluster_gradient_aggregation=core("GradientAggregation.AVG")
    )
    zero = tf.argmin(tf.abs(centroids)) if keep_zeros else None
    mask = tf.cast(weights != 0, weights.dtype) if keep_zeros else None
    state = _Clustered(kernel, tf.Variable(weights), centroids, algorithm, zero, mask)
    number = centroids.shape[0]
    for _ in range(LLOYD):
        nearest = tf.reshape(algorithm.get_pulling_indices(weights), [-1])
        flat = tf.reshape(weights, [-1])
        members = tf.math.bincount(tf.cast(nearest, "int32"), minlength=number)
        means = tf.math.unsorted_segment_mean(flat, nearest, number)
        centroids.assign(tf.where(members > 0, means, centroids))
        _keep_zero(state)
    return state


def _follow(state):
    """Apply the optimizer's update of the kernel to centroids and weights."""
    nearest = state.algorithm.get_pulling_indices(state.original)
    with tf.GradientTape() as tape:
        clustered = state.algorithm.get_clustered_weight(nearest, state.original)
    # tfmot's rule is for gradients; an update differs in sign and size only.
    values, weights = tape.gradient(
        clustered, [state.centroids, state.original], state.kernel - clustered
    )
    state.centroids.assign_add(tf.convert_to_tensor(values))
    state.original.assign_add(weights)
    _keep_zero(state)
    nearest = state.algorithm.get_pulling_indices(state.original)
    state.kernel.assign(tf.gather(state.centroids, nearest))


def _keep_zero(state):
    if state.zero is None:
        return
    others = tf.one_hot(state.zero, state.centroids.shape[0], 0.0, 1.0)
    state.centroids.assign(state.centroids * others)
    state.original.assign(state.original * state.mask)

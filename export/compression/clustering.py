"""Clustering of weights while `fit` runs."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .kernels import kernels
from .tfmot_internals import core

LLOYD = 20  # rounds of k-means after its first guess


@dataclasses.dataclass
class _Clustered:
    """A kernel, the weights behind it, and the values that it may have."""

    kernel: Any
    original: Any
    centroids: Any
    algorithm: Any
    zero: Any  # which value is kept at zero, or None
    mask: Any  # 0 where the weights stay zero, or None


class Clustering(keras.callbacks.Callback):
    """What `export.cluster` returns.

    As tfmot trains it: a kernel's values follow the mean of what the optimizer did to
    their members, and the weights behind it follow each their own step, so that they
    may change to another value (a straight-through gradient). Between batches the
    kernels hold clustered weights, whoever looks at them.
    """

    def __init__(self, model, clusters, keep_zeros, exclude):
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

    def on_train_batch_end(self, batch, logs=None):
        self._follow()

    def on_train_end(self, logs=None):
        self._snap()  # after an optimizer's moving average of the weights

    def _snap(self):
        for state in self._states:
            nearest = state.algorithm.get_pulling_indices(state.kernel)
            state.kernel.assign(tf.gather(state.centroids, nearest))

    def values(self) -> dict[str, int]:
        """{path: how many different values a kernel has now}"""
        return {
            path: len(np.unique(np.asarray(kernel.value)))
            for path, kernel in self.kernels.items()
        }

    def strip(self):
        """End the clustering.

        Returns:
            The model that was clustered, a plain Keras model.
        """
        self._snap()
        return self.clustered


def _start(kernel, clusters, keep_zeros):
    """k-means of a kernel's weights, from tfmot's first guess (k-means++)."""
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
    """Take what the optimizer did to the kernel over to the values and the weights."""
    nearest = state.algorithm.get_pulling_indices(state.original)
    with tf.GradientTape() as tape:
        clustered = state.algorithm.get_clustered_weight(nearest, state.original)
    # tfmot's rule is one of gradients; a step is the same, with another sign and size.
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

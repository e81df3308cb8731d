"""Internals of TensorFlow Model Optimization in use, which may change in any release.

Its public functions refuse Keras 3 models; the classes below work on plain variables.
Only this file imports them, and `changes` lists the differences in another version.
"""

import importlib.metadata
import inspect
from typing import Any

from ..backend import keras_3_environment
from ..errors import MissingDependency

VERSION = "0.8.1"
# Module of each, and its arguments.
USED = {
    "Pruning": (
        "pruning_impl",
        "training_step_fn pruning_vars pruning_schedule block_size block_pooling_type "
        "sparsity_m_by_n",
    ),
    "Pruning.conditional_mask_update": ("pruning_impl", "self"),
    "Pruning.weight_mask_op": ("pruning_impl", "self"),
    "PolynomialDecay": (
        "pruning_schedule",
        "initial_sparsity final_sparsity begin_step end_step power frequency",
    ),
    "ClusteringAlgorithm": (
        "clustering_algorithm",
        "clusters_centroids cluster_gradient_aggregation data_format",
    ),
    "ClusteringAlgorithm.get_pulling_indices": (
        "clustering_algorithm",
        "self weight centroids",
    ),
    "ClusteringAlgorithm.get_clustered_weight": (
        "clustering_algorithm",
        "self pulling_indices original_weight",
    ),
    "KmeansPlusPlusCentroidsInitialisation": (
        "clustering_centroids",
        "weights number_of_clusters cluster_per_channel data_format preserve_sparsity",
    ),
    "KmeansPlusPlusCentroidsInitialisation.get_cluster_centroids": (
        "clustering_centroids",
        "self",
    ),
    "GradientAggregation.AVG": ("cluster_config", ""),
}


def core(name: str) -> Any:
    """Return a class of `USED`.

    Raises:
        MissingDependency: the installed version does not have it.
    """
    try:
        return _find(name)
    except (ImportError, AttributeError) as error:
        raise MissingDependency(
            f"tensorflow-model-optimization=={VERSION} is needed here, and what is "
            f"installed has no {name}: pip install 'vit-keras-edge[qat]'"
        ) from error


def changes() -> list[str]:
    """Return how the installed version differs from `VERSION`; [] if it does not.

    One line for each class or method that is missing or has other arguments.
    """
    found = []
    for name, (_, expected) in USED.items():
        try:
            value = _find(name)
        except (ImportError, AttributeError) as error:
            found.append(f"{name} is gone: {error}")
            continue
        if expected:
            taken = " ".join(inspect.signature(value).parameters)
            if taken != expected:
                found.append(f"{name} takes ({taken}), not ({expected})")
    if found:
        version = importlib.metadata.version("tensorflow-model-optimization")
        found.insert(0, f"tensorflow-model-optimization {version}, not {VERSION}:")
    return found


def _find(name) -> Any:
    with keras_3_environment():
        from tensorflow_model_optimization.python.core.clustering.keras import (
            cluster_config,
            clustering_algorithm,
            clustering_centroids,
        )
        from tensorflow_model_optimization.python.core.sparsity.keras import (
            pruning_impl,
            pruning_schedule,
        )
    modules = {
        "cluster_config": cluster_config,
        "clustering_algorithm": clustering_algorithm,
        "clustering_centroids": clustering_centroids,
        "pruning_impl": pruning_impl,
        "pruning_schedule": pruning_schedule,
    }
    value: Any = modules[USED[name][0]]
    for part in name.split("."):
        value = getattr(value, part)
    return value

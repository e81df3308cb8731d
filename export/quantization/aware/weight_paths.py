"""Roles of the inference graph's weights, by their paths in `Weights`."""

import numpy as np

from ...graph.orthogonal import orthogonal
from ...graph.sparsity import VALUES
from ...graph.vit_weights import Weights
from ...graph.weight_tree import map_arrays
from . import EXCLUDED


def frozen_paths(weights: Weights, values) -> list[str]:
    """Return paths of weights that are not trained: constants, `unrotate`, and
    clustered kernels, which consist of their trained values."""
    paths = []
    map_arrays(weights, lambda path, array: paths.append((path, array.size)))
    fixed = ["scale", "offset", *values]
    if weights.config.positions != "learned":
        fixed.append("positions")
    return [
        path
        for path, size in paths
        if not size or path in fixed or path.startswith("unrotate")
    ]


def is_writer(path) -> bool:
    """Return whether a weight writes to the residual stream."""
    if path in ("prefix", "positions") or path.startswith(("embedding.", "merges.")):
        return True
    return ".out." in path and path.startswith("blocks") or ".dense2." in path


def kernel_paths(weights: Weights) -> list[str]:
    """Return paths of the kernels of linear layers."""
    paths = []
    map_arrays(weights, lambda path, _: paths.append(path))
    return [path for path in paths if path.endswith("kernel")]


def mean_direction(weights: Weights) -> np.ndarray:
    """Return the unit vector (D,) along which the rotated residual stream has its mean;
    zeros if it is not rotated and the norms still subtract the mean."""
    width = weights.config.hidden_size
    if weights.centred:
        return np.zeros(width)
    return orthogonal(width).mean(0) * width**0.5


def few_values(weights) -> dict[str, int]:
    """Return {path of a clustered kernel: number of distinct values}."""
    found = {}

    def count(path, array):
        if path.endswith("kernel"):
            number = len(np.unique(array.astype("float32")))
            if number <= min(VALUES, array.size // 4):
                found[path] = number

    map_arrays(weights, count)
    return found


def kernel_bits(weights, weight_bits, exclude) -> dict[str, int]:
    """Return {path of a kernel: bits}."""
    names = {"embedding": "embedding.", "pre_logits": "pre_logits.", "pooling": "pool."}
    heads = zip(("head", "head_dist"), weights.heads, strict=False)
    names |= {name: f"heads.{i}." for i, (name, _) in enumerate(heads)}
    blocks = range(len(weights.blocks))
    names |= {f"encoderblock_{i}": f"blocks.{i}." for i in blocks}
    names |= {
        f"token_merging_{merge.before}": f"merges.{i}."
        for i, merge in enumerate(weights.merges)
    }
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    unknown = set(exclude) - set(names) - set(EXCLUDED)
    if unknown:
        raise ValueError(
            f"`exclude` must name layers: {', '.join(names)}. "
            f"Received: {', '.join(sorted(unknown))}"
        )
    fine = tuple(names[name] for name in exclude if name in names)
    return {
        path: 8 if path.startswith(fine) else weight_bits
        for path in kernel_paths(weights)
    }

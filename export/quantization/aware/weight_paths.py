"""Which weights of the inference graph are what, by their places in `Weights`."""

import numpy as np

from ...graph.rewrites import orthogonal
from ...graph.sparsity import VALUES
from ...graph.vit_weights import Weights
from ...graph.weight_tree import map_arrays
from . import EXCLUDED


def frozen(weights: Weights, values) -> list[str]:
    """Places of what does not train: constants, what undoes the rotation of the stream,
    and kernels that are put together from their values."""
    places = []
    map_arrays(weights, lambda place, array: places.append((place, array.size)))
    fixed = ["scale", "offset", *values]
    if weights.config.positions != "learned":
        fixed.append("positions")
    return [
        place
        for place, size in places
        if not size or place in fixed or place.startswith("unmix")
    ]


def is_writer(place) -> bool:
    """Whether a weight writes to the residual stream."""
    if place in ("prefix", "positions") or place.startswith("embedding."):
        return True
    return ".out." in place and place.startswith("blocks") or ".dense2." in place


def kernels(weights: Weights) -> list[str]:
    """Places of the kernels of linear layers."""
    places = []
    map_arrays(weights, lambda place, _: places.append(place))
    return [place for place in places if place.endswith("kernel")]


def mean_direction(weights: Weights) -> np.ndarray:
    """Unit vector (D,) along which the residual stream had its mean before it was
    rotated; zeros if it was not, and the norms still subtract the mean."""
    width = weights.config.hidden_size
    if weights.norm.centred:
        return np.zeros(width)
    return orthogonal(width).mean(0) * width**0.5


def few_values(weights) -> dict[str, int]:
    """{place of a clustered kernel: number of its values}."""
    found = {}

    def count(place, array):
        if place.endswith("kernel"):
            number = len(np.unique(array.astype("float32")))
            if number <= min(VALUES, array.size // 4):
                found[place] = number

    map_arrays(weights, count)
    return found


def kernel_bits(weights, weight_bits, exclude) -> dict[str, int]:
    """{place of a kernel: bits}."""
    names = {"embedding": "embedding.", "pre_logits": "pre_logits.", "pooling": "pool."}
    heads = zip(("head", "head_dist"), weights.heads, strict=False)
    names |= {name: f"heads.{i}." for i, (name, _) in enumerate(heads)}
    blocks = range(len(weights.blocks))
    names |= {f"encoderblock_{i}": f"blocks.{i}." for i in blocks}
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    unknown = set(exclude) - set(names) - set(EXCLUDED)
    if unknown:
        raise ValueError(
            f"`exclude` must name layers: {', '.join(names)}. "
            f"Received: {', '.join(sorted(unknown))}"
        )
    fine = tuple(names[name] for name in exclude if name in names)
    return {
        place: 8 if place.startswith(fine) else weight_bits
        for place in kernels(weights)
    }

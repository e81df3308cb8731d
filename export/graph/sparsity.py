"""Rewrites that would undo pruning or clustering.

A compressed file is small because of zeros, or of few distinct values per kernel. Both
are detected in the weights themselves.
"""

import numpy as np

from .rewrites import attentions, norms
from .vit_weights import Weights

SPARSE = 0.05  # fraction of zeros above which a model counts as pruned
VALUES = 256  # distinct values that fit in 8 bits

# They add different weights, which leaves no zeros.
MIXING = ("centre_writers", "rotate_stream", "rotate_heads", "fold_probe")
# They multiply each row or column by its own factor.
SCALING = ("fold_layer_scale", "fold_norms")


def rewrites_that_break_sparsity(weights: Weights) -> tuple[tuple[str, ...], str]:
    """Return names of the rewrites to skip, and a note with the reason, or "".

    Arguments:
        weights: as trained, before rewrites.
    """
    kernels = [linear.kernel for linear in _linears(weights)]
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels)
    share = zeros / sum(kernel.size for kernel in kernels)
    few = [len(np.unique(k)) <= min(VALUES, k.size // 4) for k in kernels]
    if 2 * sum(few) >= len(few):
        made = f"{sum(few)} kernels have at most {VALUES} different values"
        names = (*SCALING, *MIXING)
    elif share >= SPARSE:
        made, names = f"{share:.0%} of the weights are zero", MIXING
    else:
        return (), ""
    return names, f"{made}; left out to keep them: {', '.join(names)}"


def keep_gammas(weights: Weights):
    """Mark all norms `gamma_first`, so that the converter does not fold them either."""
    pool = [] if weights.pool is None else [weights.pool[2]]
    for norm in (*norms(weights), *pool):
        norm.gamma_first = True


def _linears(weights):
    for attention in attentions(weights):
        yield from (attention.query, attention.key, attention.value, attention.out)
    for block in weights.blocks:
        yield from (block.dense1, block.dense2)

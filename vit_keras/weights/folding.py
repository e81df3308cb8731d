"""Files joined, and batch norms folded, before a layout sees them."""

import dataclasses

import numpy as np

from .entries import CheckpointError, Entry

EPSILON = 1e-5  # of PyTorch's batch norms
PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def joined(checkpoint, other):
    """Return two checkpoints as one: an encoder, and a decoder in a file of its own.

    Raises:
        CheckpointError: both have an array of one name, or one is a whole model.
    """
    both = sorted(checkpoint.entries.keys() & other.entries.keys())
    received = ", ".join(both[:3]) or "models"
    if both or checkpoint.config is not None or other.config is not None:
        raise CheckpointError(
            f"`decoder_weights` must have the decoder alone, and '{checkpoint.path}' "
            f"none. Received: '{other.path}', both with {received}"
        )
    entries = {**checkpoint.entries, **other.entries}
    return dataclasses.replace(checkpoint, entries=entries)


def fold_batch_norms(checkpoint, pairs):
    """Return a checkpoint with batch norms folded into what is behind them.

    `kernel (g (x - mean) / root + b) + bias`, root being that of the variance, is
    `(kernel g / root) x + (bias + kernel (b - mean g / root))`.

    Arguments:
        checkpoint: with the names of PyTorch.
        pairs: {batch norm: the linear layer or convolution 1 x 1 behind it}.
    """
    entries = dict(checkpoint.entries)
    for norm, layer in pairs.items():
        names = [f"{norm}.{part}" for part in PARTS[:4]]
        kernel, bias = (entries.get(f"{layer}.{part}") for part in ("weight", "bias"))
        if kernel is None or bias is None or not entries.keys() >= set(names):
            continue
        parts = [entries.pop(name) for name in names]
        entries.pop(f"{norm}.{PARTS[4]}", None)
        folded = _folded(kernel, bias, parts)
        for part, old, index in (("weight", kernel, 0), ("bias", bias, 1)):

            def read(folded=folded, index=index):
                return folded()[index]

            entries[f"{layer}.{part}"] = Entry(old.shape, np.dtype("float32"), read)
    return dataclasses.replace(checkpoint, entries=entries)


def _folded(kernel, bias, parts):
    def compute():
        gamma, beta, mean, variance = (part.read().astype("float64") for part in parts)
        matrix = kernel.read().astype("float64").reshape(len(bias.read()), -1)
        scale = gamma / np.sqrt(variance + EPSILON)
        shift = bias.read().astype("float64") + matrix @ (beta - mean * scale)
        weight = (matrix * scale).reshape(kernel.shape)
        return weight.astype("float32"), shift.astype("float32")

    return compute

"""Whole files, ways to damage them, and how a refusal must be."""

import contextlib
import time

import numpy as np
import pytest
from hypothesis import strategies as st

from benchmarks.reliability.byte_mutations import damage as damage
from tests.vit_keras.weights.golden_files import GOLDEN
from vit_keras import CheckpointError, from_checkpoint
from vit_keras.weights.describe import describe
from vit_keras.weights.loader import find
from vit_keras.weights.recognise import recognise

NPZ = GOLDEN / "augreg-token" / "model.npz"
SAFETENSORS = GOLDEN / "timm-token" / "model.safetensors"
H5 = GOLDEN / "kh-token" / "model.weights.h5"
SHARDS = GOLDEN / "hf-sharded"
SECONDS = 5.0  # what a refusal may take at most; it takes a few milliseconds


@contextlib.contextmanager
def unchanged(model):
    before = model.get_weights()
    yield
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def refuses(path, *words, named=None, act=from_checkpoint):
    """Checks that a file is refused in one short line with its name; returns it."""
    start = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        act(path)
    assert time.monotonic() - start < SECONDS
    message = str(caught.value)
    assert str(named or path) in message, message
    assert "\n" not in message and len(message) < 800, message
    for word in words:
        assert word in message, message
    return message


def read_all(path):
    """Everything in a file, as far as a model needs it."""
    checkpoint = find(path)
    for entry in checkpoint.entries.values():
        array = entry.read()
        assert array.shape == entry.shape and array.dtype == entry.dtype
    match = recognise(checkpoint)
    return describe(match, num_heads=2)


def compressed(folder):
    path = folder / "compressed.npz"
    with np.load(NPZ) as arrays:
        np.savez_compressed(path, **arrays)
    return path


KINDS = {
    "npz": lambda folder: NPZ,
    "compressed": compressed,
    "safetensors": lambda folder: SAFETENSORS,
    "h5": lambda folder: H5,
    "shard": lambda folder: SHARDS / "model-00002-of-00003.safetensors",
}


CUTS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True) | st.sampled_from([0.0, 0.002, 0.98, 0.999]),
        st.integers(0, 8),
        st.binary(max_size=8),
    ),
    min_size=1,
    max_size=3,
)

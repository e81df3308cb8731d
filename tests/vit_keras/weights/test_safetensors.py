"""Safetensors: odd headers, and the types that are weights."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy as safetensors

from tests.vit_keras.weights.damaged import NPZ, SAFETENSORS, refuses
from vit_keras import from_checkpoint
from vit_keras.weights.formats import open_checkpoint

# Bare files of timm: what they leave open has tests of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*nothing in the file tells")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ml_dtypes.bfloat16])
def test_precisions_of_safetensors(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    source = safetensors.load_file(SAFETENSORS)
    safetensors.save_file({n: a.astype(dtype) for n, a in source.items()}, path)
    assert {e.dtype for e in open_checkpoint(path).entries.values()} == {
        np.dtype(dtype)
    }
    model, expected = (from_checkpoint(f, num_heads=2) for f in (path, SAFETENSORS))
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2**-8, atol=0)
        np.testing.assert_array_equal(a, b.astype(dtype).astype("f4"))


def with_header(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def tensor(dtype="F32", shape=(5,), offsets=(0, 20)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "header",
    [
        {"a": tensor(shape=[10**18])},
        {"a": tensor(shape=[2**62, 8])},
        {"a": tensor(shape=[2**64, 2**64])},
        {"a": tensor(shape=[-5])},
        {"a": tensor(shape=[6])},
        {"a": tensor(offsets=[0, 10**15])},
        {"a": tensor(offsets=[20, 0])},
        {"a": tensor(offsets=[-4, 16])},
        {"a": tensor(), "b": tensor()},  # overlap
        {"a": tensor(dtype="F99")},
        {"a": 3},
        {"a": {}},
        [],
        3,
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_headers_of_safetensors_that_can_not_be(tmp_path, header):
    path = with_header(tmp_path / "a.safetensors", header, bytes(20))
    refuses(path, "truncated, corrupt or of another format")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**8 + 1, 21, 0])
def test_lengths_of_the_header_that_can_not_be(tmp_path, length):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + bytes(20))
    refuses(path, "truncated, corrupt or of another format")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "U16", "U64"])
def test_quantised_dtypes_of_safetensors(tmp_path, dtype):
    size = 5 * {"F8": 1, "U1": 2, "U6": 8}[dtype[:2]]
    header = {"a": tensor(dtype, offsets=(0, size))}
    path = with_header(tmp_path / "a.safetensors", header, bytes(size))
    refuses(path, f"a has dtype {dtype}; quantised weights cannot be loaded")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "bool"])
@pytest.mark.parametrize("source", [NPZ, SAFETENSORS])
def test_integers_are_no_weights(tmp_path, source, dtype):
    arrays = {n: e.read() for n, e in open_checkpoint(source).entries.items()}
    name = next(n for n in arrays if n.endswith(("Dense_0/kernel", "mlp.fc1.weight")))
    arrays[name] = np.ones(arrays[name].shape, dtype)
    path = tmp_path / f"model{source.suffix}"
    np.savez(path, **arrays) if source == NPZ else safetensors.save_file(arrays, path)
    words = f"{name} has dtype {dtype}; weights must be floating-point"
    refuses(path, words, act=lambda p: from_checkpoint(p, num_heads=2))

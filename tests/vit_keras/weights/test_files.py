"""Damaged and foreign files: one clear line, quickly, and nothing executed."""

import warnings

import h5py
import numpy as np
import pytest
import safetensors.numpy as safetensors
from hypothesis import HealthCheck, given, settings

from tests.vit_keras.weights.damaged import (
    CUTS,
    H5,
    KINDS,
    NPZ,
    SAFETENSORS,
    SHARDS,
    damage,
    read_all,
    refuses,
)
from vit_keras import CheckpointError, from_checkpoint
from vit_keras.weights.loader import find

every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated(tmp_path, kind, share):
    source = KINDS[kind](tmp_path)
    data = source.read_bytes()
    path = tmp_path / f"cut{''.join(source.suffixes)}"
    path.write_bytes(data[: int(len(data) * share)])
    if kind != "shard":
        refuses(path, "truncated, corrupt or of another format")
        return
    for file in SHARDS.glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path.replace(tmp_path / source.name)
    refuses(tmp_path, named=tmp_path / source.name)
    refuses(tmp_path / "model.safetensors.index.json", named=tmp_path / source.name)


HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 50
JUNK = np.random.default_rng(0).bytes(5000)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".h5", ".weights.h5"])
@pytest.mark.parametrize("data", [HTML, JUNK, b"\0" * 3000, b"PK\x03\x04", b"\n"])
def test_other_content(tmp_path, suffix, data):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(data)
    refuses(path, "truncated, corrupt or of another format")


@pytest.mark.parametrize("data", [HTML, JUNK, b"", b"PK\x03\x04"])
def test_other_content_of_a_keras_file(tmp_path, data):
    path = tmp_path / "file.keras"
    path.write_bytes(data)
    refuses(path, "cannot be opened")


@pytest.mark.parametrize(
    ("source", "suffix"),
    [
        (NPZ, ".safetensors"),
        (NPZ, ".h5"),
        (SAFETENSORS, ".npz"),
        (SAFETENSORS, ".h5"),
        (H5, ".npz"),
        (H5, ".safetensors"),
    ],
)
def test_wrong_suffix(tmp_path, source, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(source.read_bytes())
    refuses(path, "of another format")


@pytest.mark.parametrize("name", ["file", "file.txt", "file.NPZ", "file.json", ".npz"])
def test_unknown_suffix(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(NPZ.read_bytes())
    refuses(path, "must end in one of .npz, .safetensors")


@pytest.mark.parametrize("files", [[], ["other.safetensors"], ["config.json"]])
def test_a_folder_without_weights(tmp_path, files):
    for name in files:
        (tmp_path / name).write_text("{}")
    refuses(tmp_path, "a folder that holds one of model.safetensors")


@pytest.mark.parametrize("name", ["no.npz", "no.safetensors", "no.h5", "no.keras"])
@pytest.mark.parametrize("act", [from_checkpoint, find])
def test_no_file(tmp_path, name, act):
    with pytest.raises(FileNotFoundError, match=name):
        act(tmp_path / name)


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 5000])
def test_no_name_of_a_file(path):
    with pytest.raises(FileNotFoundError, match="must be an existing file"):
        from_checkpoint(path)


def test_files_without_arrays(tmp_path):
    np.savez(path := tmp_path / "a.npz")
    refuses(path, "holds no arrays")
    safetensors.save_file({}, path := tmp_path / "a.safetensors")
    refuses(path, "holds no arrays")
    with h5py.File(path := tmp_path / "a.h5", "w") as file:
        file["text"] = "no number"
    refuses(path, "holds no arrays")


# Fuzzing: whatever the bytes are, the file is read or refused.
@pytest.mark.parametrize("kind", ["npz", "compressed", "safetensors", "h5"])
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cuts=CUTS)
def test_any_damage_is_noticed_or_harmless(tmp_path, kind, cuts):
    source = KINDS[kind](tmp_path)
    path = tmp_path / f"damaged{''.join(source.suffixes)}"
    path.write_bytes(damage(source.read_bytes(), cuts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of a header that Python 2 wrote
        try:
            read_all(path)
        except CheckpointError as error:
            assert "\n" not in str(error)

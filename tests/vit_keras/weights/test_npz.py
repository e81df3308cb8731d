"""Archives of NumPy: odd headers, bombs, pickles; nothing executed or half-loaded."""

import pathlib
import pickle
import struct
import warnings
import zipfile
import zlib

import ml_dtypes
import numpy as np
import pytest

from tests.models import randomise, tiny
from tests.vit_keras.weights.damaged import NPZ, compressed, refuses, unchanged
from vit_keras import (
    CheckpointError,
    create_model,
    from_checkpoint,
    load_weights,
    save_checkpoint,
)
from vit_keras.weights.formats import open_checkpoint


@pytest.fixture(scope="module")
def npz_model():
    """The model of the `.npz`, with other weights."""
    return randomise(from_checkpoint(NPZ), seed=7)


def members(path):
    """{name: the bytes of the `.npy`} of an archive."""
    with zipfile.ZipFile(path) as archive:
        return {n: archive.read(n) for n in archive.namelist()}


def archive_of(path, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def npy(header, data=b"", version=(1, 0)):
    """A `.npy` file with any header."""
    header = header.encode("latin1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header + data


BIAS, WIDTH = "Transformer/encoder_norm/bias", 8


def bias(shape=f"({WIDTH},)", descr="'<f4'", data=bytes(4 * WIDTH), **options):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    return npy(header, data, **options)


def with_bias(folder, content):
    """The golden file with another bias of its last norm."""
    changed = {**members(NPZ), f"{BIAS}.npy": content}
    return archive_of(folder / "model.npz", changed)


def test_a_stored_and_a_compressed_file_are_the_same(tmp_path):
    path = compressed(tmp_path)
    assert path.stat().st_size < NPZ.stat().st_size
    expected = from_checkpoint(NPZ).get_weights()
    for a, b in zip(from_checkpoint(path).get_weights(), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions_of_the_header(tmp_path, version):
    path = with_bias(tmp_path, bias(version=version))
    assert not from_checkpoint(path).get_layer("encoder_norm").beta.numpy().any()


class Bomb:
    """Runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.write_text, (self.path, "executed"))


def test_pickled_objects_are_not_executed(tmp_path, npz_model):
    proof = tmp_path / "executed.txt"
    pickle.loads(pickle.dumps(Bomb(proof)))
    assert proof.exists()  # so it works
    proof.unlink()
    path = tmp_path / "model.npz"
    with np.load(NPZ) as arrays:
        objects = np.array([Bomb(proof)] * WIDTH, dtype=object)
        np.savez(path, **{**arrays, BIAS: objects}, allow_pickle=True)
    refuses(path, f"{BIAS}.npy holds pickled objects")
    with unchanged(npz_model):
        refuses(path, act=lambda p: load_weights(npz_model, p, strict=False))
    content = bias(descr="'|O'", data=pickle.dumps(Bomb(proof)))
    refuses(with_bias(tmp_path, content), "pickled objects")
    # A plain `.npy`, and a pickle in place of one.
    refuses(with_bias(tmp_path, pickle.dumps(Bomb(proof))), "truncated, corrupt")
    path.write_bytes(pickle.dumps(Bomb(proof)))
    refuses(path, "truncated, corrupt")
    assert not proof.exists()


@pytest.mark.parametrize(
    "shape",
    ["(9,)", "(7,)", "()", "(8, 1000000)", f"({10**30},)", "(0,)", "(-8,)"],
)
def test_a_header_that_lies_about_its_size(tmp_path, shape):
    refuses(with_bias(tmp_path, bias(shape)), f"{BIAS}.npy says")


@pytest.mark.parametrize(
    "content",
    [
        bias("(-1, -8)"),
        bias("(True, 8)"),
        bias("8"),
        bias("(8.0,)"),
        bias("('8',)"),
        bias("[" * 5000),
        bias("(8,", data=b""),
        bias("(8,) + (1,)"),
        bias("__import__('os')"),
        bias(descr="'<f3'"),
        bias(descr="'?f4?'"),
        bias(descr="None"),
        bias(descr="[('a', '|O')]"),
        bias(descr="[('a', '<f4')]"),
        bias(descr="('<f4', (8,))", shape="()"),
        bias(descr="{}"),
        npy("{}"),
        npy("{1: 2, 'a': 3}"),
        npy("[]"),
        npy("'''"),
        npy("\tx\n  y\n z"),
        npy("{'descr': '<f4'" + " " * 20_000, version=(2, 0)),
        npy("{'descr': '<f4', 'fortran_order': 3, 'shape': (8,)}", bytes(32)),
        b"\x93NUMPY\x09\x09",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"",
    ],
)
def test_headers_that_can_not_be(tmp_path, content, npz_model):
    path = with_bias(tmp_path, content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of a header that Python 2 wrote
        with unchanged(npz_model), pytest.raises(CheckpointError) as caught:
            load_weights(npz_model, path)
    assert str(path) in str(caught.value)


def end_of(path, name):
    """Where the data of a member end in the file."""
    with zipfile.ZipFile(path) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        at = [info.filename for info in infos].index(f"{name}.npy")
        end = infos[at + 1].header_offset if at + 1 < len(infos) else archive.start_dir
    return end


LARGE = "Transformer/encoderblock_1/MlpBlock_3/Dense_1/kernel"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model, and its file with arrays that are not read whole with their headers."""
    model = create_model(tiny(mlp_dim=600, mlp_activation="gelu_tanh"))
    path = tmp_path_factory.mktemp("large") / "model.npz"
    save_checkpoint(randomise(model), path, "augreg")
    return randomise(model, seed=7), path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_is_found_before_anything_changes(tmp_path, large, save):
    """The checksum of an array is only compared when all of it is read."""
    model, source = large
    with np.load(source) as arrays:
        save(path := tmp_path / "model.npz", **arrays)
    data = bytearray(path.read_bytes())
    data[end_of(path, LARGE) - 9000] ^= 0x40
    path.write_bytes(data)
    open_checkpoint(path)  # names and shapes are whole
    with unchanged(model):
        refuses(path, "corrupt", act=lambda p: load_weights(model, p))
        refuses(path, "corrupt", act=lambda p: load_weights(model, p, strict=False))
    load_weights(model, source)  # it is the bit alone


def zeros_of(size):
    """Raw deflate data of `size` zeros and their checksum, without making them."""
    block = bytes(2**24)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    assert size % len(block) == 0
    return packed * (size // len(block)) + packer.flush()


def test_a_bomb_is_refused_at_once(tmp_path, monkeypatch):
    """3 GiB of zeros in some megabytes; its header is right, so nothing else stops it.

    The archive is written with the packed data as if they were stored; then the
    method and the sizes in its two headers are set right.
    """
    size = 3 * 2**30
    head = bias(f"({size // 4},)", data=b"")
    start = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = start.compress(head) + start.flush(zlib.Z_FULL_FLUSH) + zeros_of(size)
    path = tmp_path / "model.npz"
    info = zipfile.ZipInfo("head/bias.npy")
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        archive.writestr(info, packed)
        info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, size + len(head)
    data = bytearray(path.read_bytes())
    data[8:10] = struct.pack("<H", zipfile.ZIP_DEFLATED)
    data[22:26] = struct.pack("<I", size + len(head))
    path.write_bytes(data)
    assert path.stat().st_size < 2**23
    with zipfile.ZipFile(path) as archive:  # it does unpack to what it says
        assert archive.infolist()[0].file_size == size + len(head)
        with archive.open("head/bias.npy") as file:
            assert file.read(len(head) + 2**20) == head + bytes(2**20)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)  # nothing is unpacked
    refuses(path, f"would unpack to {size + len(head):,} bytes")


def test_sizes_of_many_arrays_are_added_up(tmp_path, monkeypatch):
    monkeypatch.setattr("vit_keras.weights.entries.BOMB_ALLOWANCE", 2**20)
    path = tmp_path / "model.npz"
    np.savez_compressed(path, **{f"a{i}": np.zeros(2**16, "f4") for i in range(8)})
    refuses(path, "would unpack to")
    np.savez_compressed(path, **{f"a{i}": np.zeros(2**15, "f4") for i in range(7)})
    refuses(path, "fits no known layout")  # so it was opened


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(tmp_path, method):
    path = archive_of(tmp_path / "model.npz", members(NPZ), method)
    refuses(path, "is compressed otherwise")


def test_an_encrypted_archive_is_refused(tmp_path):
    data = bytearray(NPZ.read_bytes())
    with zipfile.ZipFile(NPZ) as archive:
        start = archive.start_dir
    data[start + 8] |= 1  # flag bit 0 of the first entry of the directory
    data[6] |= 1
    (tmp_path / "model.npz").write_bytes(data)
    refuses(tmp_path / "model.npz", "encrypted")


def test_names_are_never_paths(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    evil = {"../escaped.npy": bias(), "/tmp/../escaped.npy": bias()}
    path = archive_of(folder / "model.npz", {**members(NPZ), **evil})
    with pytest.raises(CheckpointError, match="not in the model: .*escaped"):
        from_checkpoint(path)
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "model.npz"]


def test_raw_pairs_of_bytes_are_bfloat16(tmp_path):
    """NumPy knows no bfloat16 and stores it as `V2`."""
    value = np.arange(6, dtype="f4").reshape(2, 3)
    np.savez(path := tmp_path / "a.npz", a=value.astype(ml_dtypes.bfloat16).view("V2"))
    entry = open_checkpoint(path).entries["a"]
    assert entry.dtype == ml_dtypes.bfloat16 and entry.nbytes == 12
    np.testing.assert_array_equal(entry.read().astype("f4"), value)

"""Damaged, hostile and foreign files: one clear line, quickly, and nothing executed."""

import contextlib
import json
import pathlib
import pickle
import struct
import time
import warnings
import zipfile
import zlib

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy as safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.models import randomise, tiny
from vit_keras import (
    CheckpointError,
    create_model,
    from_checkpoint,
    load_weights,
    save_checkpoint,
)
from vit_keras.weights.describe import describe
from vit_keras.weights.formats import open_checkpoint
from vit_keras.weights.loader import find
from vit_keras.weights.recognise import recognise

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
NPZ = GOLDEN / "augreg-token" / "model.npz"
SAFETENSORS = GOLDEN / "timm-token" / "model.safetensors"
H5 = GOLDEN / "kh-token" / "model.weights.h5"
SHARDS = GOLDEN / "hf-sharded"

SECONDS = 5.0  # what a refusal may take at most; it takes a few milliseconds


@pytest.fixture(scope="module")
def npz_model():
    """The model of the `.npz`, with other weights."""
    return randomise(from_checkpoint(NPZ), seed=7)


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


# --- Whole files ------------------------------------------------------------------


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


def damage(data, cuts):
    data = bytearray(data)
    for place, removed, new in cuts:
        at = int(place * len(data))
        data[at : at + removed] = new
    return bytes(data)


CUTS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True) | st.sampled_from([0.0, 0.002, 0.98, 0.999]),
        st.integers(0, 8),
        st.binary(max_size=8),
    ),
    min_size=1,
    max_size=3,
)


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


# --- .npz -------------------------------------------------------------------------


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
    refuses(path, "would unpack from", f"{size + len(head):,} bytes: refused")


def test_sizes_of_many_arrays_are_added_up(tmp_path, monkeypatch):
    monkeypatch.setattr("vit_keras.weights.formats.BOMB_ALLOWANCE", 2**20)
    path = tmp_path / "model.npz"
    np.savez_compressed(path, **{f"a{i}": np.zeros(2**16, "f4") for i in range(8)})
    refuses(path, "would unpack from")
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


# --- .safetensors -----------------------------------------------------------------


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


# --- .h5 --------------------------------------------------------------------------

DATA = "layers/vi_t_backbone/layers/vi_t_encoder/layer_norm/vars/0"


@pytest.fixture
def h5(tmp_path):
    """A copy of the golden file with one array gone; a function makes another."""
    path = tmp_path / "model.weights.h5"
    path.write_bytes(H5.read_bytes())

    def change(make):
        with h5py.File(path, "r+") as file:
            value = file[DATA][()]
            del file[DATA]
            make(file, value)
        return path

    return change


def test_the_change_alone_does_no_harm(h5):
    expected = from_checkpoint(H5).get_weights()
    model = from_checkpoint(
        h5(lambda file, value: file.create_dataset(DATA, data=value))
    )
    for a, b in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_external_link_is_not_followed(h5, tmp_path):
    other = tmp_path / "other.h5"
    other.write_bytes(H5.read_bytes())

    def link(file, value):
        file[DATA] = h5py.ExternalLink(str(other), DATA)

    path = h5(link)
    with h5py.File(path) as file:
        assert file[DATA].shape  # HDF5 itself follows it
    assert DATA not in open_checkpoint(path).entries
    with pytest.raises(CheckpointError, match="missing from the file: encoder_norm"):
        from_checkpoint(path)


def test_external_storage_is_refused(h5, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1000))

    def store(file, value):
        external = [(str(secret), 0, value.nbytes)]
        file.create_dataset(DATA, value.shape, "f4", external=external)

    refuses(h5(store), f"{DATA} is stored outside the file")


def test_a_virtual_data_set_is_refused(h5, tmp_path):
    other = tmp_path / "other.h5"
    other.write_bytes(H5.read_bytes())

    def store(file, value):
        layout = h5py.VirtualLayout(value.shape, "f4")
        layout[:] = h5py.VirtualSource(str(other), DATA, value.shape)
        file.create_virtual_dataset(DATA, layout)

    refuses(h5(store), f"{DATA} is stored outside the file")


def test_loops_of_links_end(h5):
    def link(file, value):
        file[DATA] = value
        file["layers/loop"] = h5py.SoftLink("/layers")
        file["self"] = h5py.SoftLink("/self")
        file["layers/vi_t_backbone/up"] = file["layers"]  # a hard link, and a cycle

    refuses(h5(link), act=lambda p: refuse_nothing(p))


def refuse_nothing(path):
    """Opens a file with a cycle, and raises what `refuses` expects if that works."""
    names = open_checkpoint(path).entries
    assert len(names) == len(open_checkpoint(H5).entries)
    raise CheckpointError(f"'{path}' was read")


def test_a_soft_link_is_not_followed(h5):
    path = h5(lambda file, value: file.__setitem__(DATA, h5py.SoftLink("/nothing")))
    with pytest.raises(CheckpointError, match="missing from the file: encoder_norm"):
        from_checkpoint(path)


def test_a_data_set_of_nothing(h5):
    path = h5(lambda file, value: file.create_dataset(DATA, data=h5py.Empty("f4")))
    with pytest.raises(CheckpointError, match="missing from the file: encoder_norm"):
        from_checkpoint(path)


@pytest.mark.parametrize("shape", [(2**31,), (2**40, 2**20)])
def test_a_huge_empty_data_set_is_refused(h5, shape):
    """Chunks that were never written take no room, and read as zeros."""

    def store(file, value):
        file.create_dataset(DATA, shape, "f4", chunks=(1,) * len(shape))

    refuses(h5(store), f"{DATA} would unpack to")


def test_integers_in_h5_are_no_weights(h5):
    path = h5(lambda file, value: file.create_dataset(DATA, data=value.astype("i1")))
    refuses(path, f"{DATA} has dtype int8")


# --- .weights.h5 and .keras of this package ----------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    model = randomise(create_model(tiny(num_layers=1)))
    model.save(folder / "a.keras")
    model.save_weights(folder / "a.weights.h5")
    return model, folder


@settings(max_examples=25, deadline=None)
@given(cuts=CUTS)
def test_damaged_own_weights_change_nothing(own, cuts):
    model, folder = own
    path = folder / "damaged.weights.h5"
    path.write_bytes(damage((folder / "a.weights.h5").read_bytes(), cuts))
    before = model.get_weights()
    try:
        load_weights(model, path)
    except CheckpointError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        for a, b in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)
    finally:
        model.set_weights(before)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5"])
def test_truncated_own_files(own, share, name):
    model, folder = own
    data = (folder / name).read_bytes()
    path = folder / f"cut.{name}"
    path.write_bytes(data[: int(len(data) * share)])
    with unchanged(model):
        refuses(path, act=lambda p: load_weights(model, p))


@pytest.mark.parametrize("kind", ["external", "virtual", "link", "soft", "nan"])
def test_own_weights_from_elsewhere_are_refused(own, tmp_path, kind):
    model, folder = own
    path, other = tmp_path / "b.weights.h5", tmp_path / "other.h5"
    for file in (path, other):
        file.write_bytes((folder / "a.weights.h5").read_bytes())
    name = "layers/layer_normalization/vars/0"
    with h5py.File(path, "r+") as file:
        value = file[name][()]
        del file[name]
        if kind == "external":
            external = [(str(other), 0, value.nbytes)]
            file.create_dataset(name, value.shape, "f4", external=external)
        elif kind == "virtual":
            layout = h5py.VirtualLayout(value.shape, "f4")
            layout[:] = h5py.VirtualSource(str(other), name, value.shape)
            file.create_virtual_dataset(name, layout)
        elif kind == "link":
            file[name] = h5py.ExternalLink(str(other), name)
        elif kind == "soft":
            file[name] = h5py.SoftLink(f"/{name}")
        else:
            file[name] = value * np.nan
    with unchanged(model):
        refuses(path, "of this architecture", act=lambda p: load_weights(model, p))


def test_nan_in_a_keras_file(tmp_path):
    model = create_model(tiny(num_layers=1))
    model.get_layer("head").bias.assign([np.nan] * 5)
    model.save(path := tmp_path / "a.keras")
    refuses(path, "head/bias holds values that are not finite")
    assert keras.models.load_model(path) is not None  # Keras itself does not mind

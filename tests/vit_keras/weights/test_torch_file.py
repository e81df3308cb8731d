"""PyTorch checkpoints: what real PyTorch writes, and the same made by hand."""

import argparse
import collections
import pickle
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest

from tests.vit_keras.weights.pickles import (
    FLOATS,
    GOLDEN,
    HUGE,
    LEGACY,
    Call,
    Global,
    Storage,
    golden,
    layouts,
    legacy_file,
    load,
    program,
    refuses,
    tensor,
    zip_file,
)
from vit_keras.weights.entries import CheckpointError
from vit_keras.weights.formats.torch_file import MAGIC, read_torch_file

DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()


# --- Files that PyTorch wrote -----------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request, torch, tmp_path):
    """A function that saves an object with PyTorch, and gives the path."""

    def save(value):
        path = tmp_path / "saved.pth"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about typed storages
            torch.save(value, path, _use_new_zipfile_serialization=request.param)
        return path

    return save


def equal(array, tensor):
    """Same shape and dtype, and equal elements."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype == "bfloat16":
        assert array.dtype == ml_dtypes.bfloat16
        array, tensor = array.astype("float32"), tensor.float()
    else:
        assert array.dtype == dtype
    assert array.flags.c_contiguous and array.flags.writeable
    np.testing.assert_array_equal(array, tensor.detach().numpy(), strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(torch, save, dtype):
    value = (torch.arange(24).reshape(2, 3, 4) % 11).to(getattr(torch, dtype))
    entries = read_torch_file(save({"weight": value, "scalar": value[1, 1, 1].clone()}))
    assert list(entries) == ["weight", "scalar"]
    assert entries["weight"].shape == (2, 3, 4) and entries["scalar"].shape == ()
    assert entries["weight"].nbytes == value.nbytes
    equal(entries["weight"].read(), value)
    equal(entries["scalar"].read(), value[1, 1, 1])


def test_views_of_a_shared_storage(torch, save):
    base = torch.randn(6, 8)
    values = {
        "base": base,
        "transposed": base.T,
        "permuted": base.reshape(2, 3, 8).permute(2, 0, 1),
        "strided": base[1::2, 2::3],
        "row": base[4],
        "element": base[5, 7],
        "column": base[:, 3:4],
        "expanded": base[2:3, 1:2].expand(4, 5),
        "none": base[6:],
    }
    found = load(save(values))
    assert found.keys() == values.keys()
    for name, value in values.items():
        equal(found[name], value)


def test_no_elements(torch, save):
    found = load(save({"a": torch.zeros(0, 768), "b": torch.zeros(3, 0, 2)}))
    assert found["a"].shape == (0, 768) and found["b"].shape == (3, 0, 2)


def test_a_module(torch, save):
    """An OrderedDict with `_metadata`, and buffers beside the parameters."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    state = module.state_dict()
    found = load(save(state))
    assert list(found) == list(state)
    for name in state:
        equal(found[name], state[name])


def test_parameters(torch, save):
    plain = torch.nn.Parameter(torch.randn(2, 3))
    marked = torch.nn.Parameter(torch.randn(3), requires_grad=False)
    marked.no_decay = True  # attributes are saved with a parameter
    found = load(save({"plain": plain, "marked": marked}))
    equal(found["plain"], plain)
    equal(found["marked"], marked)


@pytest.mark.parametrize("name", ["model", "state_dict", "teacher", "model_ema"])
def test_training_checkpoints(torch, save, name):
    """As DeiT, MAE and DINO write them."""
    module = torch.nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 299,
        "args": argparse.Namespace(lr=0.1, sizes={1, 2}, device=torch.device("cpu")),
        "optimizer": optimizer.state_dict(),
        "history": [{"loss": np.float64(0.5), (1, 2): None}],
        "shape": torch.Size([1, 2]),
        "loss": torch.tensor(0.5),
        "counter": collections.Counter("abc"),
        name: {**module.state_dict(), "step": 7, "note": "text"},
    }
    found = load(save(checkpoint))
    assert list(found) == ["weight", "bias"]
    equal(found["weight"], module.weight)
    equal(found["bias"], module.bias)


def test_the_first_known_name_wins(torch, save):
    one, two = {"a": torch.ones(1)}, {"a": torch.zeros(1)}
    assert load(save({"model_ema": two, "model": one}))["a"] == 1
    assert load(save({"teacher": one, "student": two}))["a"] == 1
    # A dict without tensors is none.
    assert load(save({"model": {"depth": 12}, "state_dict": one}))["a"] == 1
    assert list(load(save({"model": "vit", "head": torch.ones(1)}))) == ["head"]


def test_data_parallel(torch, save):
    value = torch.ones(1)
    assert list(load(save({"module.a": value, "module.b.c": value}))) == ["a", "b.c"]
    assert list(load(save({"module.a": value, "b": value}))) == ["module.a", "b"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols(torch, tmp_path, protocol):
    path = tmp_path / "saved.pt"
    args = argparse.Namespace(path=b"bytes", big=1 << 80, members=frozenset({1}))
    torch.save(
        {"model": {"a": torch.arange(3)}, "args": args}, path, pickle_protocol=protocol
    )
    equal(load(path)["a"], torch.arange(3))


def test_complex_tensors_are_refused(torch, save):
    refuses(save({"a": torch.zeros(2, dtype=torch.complex64)}), "type")


def test_kinds_that_are_no_dense_arrays(torch, tmp_path):
    path = tmp_path / "saved.pt"
    for value in (
        torch.ones(3).to_sparse(),
        torch.ones(3).to("meta"),
        torch.ones(3).to(torch.uint16),
    ):
        torch.save({"fine": torch.ones(1), "odd": value}, path)
        assert "_rebuild_" in refuses(path, "odd is of an unsupported kind")
    negated = torch.ones(3, dtype=torch.complex64).conj().imag  # a lazy minus sign
    assert negated.dtype == torch.float32 and negated.is_neg()
    torch.save({"odd": negated}, path)
    refuses(path, "odd is of an unsupported")


def test_whole_modules_and_scripts_are_refused(torch, tmp_path):
    path = tmp_path / "saved.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    refuses(path, "state_dict()")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    refuses(path, "TorchScript")


def test_bytes_are_read_when_asked_for(torch, save):
    path = save({"a": torch.ones(100), "b": torch.ones(100)})
    entries = read_torch_file(path)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"saved\.pth.*No such file"):
        entries["a"].read()


def test_truncated_file_of_pytorch(torch, save, tmp_path):
    data = save(torch.nn.Linear(20, 30).state_dict()).read_bytes()
    path = tmp_path / "truncated.pth"
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        refuses(path)


# --- Files made by hand -----------------------------------------------------------


@layouts
def test_golden(tmp_path, layout):
    np.testing.assert_array_equal(load(golden(tmp_path, layout))["a"], FLOATS)


@pytest.mark.parametrize("name", ["torch.cuda.FloatStorage", "torch.FloatStorage"])
def test_storages_of_other_devices(tmp_path, name):
    storage = Storage(name.removeprefix("torch."), "0", 3)
    path = zip_file(tmp_path / "a.pt", program({"a": tensor(storage)}), order=None)
    assert load(path)["a"].shape == (3,)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>Not found</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (bytes(257) + b"ustar" + bytes(300), "tar"),
        (b"\x00" * 1000, "pickle"),
        (np.random.default_rng(0).bytes(5000), "pickle"),
        (b"PK\x03\x04" + bytes(500), "zip"),
        (pickle.dumps({"a": 1}), "magic"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "pickle"),
    ],
    ids=["empty", "html", "lfs", "tar", "zeros", "random", "pk", "pickle", "hdf5"],
)
def test_other_files(tmp_path, data, words):
    path = tmp_path / "a.pth"
    path.write_bytes(data)
    refuses(path, words)


def test_no_file(tmp_path):
    refuses(tmp_path / "none.pth", "No such file")
    refuses(tmp_path, "irectory")


def test_zip_archives_that_are_no_checkpoints(tmp_path):
    path = tmp_path / "a.pt"
    for names, words in (
        (["readme.txt"], "data.pkl"),
        (["data.pkl"], "data.pkl"),
        (["a/data.pkl", "b/data.pkl"], "data.pkl"),
        (["a/data.pkl", "a/constants.pkl"], "TorchScript"),
        (["a/data.pkl", "a/code/__torch__.py"], "TorchScript"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"")
        refuses(path, words)


def test_big_endian(tmp_path):
    path = tmp_path / "a.pt"
    refuses(zip_file(path, program(GOLDEN), order=b"big"), "big-endian")
    refuses(zip_file(path, program(GOLDEN), order=b"x" * 999), "too large")
    refuses(legacy_file(path, program(LEGACY), {}, little=False), "big-endian")


def test_members_of_another_size(tmp_path):
    path = tmp_path / "a.pt"
    refuses(zip_file(path, program(GOLDEN), {}), "data/0 is missing")
    for size in (0, 11, 13, 1 << 20):
        refuses(zip_file(path, program(GOLDEN), {"0": bytes(size)}), "another size")
    bomb = {"0": bytes(12)}
    zip_file(path, program(GOLDEN), bomb, compression=zipfile.ZIP_DEFLATED)
    refuses(path, "compressed")


def test_damaged_elements(tmp_path):
    path = golden(tmp_path, "zip")
    path.write_bytes(path.read_bytes().replace(FLOATS.tobytes(), bytes(12)))
    refuses(path, "CRC", read=True)


def test_legacy_storages(tmp_path):
    path = tmp_path / "a.pt"
    raw = FLOATS.tobytes()
    refuses(legacy_file(path, program(LEGACY), {}), "lacks a storage")
    refuses(legacy_file(path, program(LEGACY), {"0": (3, raw[:-1])}), "truncated")
    for numel in (2, -1, 1 << 62):
        refuses(legacy_file(path, program(LEGACY), {"0": (numel, raw)}), "size")
    refuses(legacy_file(path, program(LEGACY), {"1": (3, raw)}), "unknown type")
    refuses(legacy_file(path, program(LEGACY), {}, magic=MAGIC + 1), "magic")
    view = {"a": tensor(Storage("FloatStorage", "0", 3, ("1", 0, 3)))}
    refuses(legacy_file(path, program(view), {}), "unsupported")
    twice = {
        "a": tensor(Storage("FloatStorage", "0", 3, None)),
        "b": tensor(Storage("HalfStorage", "0", 3, None)),
    }
    refuses(legacy_file(path, program(twice), {"0": (3, raw)}), "two ways")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (4,), (1,)),
        (1, (3,), (1,)),
        (-1, (3,), (1,)),
        (0, (3,), (-1,)),
        (0, (-3,), (1,)),
        (0, (2,), (3,)),
        (0, (2,), (HUGE,)),
        (0, (2, 2), (1, HUGE // 4)),
        (HUGE, (1,), (1,)),
        (1 << 40, (), ()),
        (0, (HUGE,), (0,)),
        (0, (1 << 30, 1 << 30), (0, 0)),
        (0, (0, 1 << 40, 1 << 40), (1, 1, 1)),
        (0, (1 << 100_000,), (0,)),
        (0, (1,) * 40, (1,) * 40),
        (0, (3,), (1, 1)),
        (0, [3], [1]),
        (0, (3.0,), (1,)),
        (0, (True,), (1,)),
        (None, (3,), (1,)),
        ("0", (3,), (1,)),
        (0, None, None),
    ],
)
def test_views_outside_the_storage(tmp_path, offset, size, stride):
    value = {"a": tensor(Storage("FloatStorage", "0", 3), offset, size, stride)}
    refuses(zip_file(tmp_path / "a.pt", program(value)))
    value = {"a": tensor(Storage("FloatStorage", "0", 3, None), offset, size, stride)}
    refuses(legacy_file(tmp_path / "a.pt", program(value), {"0": (3, bytes(12))}))


def test_odd_strides_along_one_element(tmp_path):
    value = {"a": tensor(Storage("FloatStorage", "0", 3), 0, (1, 3), (999, 1))}
    assert load(zip_file(tmp_path / "a.pt", program(value)))["a"].shape == (1, 3)


@pytest.mark.parametrize(
    "storage",
    [
        Storage("FloatStorage", "0", -3),
        Storage("FloatStorage", "0", HUGE),
        Storage("FloatStorage", "0", 1 << 100_000),
        Storage("FloatStorage", "0", 3.0),
        Storage("FloatStorage", 0, 3),
        Storage("FloatStorage", "0" * 1000, 3),
        Storage("FloatStorage", "../0", 3),
        Storage("QInt8Storage", "0", 3),
        Call("torch.FloatStorage", 3),
        {},
        None,
        Global("os.system"),
    ],
)
def test_odd_storages(tmp_path, storage):
    refuses(zip_file(tmp_path / "a.pt", program({"a": tensor(storage)})))


def test_negated_elements(tmp_path):
    storage = Storage("FloatStorage", "0", 3)
    value = {"a": tensor(storage, more=({"neg": True},))}
    refuses(zip_file(tmp_path / "a.pt", program(value)), "unsupported kind")
    value = {"a": tensor(storage, more=({},))}
    assert load(zip_file(tmp_path / "a.pt", program(value)))["a"].shape == (3,)


def test_no_tensors(tmp_path):
    for value in ({}, {"model": {}}, {"a": 1}, [], 3, None, Call("os.getcwd")):
        refuses(zip_file(tmp_path / "a.pt", program(value)), "no state dict")

"""PyTorch checkpoints: what real PyTorch writes, and what an attacker would."""

import argparse
import collections
import io
import os
import pickle
import struct
import time
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vit_keras.weights.entries import CheckpointError
from vit_keras.weights.formats.torch_file import MAGIC, read_torch_file

DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()


def load(path):
    return {name: entry.read() for name, entry in read_torch_file(path).items()}


def refuses(path, words="", read=False):
    """Checks that one line names the file and has these words; returns it."""
    with pytest.raises(CheckpointError) as caught:
        (load if read else read_torch_file)(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 600
    assert words in message
    return message


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


# --- Files made by hand -----------------------------------------------------------


class Call:
    """Pickles as a call of a global, without importing it."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments


class Storage:
    """Pickles as a reference to a storage."""

    def __init__(self, kind, key, numel, *rest):
        self.identity = ("storage", Global(f"torch.{kind}"), key, "cpu", numel, *rest)


class Global:
    def __init__(self, name):
        self.name = name


def dump(value):
    """A pickle of plain values and the classes above, with protocol 2 opcodes."""
    match value:
        case Global(name=name):
            return b"c" + "\n".join(name.rsplit(".", 1)).encode() + b"\n"
        case Call(name=name, arguments=arguments):
            return dump(Global(name)) + dump(arguments) + b"R"
        case Storage(identity=identity):
            return dump(identity) + b"Q"
        case dict():
            items = b"".join(dump(key) + dump(item) for key, item in value.items())
            return b"}(" + items + b"u"
        case tuple():
            return b"(" + b"".join(map(dump, value)) + b"t"
        case list():
            return b"](" + b"".join(map(dump, value)) + b"e"
    return pickle.dumps(value, 2)[2:-1]


def tensor(storage, offset=0, size=(3,), stride=(1,), more=()):
    return Call(
        "torch._utils._rebuild_tensor_v2",
        storage,
        offset,
        size,
        stride,
        False,
        {},
        *more,
    )


def zip_file(path, program, members=None, order=b"little", compression=0):
    members = {"0": bytes(range(12))} if members is None else members
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        if order is not None:
            archive.writestr("archive/byteorder", order)
        for key, data in members.items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def legacy_file(path, program, storages, little=True, magic=MAGIC):
    parts = [magic, 1001, {"little_endian": little}]
    data = b"".join(b"\x80\x02" + dump(part) + b"." for part in parts) + program
    data += dump(list(storages)) + b"."
    for numel, raw in storages.values():
        data += struct.pack("<q", numel) + raw
    path.write_bytes(data)
    return path


def program(value):
    return b"\x80\x02" + dump(value) + b"."


FLOATS = np.array([1.5, -2.0, 3.25], "<f4")
GOLDEN = {"model": {"a": tensor(Storage("FloatStorage", "0", 3))}, "epoch": 3}
LEGACY = {
    "model": {"a": tensor(Storage("FloatStorage", "0", 3, None))},
    "args": Call("argparse.Namespace"),
}


def golden(folder, layout):
    path = folder / "golden.pth"
    if layout == "zip":
        return zip_file(path, program(GOLDEN), {"0": FLOATS.tobytes()})
    return legacy_file(path, program(LEGACY), {"0": (3, FLOATS.tobytes())})


layouts = pytest.mark.parametrize("layout", ["zip", "legacy"])


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


HUGE = 1 << 62


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


# --- Hostile pickles --------------------------------------------------------------


@pytest.mark.parametrize("module", ["os", "posix", "nt", "subprocess", "builtins"])
@layouts
def test_nothing_is_executed(tmp_path, module, layout):
    """The calls would create a file; the state dict beside them still loads."""
    made = tmp_path / "made"
    command = f"touch {made}"
    name = {"builtins": "eval", "subprocess": "getoutput"}.get(module, "system")
    if module == "builtins":
        command = f"open({str(made)!r}, 'w')"
    calls = [
        Call(f"{module}.{name}", command),
        Call("builtins.getattr", Global(f"{module}.{name}"), name),
        Call("torch.load", str(made)),
    ]
    one, two = dict(GOLDEN), dict(LEGACY)
    one["args"] = two["args"] = calls
    build = program(one)[:-1] + dump({"__setstate__": calls[0]}) + b"b."
    if layout == "zip":
        path = zip_file(tmp_path / "a.pt", build)
    else:
        path = legacy_file(tmp_path / "a.pt", program(two), {"0": (3, bytes(12))})
    assert list(load(path)) == ["a"]
    assert not made.exists()
    if module in ("os", "posix") and hasattr(os, "system"):  # the attack is real
        real = b"\x80\x02" + dump(calls[0]) + b"."
        pickle.loads(real)
        assert made.exists()


@pytest.mark.parametrize(
    "call",
    [
        b"cos\nsystem\nX\x02\0\0\0ls\x85R",  # REDUCE
        b"cos\nsystem\nX\x02\0\0\0ls\x85\x81",  # NEWOBJ
        b"cos\nsystem\nX\x02\0\0\0ls\x85}\x92",  # NEWOBJ_EX
        b"X\x02\0\0\0osX\x06\0\0\0system\x93X\x02\0\0\0ls\x85R",  # STACK_GLOBAL
        b"cos\nsystem\n)R}X\x01\0\0\0aK\x01sb",  # BUILD
        b"cbuiltins\neval\nX\x02\0\0\0ls\x85R)R)R",  # calls of results
    ],
)
def test_calls_give_inert_values(tmp_path, call):
    path = zip_file(tmp_path / "a.pt", b"\x80\x02" + call + b".")
    refuses(path, "no state dict")
    value = b"\x80\x02}(X\x01\0\0\0x" + call + dump(GOLDEN)[2:-1] + b"u."
    assert list(load(zip_file(path, value))) == ["a"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"(ios\nsystem\n", "INST"),
        (b"(cos\nsystem\nX\x02\0\0\0lso", "OBJ"),
        (b"\x82\x01", "EXT1"),
        (b"Pname\n", "PERSID"),
        (b"\x97", "NEXT_BUFFER"),
        (b"0", "empty stack"),
        (b"", "empty stack"),
        (b"\x85", "empty stack"),
        (b"\x87", "empty stack"),
        (b"R", "empty stack"),
        (b"K\x01R", "empty stack"),
        (b"q\x00", "empty stack"),
        (b"t", "no mark"),
        (b"u", "no mark"),
        (b"1", "no mark"),
        (b"h\x07", "memo index 7"),
        (b"j\xff\xff\xff\xff", "memo index 4294967295"),
        (b"}(K\x01u", "damaged"),
        (b"K\x01K\x02a", "no list"),
        (b"K\x01K\x02K\x03s", "no dict"),
        (b"K\x01)R", "no global"),
        (b"cos\nsystem\nK\x01R", "no global"),
        (b"}}\x93", "proper name"),
        (b"X\x01\0\0\0aK\x01\x93", "proper name"),
        (b"c" + b"a" * 500 + b"\nb\n", "overlong"),
        (b"cos\\q\nb\n", ""),
        (b"cos\xff\nb\n", ""),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "damaged"),
        (b"ctorch._utils\n_rebuild_parameter\n)R", "damaged"),
        (b"\x8b\xff\xff\xff\x7f\x01", "long4"),
        (b"\x8b\xff\xff\xff\xff\x01", "long4"),
        (b"X\xff\xff\xff\xffa", "damaged"),
        (b"\x8d" + b"\xff" * 7 + b"\x7fa", "damaged"),
        (b"\x8d" + b"\xff" * 8 + b"a", "damaged"),
        (b"X\x02\0\0\0\xff\xfe", "damaged"),
        (b"I" + b"9" * 9000 + b"\n", "damaged"),
        (b"\xff", "damaged"),
    ],
)
@layouts
def test_damaged_pickles(tmp_path, body, words, layout):
    data = b"\x80\x02" + body + b"."
    if layout == "zip":
        refuses(zip_file(tmp_path / "a.pt", data), words)
    else:
        refuses(legacy_file(tmp_path / "a.pt", data, {}), words)


LAUGHS = b"X\x03\0\0\0lolq\x00" + b"".join(
    b"(" + b"h%c" % i * 10 + b"tq%c" % (i + 1) for i in range(100)
)
STATE = dump(GOLDEN)


@pytest.mark.parametrize(
    "body",
    [
        LAUGHS,  # 10 ** 100 strings, if anything looks at them all
        b"}" + LAUGHS + b"K\x01s",  # as a key, to be hashed
        b"}" + LAUGHS + b"h%cQs" % 100,  # as a persistent id
        b"](" * 100_000 + b"e" * 100_000,
        b"(" * 100_000 + b"t" * 100_000,
        b"}" + b"(" * 100_000 + b"t" * 100_000 + b"K\x01s",  # a deep key
        b"]q\x00h\x00a",  # a list in itself
        b"}q\x00X\x05\0\0\0modelh\x00s",  # a dict in itself
        b"}" + b"X\x05\0\0\0model}" * 50_000 + b"s" * 50_000,
        b"K\x00" + b"\x85" * 200_000,
        b"N" + b"r\xff\xff\xff\xffq\x00" * 100_000,
        b"]q\x00(" + b"h\x00" * 500_000 + b"e",  # references of two bytes
        b"X"
        + struct.pack("<I", 1 << 20)
        + b"a" * (1 << 20)
        + b"q\x00"
        + b"h\x00" * 9999,
        b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x00" + b"h\x00\x93",
        b"\x8b" + struct.pack("<I", 1 << 20) + b"\x7f" * (1 << 20),
    ],
    ids=range(15),
)
def test_bombs(tmp_path, body):
    start = time.monotonic()
    refuses(zip_file(tmp_path / "a.pt", b"\x80\x02" + body + b"."))
    # Beside a state dict it does no harm either; it may be refused or left out.
    value = b"\x80\x02}(X\x01\0\0\0x" + body + STATE[2:-1] + b"u."
    try:
        assert list(load(zip_file(tmp_path / "a.pt", value))) == ["a"]
    except CheckpointError:
        pass
    assert time.monotonic() - start < 10


def test_deep_tensors(tmp_path):
    """Tensors whose storages are tensors whose storages ..."""
    depth = 50_000
    start = b"ctorch._utils\n_rebuild_tensor_v2\nq\x00" + b"0"
    body = start + b"h\x00(" * depth + b"N" + b"K\x00K\x00K\x00tR" * depth
    refuses(zip_file(tmp_path / "a.pt", b"\x80\x02}X\x01\0\0\0a" + body + b"s."))


def test_overlong_pickles(tmp_path):
    path = zip_file(tmp_path / "a.pt", b"\x80\x02" + b"N0" * 2_600_000 + b"N.")
    refuses(path, "too long")
    path = zip_file(path, b"\x80\x02" + bytes((64 << 20) + 1) + b".")
    refuses(path, "too large")


def test_messages_are_short(tmp_path):
    name = "weight\n" * 10_000
    value = {name: tensor(Storage("FloatStorage", "0", 3), 9)}
    assert refuses(zip_file(tmp_path / "a.pt", program(value))).endswith("its storage")


# --- Damaged files ----------------------------------------------------------------


fuzz = settings(
    max_examples=200,
    deadline=None,
    database=None,
    # The folder is shared by all examples; each writes its file anew.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def fits_or_refuses(path, data):
    path.write_bytes(data)
    try:
        load(path)
    except CheckpointError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@layouts
def test_truncated(tmp_path, layout):
    data = golden(tmp_path, layout).read_bytes()
    path = tmp_path / "truncated.pth"
    for length in {*range(0, len(data), 97), *range(0, len(data), 5), len(data) - 1}:
        path.write_bytes(data[:length])
        refuses(path)


def test_truncated_file_of_pytorch(torch, save, tmp_path):
    data = save(torch.nn.Linear(20, 30).state_dict()).read_bytes()
    path = tmp_path / "truncated.pth"
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        refuses(path)


@layouts
@fuzz
@given(data=st.data())
def test_mutated(tmp_path, layout, data):
    """Bytes changed, removed and inserted anywhere."""
    content = bytearray(golden(tmp_path, layout).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.sampled_from([1, 1, 1, 0, 2, 8]))
        content[at : at + length] = data.draw(st.binary(min_size=0, max_size=8))
    fits_or_refuses(tmp_path / "mutated.pth", bytes(content))


@fuzz
@given(data=st.data())
def test_mutated_pickle_with_a_right_checksum(tmp_path, data):
    content = bytearray(program(GOLDEN))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 1] = data.draw(st.binary(min_size=0, max_size=3))
    path = zip_file(tmp_path / "mutated.pth", bytes(content))
    fits_or_refuses(path, path.read_bytes())


@fuzz
@given(
    pieces=st.lists(
        st.sampled_from(
            [
                *(
                    bytes([i])
                    for i in b"()]}.01Nabesut\x85\x86\x87\x88\x89\x8f\x90\x91"
                    b"\x92\x93\x94\x81RQ2"
                ),
                b"K\x03",
                b"h\x00",
                b"q\x00",
                b"X\x01\0\0\0a",
                b"cos\nsystem\n",
                b"ctorch._utils\n_rebuild_tensor_v2\n",
                b"ctorch\nFloatStorage\n",
                b"ccollections\nOrderedDict\n",
                dump(Storage("FloatStorage", "0", 3)),
                STATE,
            ]
        ),
        max_size=30,
    )
)
def test_random_programs(tmp_path, pieces):
    path = zip_file(tmp_path / "a.pt", b"\x80\x02" + b"".join(pieces) + b".")
    fits_or_refuses(path, path.read_bytes())


def test_the_stdlib_agrees():
    """The hand-made programs above are pickles, not just bytes of our own."""
    value = {"a": [1, (2.5, "x")], "b": None}
    assert pickle.load(io.BytesIO(program(value))) == value

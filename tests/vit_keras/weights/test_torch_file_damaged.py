"""PyTorch checkpoints as an attacker or a broken disk would leave them."""

import io
import os
import pickle
import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vit_keras.weights.pickles import (
    GOLDEN,
    LEGACY,
    Call,
    Global,
    Storage,
    dump,
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

"""PyTorch files made by hand, of any pickle."""

import pickle
import struct
import zipfile

import numpy as np
import pytest

from vit_keras.weights.entries import CheckpointError
from vit_keras.weights.formats.torch_file import MAGIC, read_torch_file


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
HUGE = 1 << 62

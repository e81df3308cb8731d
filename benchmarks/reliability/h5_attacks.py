"""HDF5 files made to harm: numbers of other files, and gigabytes that are not there."""

import zlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from . import seed_files as seeds
from .seed_files import write

SECRET = 12345.0  # the value of every number in the file outside


def changed_h5(files: Callable[[], seeds.Files], name: str, change):
    """A whole HDF5 file, changed by a function of (file, a name in it, outside)."""

    def make(folder, outside):
        write(files(), folder)
        with h5py.File(folder / name, "r+") as opened:
            change(opened, largest(opened), outside)

    return make


def largest(opened: Any) -> str:
    """Return the name of the largest data set of an open file."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item.size

    opened.visititems(visit)
    return max(found, key=lambda name: found[name])


def _replace(opened, name):
    shape = opened[name].shape
    del opened[name]
    return shape


def external_link(opened, name, outside):
    """The numbers of a file outside, by a link of HDF5."""
    shape = _replace(opened, name)
    with h5py.File(outside / "secret.h5", "w") as secret:
        secret["x"] = np.full(shape, SECRET, "float32")
    opened[name] = h5py.ExternalLink(str(outside / "secret.h5"), "x")


def external_storage(opened, name, outside):
    """The bytes of any file outside, as numbers."""
    shape = _replace(opened, name)
    size = 4 * int(np.prod(shape))
    (outside / "secret").write_bytes(np.full(shape, SECRET, "float32").tobytes())
    place = [(str(outside / "secret"), 0, size)]
    opened.create_dataset(name, shape, "float32", external=place)


def virtual(opened, name, outside):
    """The numbers of a file outside, by a virtual data set."""
    shape = _replace(opened, name)
    with h5py.File(outside / "secret.h5", "w") as secret:
        secret["x"] = np.full(shape, SECRET, "float32")
    layout = h5py.VirtualLayout(shape, "float32")
    layout[...] = h5py.VirtualSource(str(outside / "secret.h5"), "x", shape)
    opened.create_virtual_dataset(name, layout)


def unwritten(opened, name, outside):
    """Two gigabytes of which no byte is in the file."""
    _replace(opened, name)
    opened.create_dataset(name, (1 << 29,), "float32", chunks=(1 << 20,))


def many_unwritten(opened, name, outside):
    """Twenty times 200 MB, of which no byte is in the file."""
    for number in range(20):
        opened.create_dataset(
            f"{name}{number}", (50 << 20,), "float32", chunks=(1 << 20,)
        )


def huge(opened, name, outside):
    """A data set of 2^60 numbers."""
    _replace(opened, name)
    opened.create_dataset(name, (1 << 60,), "float32", chunks=(1 << 10,))


def packed_zeros(opened, name, outside):
    """Two gigabytes of zeros, packed by gzip."""
    _replace(opened, name)
    made = opened.create_dataset(
        name, (1 << 29,), "float32", chunks=(1 << 22,), compression="gzip"
    )
    packed = zlib.compress(bytes(1 << 24), 9)
    for at in range(128):
        made.id.write_direct_chunk((at << 22,), packed)


def cycle(opened, name, outside):
    """A group that is in itself."""
    opened[f"{name.rpartition('/')[0]}/again"] = opened


H5 = (external_link, external_storage, virtual, unwritten, many_unwritten)
H5 += (huge, packed_zeros, cycle)

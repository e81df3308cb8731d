"""Damaged and hostile files: refused in words, with little memory, nothing executed.

The short form of `benchmarks/reliability/hostile_files.py`, in this process; what reads
files in C++ has its own process there.
"""

import copy
import os
import pathlib
import random
import struct
import tracemalloc
import warnings
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image

from benchmarks.reliability import hostile_files, seed_files
from benchmarks.reliability.attack_table import ATTACKS
from benchmarks.reliability.child import judge, listing
from benchmarks.reliability.mutations import KINDS, mutate
from benchmarks.reliability.readers import READERS
from benchmarks.reliability.seed_files import write
from vit_keras import CheckpointError
from vit_keras.data.coco_masks import ID_BITS
from vit_keras.data.mask_reading import read_numbers
from vit_keras.model_file import open_model
from vit_keras.preprocessing import ImageError, image_files, read_image
from vit_keras.text_files import read_json, read_text
from vit_keras.training.recipe import Recipe
from vit_keras.weights import entries
from vit_keras.weights.entries import DATA_RATIO
from vit_keras.weights.formats.h5_file import HEAP, read_h5, refuse_endless_heaps
from vit_keras.weights.formats.npz_file import read_npy, read_npz

# These read in C++, or need an export before.
NATIVE = [name for name in READERS if "tflite" in name or "SavedModel" in name]
LARGE = ("GB of zeros", "169 million")  # whose files alone take seconds to make
# Changed files of each reader here; Keras takes half a second for one.
INPUTS, INPUTS_OF_KERAS = 4, 1
MEGABYTES = 300  # as traced, of Python and NumPy


def cases(folder, name):
    (folder / "inside").mkdir()
    (folder / "outside").mkdir()
    return READERS[name], folder / "inside", folder / "outside"


@pytest.mark.parametrize("name", [n for n in READERS if n not in NATIVE])
def test_whole_files_are_read_and_damaged_ones_read_or_refused(name, tmp_path):
    reader, inside, _ = cases(tmp_path, name)
    for make in reader.files:
        write(make(), inside)
        assert judge(reader, inside) == ("accepted", "")
    files = reader.files[0]()
    for number in range(INPUTS_OF_KERAS if ".keras" in name else INPUTS):
        draw = random.Random(f"{name} {number}")
        changed = mutate(files[reader.file], reader.kind, draw)
        write({**files, reader.file: changed}, inside)
        verdict, text = judge(reader, inside)
        assert verdict != "fault", text


@pytest.mark.parametrize(
    "attack",
    [
        a
        for a in ATTACKS
        if a.reader not in NATIVE and not any(n in a.name for n in LARGE)
    ],
    ids=lambda a: f"{a.reader}: {a.name}",
)
def test_attacks(attack, tmp_path):
    reader, inside, outside = cases(tmp_path, attack.reader)
    attack.make(inside, outside)
    before = listing(outside)
    tracemalloc.start()
    try:
        verdict, text = judge(reader, inside)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert verdict == "refused" or (verdict == "accepted" and not attack.refused), text
    assert listing(outside) == before
    assert peak < MEGABYTES << 20


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_in_a_process_that_may_crash(name, tmp_path):
    number = sum(row.reader == name for row in ATTACKS)
    for count, kind in ((number, "attacks"), (30, "fuzz")):
        found = hostile_files.run(name, count, 1, tmp_path / kind, kind)
        assert not found["faults"]
        assert found["accepted"] + found["refused"] == count


def test_changes_are_those_of_their_seed():
    for kind in KINDS:
        same = [mutate(b'{"a": [1, 2]}\n', kind, random.Random(5)) for _ in "ab"]
        assert same[0] == same[1]
    files = {mutate(b'{"a": [1, 2]}', "json", random.Random(n)) for n in range(50)}
    assert len(files) > 30


# --- Text and JSON ------------------------------------------------------------------


def test_text_is_bounded(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\N{BYTE ORDER MARK}ab", encoding="utf-8")
    assert read_text(path) == "ab"
    with pytest.raises(ValueError, match="at most 4 bytes. It has 5"):
        read_text(path, 4)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="must be text in UTF-8"):
        read_text(path)


@pytest.mark.parametrize("text", ["[" * 9999, "1" * 30, "{", "[" + "9" * 9999 + "]"])
def test_json_is_bounded(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no JSON that can be read"):
        read_json(path)
    path.write_text(f"[{2**64 - 1}, 1.5]")
    assert read_json(path) == [2**64 - 1, 1.5]


@pytest.mark.parametrize("data", [[], None, {"reference": {"x": 1}}])
def test_recipes_of_other_types(data):
    with pytest.raises(ValueError, match="fields and values|another type"):
        Recipe.from_dict(data)


# --- Arrays and images --------------------------------------------------------------


def test_arrays_that_are_not_there(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(5))
    assert read_npy(path).tolist() == [0, 1, 2, 3, 4]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="says 40 bytes of data and has 39"):
        read_npy(path)
    for read in (read_npy, read_npz):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "b.npy")


def test_masks_pack_as_zeros_do(tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "BOMB_ALLOWANCE", 1 << 20)
    masks = np.zeros((50, 512, 512), "uint8")
    masks[:, 100:200, 100:200] = 1
    path = tmp_path / "a.npz"
    np.savez_compressed(path, masks=masks)
    with pytest.raises(CheckpointError, match="13,107,328 bytes, from .*: refused"):
        read_npz(path)  # weights do not
    assert read_npz(path, DATA_RATIO)["masks"].shape == masks.shape


def test_members_that_are_the_same_bytes(tmp_path):
    """A zip archive of one array, named 1,000 times, has a thousand times its size."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros((1 << 20,), "uint8"))
    with zipfile.ZipFile(path, "a") as archive:
        (one,) = archive.infolist()
        for number in range(2000):
            other = copy.copy(one)
            other.filename = f"{number}.npy"
            archive.filelist.append(other)
        archive._didModify = True
    with pytest.raises(CheckpointError, match="would unpack to 2,098,.*: refused"):
        read_npz(path, DATA_RATIO)


def test_what_follows_an_array_is_left(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        for value in (1, 2):
            np.save(file, np.full(3, value))
    assert read_npy(tmp_path / "a.npy").tolist() == [1, 1, 1]


def test_ids_of_coco_may_be_uuids(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(f"[{2**128 - 1}]")
    assert read_json(path, most_bits=ID_BITS) == [2**128 - 1]
    with pytest.raises(ValueError, match="a number of 39 digits"):
        read_json(path)


def test_a_model_that_was_packed_again(tmp_path):
    path, other = tmp_path / "a.keras", tmp_path / "b.keras"
    path.write_bytes(seed_files.keras_file()["model.keras"])
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w", 8) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    assert open_model(other).count_params() == open_model(path).count_params()


def test_a_large_mask_of_one_colour(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "PIXELS", 80_000)
    monkeypatch.setattr(image_files, "MANY_PIXELS", 80_000)
    path = tmp_path / "a.png"
    Image.new("L", (2000, 2000)).save(path)
    assert read_numbers(path)[0].shape == (2000, 2000)
    with pytest.raises(ImageError, match="4,000,000 pixels are in"):
        read_image(path)


def test_groups_in_groups(tmp_path):
    """HDF5's time grows with more than the square of their number."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["/".join("g" * 100)] = np.zeros(2)
    assert list(read_h5(path)) == ["/".join("g" * 100)]
    with h5py.File(path, "a") as file:
        file["/".join("h" * 300)] = np.zeros(2)
    with pytest.raises(CheckpointError, match="more than 100 deep"):
        read_h5(path)


def test_a_heap_of_texts_without_an_end(tmp_path):
    """HDF5 1.14.6 never returns from reading the attribute of such a file."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_group("a").attrs["name"] = "text"
        file["b"] = np.zeros(3, "float32")
    assert list(read_h5(path)) == ["b"]
    refuse_endless_heaps(path)
    data = bytearray(path.read_bytes())
    at = data.find(HEAP) + 16
    while struct.unpack_from("<H", data, at)[0]:  # up to the free space
        at += 16 + -(-struct.unpack_from("<Q", data, at + 8)[0] // 8) * 8
    data[at + 8 : at + 16] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="texts of HDF5 at byte .* have no end"):
        read_h5(path)


def test_images_of_more_pixels_than_bytes(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (300, 300)).save(path)
    assert read_image(path).shape == (300, 300, 3)
    monkeypatch.setattr(image_files, "PIXELS", 80_000)
    assert read_image(path).shape == (300, 300, 3)
    monkeypatch.setattr(image_files, "MANY_PIXELS", 80_000)
    with pytest.raises(ImageError, match="90,000 pixels are in .* bytes: refused"):
        read_image(path)
    with pytest.raises(ImageError, match="90,000 pixels"):
        read_image(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), "uint8")
    Image.fromarray(noise).save(path)
    np.testing.assert_array_equal(read_image(path), noise)


def test_pipes_and_devices(tmp_path):
    """A pipe blocks whoever opens it, and a device has no end."""
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="is no regular file"):
        read_image(tmp_path / "a.png")
    os.mkfifo(tmp_path / "a.npy")
    for read in (read_npy, read_npz):
        with pytest.raises(CheckpointError, match="is no regular file"):
            read(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="at most 1,000 bytes. It has more"):
        read_text("/dev/zero", 1000)


def test_ghostscript_is_not_run(tmp_path):
    path = pathlib.Path(tmp_path, "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.new("RGB", (8, 8)).save(path, "EPS")
    with pytest.raises(ImageError, match="EPS is a program that draws"):
        read_image(path)


def test_texts_of_no_characters(tmp_path):
    """NumPy reads them, and Python cannot make texts of them."""
    path = tmp_path / "a.npy"
    np.save(path, np.array([2**31, 65], "u4").view("<U1"))
    with pytest.raises(CheckpointError, match="characters that there are not"):
        read_npy(path)
    for order in "<>":
        np.save(path, np.array(["a", "\U0001f600"], f"{order}U1"))
        assert read_npy(path).tolist() == ["a", "\U0001f600"]

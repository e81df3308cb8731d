"""HDF5: arrays from elsewhere, and damaged files of this package."""

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings

from tests.models import randomise, tiny
from tests.vit_keras.weights.damaged import CUTS, H5, damage, refuses, unchanged
from vit_keras import CheckpointError, create_model, from_checkpoint, load_weights
from vit_keras.weights.formats import open_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:.*nothing in the file tells")

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


def test_an_external_link_is_refused(h5, tmp_path):
    other = tmp_path / "other.h5"
    other.write_bytes(H5.read_bytes())

    def link(file, value):
        file[DATA] = h5py.ExternalLink(str(other), DATA)

    path = h5(link)
    with h5py.File(path) as file:
        assert file[DATA].shape  # HDF5 itself follows it
    refuses(path, DATA, "is in another file", act=open_checkpoint)


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

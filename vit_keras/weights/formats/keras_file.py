"""Reader of weights saved by models of this package with `save` or `save_weights`."""

import os
import pathlib

import h5py
import keras
import numpy as np

from ...config import ViTConfig
from ...heads import HEADS
from ...labels import find_labels
from ..entries import CheckpointError, Entry
from . import Checkpoint
from .h5_file import check_h5
from .keras_archive import check_archive

# Contents of Keras files other than the layers' weights.
NOT_WEIGHTS = ("optimizer/", "seed_generator")


def is_own(path) -> bool:
    """Return whether a file is a `.weights.h5` of a model of this package."""
    path = os.fspath(path)
    if not path.endswith(".weights.h5") or not os.path.isfile(path):
        return False
    try:
        with h5py.File(path) as file:
            return "layers/encoder_block" in file
    except (OSError, RuntimeError, KeyError):  # damaged: reading it raises the error
        return False


def open_own(path) -> Checkpoint:
    """Open a `.keras` file of this package, in safe mode, as a checkpoint.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: it cannot be opened, or contains another model.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"`weights` must be an existing file. Received: weights={str(path)!r}"
        )
    try:
        check_archive(path)
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # zip, HDF5, JSON and Keras errors alike
        text = " ".join(str(error).split())
        raise CheckpointError(f"'{path}' cannot be opened: {text}") from error
    config = getattr(model, "config", None)
    if not isinstance(config, ViTConfig):
        raise CheckpointError(
            f"'{path}' must hold a model of this package. It holds {model!r}"
        )
    if config.labels is None and model.task == "classify":  # as runs of 0.1 have them
        beside = find_labels(path)
        if beside is not None and len(beside) == HEADS[config.head].names(
            config.classes
        ):
            config = config.replace(labels=beside)
    entries = {
        weight.path: Entry(
            tuple(weight.shape),
            weight.dtype,
            lambda weight=weight: keras.ops.convert_to_numpy(weight.value),
        )
        for weight in model.weights
        if not any(part in weight.path for part in NOT_WEIGHTS)
    }
    return Checkpoint(pathlib.Path(path), entries, config=config)


def load_own_weights(model, path):
    """Load a `.weights.h5` file of the same architecture.

    Arguments:
        model: a model of this package; unchanged if the file does not fit.
        path: the file.

    Raises:
        CheckpointError: the file is damaged, or has another model's weights.
    """
    path = os.fspath(path)
    before = model.get_weights()
    try:
        check_h5(path)
        count, stored = _contents(path)
        expected = sum(
            not any(part in weight.path for part in NOT_WEIGHTS)
            for weight in model.weights
        )
        # Keras ignores surplus weights in the file.
        if count != expected:
            raise ValueError(f"it holds {count} weights, not {expected}")
        # Keras matches layers by class and order, and could exchange norms.
        names = {layer.name for layer in model.layers if layer.weights}
        if stored and names - stored:
            raise ValueError(f"it has no layers {', '.join(sorted(names - stored))}")
        model.load_weights(path)
        if not all(np.isfinite(w.astype("float32")).all() for w in model.get_weights()):
            raise ValueError("it holds values that are not finite")
    except Exception as error:  # HDF5 and Keras errors alike
        model.set_weights(before)
        text = " ".join(str(error).split())
        raise CheckpointError(
            f"`weights` must hold the weights of this architecture; '{path}' does not: "
            f"{text}"
        ) from error


def _contents(path):
    """Return the number of weights in a file, without optimizer and random state, and
    the names of its layers, empty if Keras has not stored them."""
    weights, layers = [], set()

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            weights.append(name)
        if isinstance(item.attrs.get("name"), str):
            layers.add(item.attrs["name"])

    with h5py.File(path) as file:
        file.visititems(visit)
    number = sum(not any(part in name for part in NOT_WEIGHTS) for name in weights)
    return number, layers

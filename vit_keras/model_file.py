"""Opening of saved models: a `.keras` file, and its class names."""

import os
import pathlib
import zipfile
from typing import Any

import h5py
import keras

from .heads import HEADS
from .labels import config_labels, find_labels
from .weights.formats.h5_file import check_h5
from .weights.formats.keras_archive import check_archive


def open_model(path, custom_objects: dict[str, Any] | None = None):
    """Open a `.keras` file in safe mode, for inference.

    Arguments:
        path: of the file.
        custom_objects: {class name: class} of layers that are not registered.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is no Keras model, or cannot be opened safely.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no model file '{path}'")
    try:
        check_whole_model(path)
        return keras.models.load_model(path, custom_objects, compile=False)
    except Exception as error:  # zip, HDF5, JSON and Keras errors alike
        raise ValueError(
            f"`model` must be a .keras file. '{path}' cannot be opened: {error}"
        ) from error


def check_whole_model(path: str | os.PathLike[str]) -> None:
    """Check the file of a whole model, before Keras reads it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, far larger unpacked, or has data in other files.
    """
    if zipfile.is_zipfile(path):
        check_archive(path)
    elif h5py.is_hdf5(path):  # of Keras 2
        check_h5(path)


def open_classifier(path) -> tuple[Any, list[str] | None]:
    """Open a classifier of this package; see `open_trained`.

    Raises:
        FileNotFoundError, ValueError: as for `open_trained`, or it is no classifier.
    """
    model, names = open_trained(path)
    if model.task != "classify":
        raise ValueError(
            f"'{path}' is no classifier of this package: its task is {model.task}"
        )
    return model, names


def open_trained(path) -> tuple[Any, list[str] | None]:
    """Open a model of this package with a head, from a run's folder or a `.keras` file.

    Returns:
        (model, class names: those of the `labels.txt` beside it, else the model's own,
        or None).

    Raises:
        FileNotFoundError: the model does not exist.
        ValueError: it is no model of this package with a head, or `labels.txt` is of
            another.
    """
    path = pathlib.Path(path)
    file = path / "model.keras" if path.is_dir() else path
    model: Any = open_model(file)
    config = getattr(model, "config", None)
    if config is None or not config.include_top or model.task == "features":
        raise ValueError(f"'{file}' is no classifier of this package")
    beside, names = find_labels(file), HEADS[config.head].names(config.classes)
    if beside and len(beside) != names:
        raise ValueError(
            f"`labels.txt` beside '{file}' must have a line for each of the model's "
            f"{names} {HEADS[config.head].things}. Received: {len(beside)} lines"
        )
    return model, beside or config_labels(model)

"""What a run leaves: a `.keras` file, and the names of the classes beside it."""

import os
import pathlib
from typing import Any

import keras


def open_model(path, custom_objects: dict[str, Any] | None = None):
    """Open a `.keras` file in safe mode, for inference.

    Arguments:
        path: of the file.
        custom_objects: {class name: class} of layers that are not registered.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no Keras model that can be opened safely.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no model file '{path}'")
    try:
        return keras.models.load_model(path, custom_objects, compile=False)
    except Exception as error:  # zip, HDF5, JSON and Keras errors alike
        raise ValueError(
            f"`model` must be a .keras file. '{path}' cannot be opened: {error}"
        ) from error


def find_labels(model_path) -> list[str] | None:
    """Class names in the `labels.txt` beside a model's file, a line each, or None."""
    file = pathlib.Path(model_path).with_name("labels.txt")
    if not file.is_file():
        return None
    return file.read_text(encoding="utf-8").splitlines()


def open_classifier(path) -> tuple[Any, list[str] | None]:
    """Model and class names of a run's folder or a `.keras` file.

    Returns:
        (model, names of the classes; None without `labels.txt` beside it).

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: it is no classifier of this package.
    """
    path = pathlib.Path(path)
    file = path / "model.keras" if path.is_dir() else path
    model: Any = open_model(file)
    config = getattr(model, "config", None)
    if config is None or not config.include_top or model.task != "classify":
        raise ValueError(f"'{file}' is no classifier of this package")
    return model, find_labels(file)

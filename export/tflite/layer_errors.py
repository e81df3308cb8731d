"""The error of every tensor of an exported file."""

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import backend
from ..evaluation.tensor_errors import TensorError, tensor_errors
from ..evaluation.verify import sidecar
from ..inputs import CALIBRATION_LIMIT, ExportInputs, UserInputs
from ..plan import ExportPlan
from ..quantization.strategies import choose_strategy, register_layers
from ..report import read_report
from .converter import convert

if TYPE_CHECKING:
    import keras


def verify_layers(
    model: "keras.Model | str | os.PathLike[str]",
    path: str | os.PathLike[str],
    images: Any,
) -> list[TensorError]:
    """Compare every tensor of a quantised file with its float value.

    The float file is written anew, by the plan in the JSON beside the file, so that
    both are the same graph.

    Arguments:
        model: the Keras model that the file was made of, or the path of a `.keras`
            file.
        path: a `.tflite` file with its JSON beside it.
        images: what the file was calibrated with, as `to_tflite` took it: means of
            keys and values, which the graph subtracts, were measured on it. Errors
            are of the first 8.

    Returns:
        A `TensorError` per tensor, in order of execution.

    Raises:
        ValueError: the file was not written of this model, with these images, or not
            by this release.
        FileNotFoundError: there is no file, or no JSON beside it.
        MissingDependency: the extra "export" is not installed.
    """
    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f"`path` must be a .tflite file. Received: '{path}'")
    for needed in (path, sidecar(path)):
        if not needed.is_file():
            raise FileNotFoundError(f"there is no file '{needed}'")
    user = UserInputs(model, images)
    if backend.is_tensorflow():
        return _layer_errors(user, path)
    with user.saved() as inputs:
        request = {"inputs": inputs, "path": os.fspath(path)}
        rows = backend.run_in_child("verify_layers", request)
    return [TensorError(**row) for row in rows]


def answer_request(inputs, path):
    """What the child process does, see `backend`."""
    errors = _layer_errors(UserInputs.restored(inputs), Path(path))
    return [dataclasses.asdict(error) for error in errors]


def _layer_errors(user, path):
    from vit_keras import Preprocessing

    report = read_report(path)
    plan = ExportPlan.from_dict(report.plan or {})
    inside = report.preprocessing and Preprocessing(**report.preprocessing)
    register_layers(plan)
    user = dataclasses.replace(user, preprocessing=inside)
    inputs = ExportInputs.open(user, CALIBRATION_LIMIT)
    _check_images(inputs.images, report)
    # Weights are compared as they were before they were rounded.
    graph = choose_strategy(
        dataclasses.replace(plan, weights="float32"), inputs
    ).graph()
    if graph.rewrites != report.rewrites:
        raise ValueError(
            f"`model` must be the one that '{path}' was written of, by this release. "
            f"Its graph takes the rewrites {', '.join(graph.rewrites) or 'none'}; the "
            f"file's took {', '.join(report.rewrites) or 'none'}"
        )
    as_float = dataclasses.replace(plan, float_weights="float32", input_dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder, "float.tflite")
        convert(graph.function, inputs.model, reference, as_float)
        return tensor_errors(reference, path, inputs.images.pixels)


def _check_images(images, report):
    if report.calibration is None:  # of a scheme that needs none
        return
    used, given = report.calibration["sha256"], images.summary()["sha256"]
    if given != used:
        raise ValueError(
            f"`images` must be those that '{report.path}' was calibrated with, "
            f"SHA-256 {used[:12]}. Received: {len(images.pixels)} images, {given[:12]}"
        )

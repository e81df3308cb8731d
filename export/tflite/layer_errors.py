"""Per-tensor errors of an exported file against its float version."""

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import backend
from ..evaluation.tensor_errors import TensorError, tensor_errors
from ..evaluation.verify import named, sidecar
from ..flatbuffer.first_run import made_here
from ..inputs import CALIBRATION_LIMIT, ExportInputs, UserInputs
from ..plan import ExportPlan
from ..quantization.strategies import choose_strategy, register_layers
from ..report import read_report
from .converter import convert
from .dense_outputs import sized
from .integer_ready import make_integer_ready

if TYPE_CHECKING:
    import keras


def verify_layers(
    model: "keras.Model | str | os.PathLike[str]",
    path: str | os.PathLike[str],
    images: Any,
) -> list[TensorError]:
    """Compare every tensor of a quantised file with its float value.

    The float file is converted again from the plan in the JSON beside the file, so that
    both have the same graph.

    Arguments:
        model: the Keras model that the file was exported from, or the path of a
            `.keras` file.
        path: a `.tflite` file with its JSON beside it.
        images: the calibration images of the file, as given to `to_tflite`: the graph
            depends on them, as it subtracts mean keys and values. Errors are measured
            on the first 8.

    Returns:
        A `TensorError` per tensor, in order of execution.

    Raises:
        ValueError: the file was exported from another model, with other images, or by
            another release.
        FileNotFoundError: the file or its JSON does not exist.
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
    """Answer a request of `backend.run_in_child`."""
    errors = _layer_errors(UserInputs.restored(inputs), Path(path))
    return [dataclasses.asdict(error) for error in errors]


def _layer_errors(user, path):
    from vit_keras import Preprocessing

    report = read_report(path)
    plan = ExportPlan.from_dict(report.plan or {})
    inside = report.preprocessing and Preprocessing(**report.preprocessing)
    register_layers(plan)
    names = named(report.to_dict(), [output.name for output in report.outputs])
    user = dataclasses.replace(
        user,
        preprocessing=inside,
        output=report.model_output,
        outputs=names,
        head=report.head,
    )
    inputs, plan = sized(ExportInputs.open(user, CALIBRATION_LIMIT), plan)
    _check_images(inputs.images, report)
    # Compare with the weights before rounding.
    graph = choose_strategy(
        dataclasses.replace(plan, weights="float32"), inputs
    ).graph()
    if graph.rewrites != report.rewrites:
        raise ValueError(
            f"`model` must be the one that '{path}' was exported from, "
            f"by this release. Received: rewrites "
            f"{', '.join(graph.rewrites) or 'none'} for the model; "
            f"the file has {', '.join(report.rewrites) or 'none'}"
        )
    as_float = dataclasses.replace(plan, float_weights="float32", input_dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder, "float.tflite")
        convert(graph.function, inputs.model, reference, as_float, inputs.names)
        if plan.calibrated:
            make_integer_ready(reference)
        made_here(reference)
        return tensor_errors(reference, path, inputs.images.pixels)


def _check_images(images, report):
    if report.calibration is None:  # the scheme needs no calibration
        return
    used, given = report.calibration["sha256"], images.summary()["sha256"]
    if given != used:
        raise ValueError(
            f"`images` must be those that '{report.path}' was calibrated with, "
            f"SHA-256 {used[:12]}. Received: {len(images.pixels)} images, {given[:12]}"
        )

"""Which tensor of an exported file went wrong."""

import tempfile
from pathlib import Path

from .. import backend
from ..evaluation.tensor_errors import TensorError, tensor_errors
from ..forms import Form
from ..quantization import trained
from ..quantization.calibration import CALIBRATION_LIMIT
from ..report import read_report, sidecar
from .converter import convert


def verify_layers(model, path, images) -> list[TensorError]:
    """Compare every tensor of a quantised file with its float value.

    The float file is written anew, in the form that the JSON beside the file tells, so
    that both are the same graph.

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
    report = read_report(path)
    if not backend.here():
        raise ValueError(
            "tensors are compared on the backend TensorFlow. Give the path of the "
            f"model: vit-export verify MODEL.keras {path} --data IMAGES --layers"
        )
    from vit_keras import Preprocessing

    from ..graph.build import inference_graph
    from ..inputs import Source

    inside = report.preprocessing and Preprocessing(**report.preprocessing)
    aware = None
    if trained.is_trained(model):
        model = trained.opened(model)
        aware = model.quantized
    source = Source.open(model, inside, None, images, CALIBRATION_LIMIT)
    _check_images(source.images, report)
    if aware is not None:
        graph = trained.trained_graph(aware)
    else:
        form = Form(**report.form)
        graph = inference_graph(source.model, inside, source.images.pixels, form)
    if tuple(graph.rewrites) != tuple(report.rewrites):
        raise ValueError(
            f"`model` must be the one that '{path}' was written of, by this release. "
            f"Its graph takes the rewrites {', '.join(graph.rewrites) or 'none'}; the "
            f"file's took {', '.join(report.rewrites) or 'none'}"
        )
    batch = int(report.input.split("(")[1].split(",")[0])
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder, "float.tflite")
        convert(graph.function, source.model, reference, "float32", batch, "float32")
        return tensor_errors(reference, path, source.images.pixels)


def _check_images(images, report):
    if report.calibration is None:  # of a scheme that needs none
        return
    used, given = report.calibration["sha256"], images.summary()["sha256"]
    if given != used:
        raise ValueError(
            f"`images` must be those that '{report.path}' was calibrated with, "
            f"SHA-256 {used[:12]}. Received: {len(images.pixels)} images, {given[:12]}"
        )

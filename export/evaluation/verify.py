"""`verify`: an artefact in its runtime, compared with the Keras model."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_keras.text_files import read_json

from ..schemes import get_scheme
from . import runners
from .interpreter import check_images
from .parity import Parity, measure_outputs
from .reference import UNNAMED, references

if TYPE_CHECKING:
    import keras

Outputs = np.ndarray | Mapping[str, np.ndarray]  # of one, or by name


def verify(
    model: "keras.Model | Outputs | str | os.PathLike[str]",
    path: str | os.PathLike[str],
    images: Any,
    *,
    scheme: str | None = None,
    output: str | int | None = None,
    limit: int | None = None,
    num_threads: int = 1,
) -> Parity:
    """Run an artefact in its real runtime and compare it with the Keras model.

    The model gets what its user feeds it: pixels, where it normalises them by itself.

    Arguments:
        model: the Keras model, the path of its `.keras` file or of a float `.tflite`
            file, or its outputs (N, ...), of a file with several {name: (N, ...)}.
        path: a `.tflite` file or a SavedModel directory.
        images: (N, H, W, C), pixels 0..255; or whatever else calibration takes: a
            folder, a `.npy` file, a data set, of which the test part is used.
        scheme: whose threshold must be met; None means the threshold in the JSON
            beside the artefact, if there is one.
        output: name or index of the output, of a model with several; None means what
            the JSON beside the artefact says. Of an artefact with several, the name of
            that which is compared; None means the first.
        limit: use at most this many images, where `images` is no array.
        num_threads: threads of the interpreter.

    Returns:
        A `Parity`; its `passed` says whether the threshold is met. A file that ends in
        classes has no threshold: 1 for the class of a pixel and 0 for each other are
        compared.

    Raises:
        ValueError: images or outputs do not fit the artefact.
        FileNotFoundError: the artefact or the images do not exist.
    """
    options = {"scheme": scheme, "limit": limit, "num_threads": num_threads}
    found = verify_outputs(model, path, images, output=output, **options)
    first = next(iter(found))
    if output is None or len(found) == 1:
        return found[first]
    if output not in found:
        raise ValueError(
            f"`output` must be one of the artefact's, {', '.join(found)}. "
            f"Received: output={output!r}"
        )
    return found[str(output)]


def verify_outputs(
    model: "keras.Model | Outputs | str | os.PathLike[str]",
    path: str | os.PathLike[str],
    images: Any,
    *,
    scheme: str | None = None,
    output: str | int | None = None,
    limit: int | None = None,
    num_threads: int = 1,
) -> dict[str, Parity]:
    """Compare all outputs of an artefact with the Keras model's.

    Arguments and errors are those of `verify`; `output` is of a model with several and
    an artefact with one.

    Returns:
        {name of the output: `Parity`}, in the artefact's order.
    """
    from vit_keras import Preprocessing, data

    from ..graph.named_outputs import names_of_outputs
    from ..graph.open_source import open_for_export
    from ..graph.up_to_decoder import up_to_decoder

    runner = runners.load(path, num_threads)
    recorded = read_sidecar(path)
    plan = recorded.get("plan") or {}
    names = named(recorded, tuple(runner.output_shapes))
    inside = recorded.get("preprocessing")
    inside = reading = None if inside is None else Preprocessing(**inside)
    if not isinstance(model, np.ndarray | Mapping):
        output = recorded.get("model_output") if output is None else output
        chosen: Any = {"output": output} if names is None else {"outputs": names}
        size = runner.input_shape[1:]
        model, meaning = open_for_export(model, input_shape=size, **chosen)
        names_of_outputs(model, names)  # which it has
        if plan.get("output_size") == "decoder":
            model = up_to_decoder(model) or model
        if meaning.takes_pixels:  # else the user gave `preprocessing`, or nothing did
            inside, reading = meaning.inside, meaning.reading
    if not hasattr(images, "__array__"):
        size: Any = runner.input_shape[1:3]
        images = data.load_images(images, size, reading, limit, held_out=True)
    images = check_images(images, runner.input_shape)
    found = runner.all(images)
    if isinstance(model, np.ndarray):
        model = {next(iter(found)): model}
    elif not isinstance(model, Mapping):
        model = references(model, images, inside, names=names)
    if names is None:
        model, found = ({UNNAMED: next(iter(x.values()))} for x in (model, found))
    proven = recorded.get("parity") or {}
    if scheme is None:
        threshold = proven.get("threshold_db")
    else:
        threshold = get_scheme(scheme).min_sqnr_db
    if plan.get("class_map"):
        codes, threshold = np.eye(model[UNNAMED].shape[-1], dtype="float32"), None
        model = {UNNAMED: codes[model[UNNAMED].argmax(-1)]}
        found = {UNNAMED: codes[found[UNNAMED].astype(int)]}
    segments = recorded.get("head") == "segmentation"
    by_image = proven.get("median_sqnr_db") is not None
    return measure_outputs(model, found, threshold, segments, by_image)


def named(recorded: Mapping[str, Any], names: Sequence[str]) -> Sequence[str] | None:
    """Return the names of an artefact's outputs; None for one without a name.

    Arguments:
        recorded: the report beside it.
        names: as its signature has them.
    """
    said = [end["name"] for end in recorded.get("outputs", ())]
    return None if len(names) == 1 and said in ([], [UNNAMED]) else names


def sidecar(path) -> pathlib.Path:
    """Return the path of the JSON beside an artefact: `m.tflite` -> `m.tflite.json`."""
    path = pathlib.Path(path)
    return path.with_name(path.name + ".json")


def read_sidecar(path) -> dict[str, Any]:
    """Read the JSON beside an artefact as a dict, empty if there is none."""
    file = sidecar(path)
    found = read_json(file) if file.is_file() else {}
    if not isinstance(found, dict):
        raise ValueError(f"'{file}' must hold a JSON object, not {type(found)}")
    return found

"""`to_saved_model`: write, check and publish a SavedModel for TF Serving."""

import gc
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vit_keras.atomic import remove_leftovers

from .. import backend
from ..errors import ParityError
from ..evaluation import runners
from ..evaluation.labelled_images import Labelled
from ..evaluation.parity import measure_parity
from ..evaluation.parity_images import PARITY_LIMIT
from ..evaluation.reference import UNNAMED, reference_outputs
from ..evaluation.user_predictions import check_predictions
from ..graph import memory
from ..graph.find_vit import merges_by_similarity
from ..inputs import ExportInputs, UserInputs
from ..progress import quietly, stage
from ..report import ExportReport, output_reports, publish, read_report, workspace
from ..schemes import get_scheme
from .decode import Decoder
from .signatures import SIGNATURES, Server, check_names
from .warmup import check_batch_sizes, write_warmup

if TYPE_CHECKING:
    import keras

    from vit_keras import Preprocessing

BATCH = 1  # images at a time for parity: activations need memory, too


def to_saved_model(
    model: "keras.Model | str | os.PathLike[str]",
    path: str | os.PathLike[str],
    *,
    labels: Any = None,
    head: str | None = None,
    signatures: Sequence[str] | None = None,
    top_k: int = 5,
    exif: bool = True,
    warmup: Sequence[int] = (),
    calibration: Any = None,
    evaluation: Any = None,
    preprocessing: "Preprocessing | str | None" = None,
    input_shape: Sequence[int] | None = None,
    output: str | int | None = None,
    custom_objects: dict[str, Any] | None = None,
) -> ExportReport:
    """Write a SavedModel that takes raw pixels, run it, and compare it with the model.

    Signatures, with N any number of images:

    - `serving_default`, always written: `images`, uint8 (N, H, W, C), or float32 for a
      model without preprocessing, to `output`, float32 (N, ...). Other image sizes are
      refused in the graph.
    - `predict_bytes`: `image_bytes` (N,), encoded JPEG, PNG, WebP, BMP or GIF, decoded
      and resized as in evaluation, to `logits`, `probabilities` (N, classes), `top_ids`
      int64, `top_scores`, `top_labels` (N, top_k) and `valid` bool (N,). An unreadable
      item has `valid` false, 0, -1 and "", and does not affect the others. A binary
      model has one logit and two probabilities; with several labels per image each
      probability is that of its label alone; a regression has `values` (N, C) and
      `valid`, and what nothing describes has `output`.
    - `classify`: TF Serving's classification API: `inputs` (N,), a tf.Example each with
      the image as `image/encoded`, to `classes` and `scores` (N, top_k). Not for a
      regression.
    - `features`: `image_bytes` to `tokens` (N, T, D) after the last norm, `pooled`
      (N, D), the head's input, and `valid`.
    - `attention`: `image_bytes` to `attention` (N, L, heads, T, T) and `valid`.

    For a model of classes per pixel, (N, H, W, classes), the first two return `masks`
    (N, H, W): the class of each pixel of the image as the model sees it, uint8, or
    int32 for more than 255 classes. Those of an unreadable item are 255, or -1; the
    logits are in `output` of the first. A depth has `values` (N, H, W, 1).

    Each weight is stored once. `<path>.json` beside the directory holds the report.

    Arguments:
        model: a Keras model, functional, sequential or subclassed, on any backend, or
            the path of a `.keras` file.
        path: the directory to make, for TF Serving `NAME/VERSION` with a number as
            version. It must not exist; missing parents are made.
        labels: class names, an asset of the directory; None means those of the
            `labels.txt` beside a `.keras` file, if there is one. Two of a binary model;
            those of a regression's values are in the JSON alone.
        head: what the outputs mean, "softmax", "sigmoid", "multi_label", "regression",
            "segmentation" or "depth" (`vit_keras.heads.HEADS`); None asks the model: a
            ViT of this package, or one that ends in a softmax or sigmoid. Without,
            several outputs are logits of classes, and one is a number without a name.
        signatures: which of the above; None for `predict_bytes` and, of a model of
            classes or labels, `classify`. All but `serving_default` need a model
            with preprocessing.
        top_k: number of top classes that are returned.
        exif: apply the EXIF orientation of encoded images, as evaluation does.
        warmup: batch sizes that the server shall run before it takes requests, written
            to `assets.extra/tf_serving_warmup_requests`; needs the extra "serving".
        calibration: pixels for the parity measurement; see `to_tflite`.
        evaluation: labelled images, of which the report says what model and directory
            reach on them; see `to_tflite`.
        preprocessing: for a model that does not carry its own; see `to_tflite`.
        input_shape, output, custom_objects: see `to_tflite`.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError: an argument does not fit the model.
        FileExistsError: `path` exists.
        ParityError: the outputs are too far from the model's.
        OSError: the directory cannot be written.
        MissingDependency: the extra "export" is not installed.
    """
    if os.path.exists(path):
        # Of a process that was killed at its very end.
        remove_leftovers(pathlib.Path(path).absolute().parent)
        raise FileExistsError(
            f"`path` must not exist; a new version needs a new directory. "
            f"Received: path='{path}'"
        )
    user = UserInputs(
        *(model, calibration, evaluation, preprocessing, labels),
        input_shape=input_shape,
        output=output,
        custom_objects=custom_objects,
        head=head,
    )
    options = {
        "signatures": check_names(signatures, top_k),
        "top_k": top_k,
        "exif": exif,
        "warmup": check_batch_sizes(warmup),
    }
    if backend.is_tensorflow():
        return write_saved_model(user, path, **options)
    with user.saved() as inputs:
        request = {"inputs": inputs, "path": os.fspath(path), **options}
        backend.run_in_child("to_saved_model", request)
    return read_report(path)


def answer_request(inputs, path, signatures, **options):
    """Answer a request of `backend.run_in_child`; the report is beside the result."""
    names = None if signatures is None else tuple(signatures)
    write_saved_model(UserInputs.restored(inputs), path, names, **options)


def write_saved_model(
    user: UserInputs, path, signatures, top_k, exif, warmup
) -> ExportReport:
    """Write, check and publish the directory; the options are checked by
    `to_saved_model`."""
    import tensorflow as tf

    stage("reading the model and the images")
    path = pathlib.Path(path)
    inputs = ExportInputs.open(user, PARITY_LIMIT)
    names = _check_signatures(signatures, inputs)
    check_predictions(inputs)
    labelled = Labelled.open(inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    with workspace(path, folder=True) as work:
        stage("rewriting the graph")
        server, rewrites, notes = _server(inputs, names, top_k, exif)
        stage(f"writing {', '.join(names)}")
        try:
            quietly(server.write, work, names)
        except tf.errors.OpError as error:  # the disk is full or not writable
            raise OSError(f"'{path.parent}' cannot be written: {error}") from error
        if warmup:
            write_warmup(work, path.parent.name, names, warmup, server)
        dtype = server.dtype
        del server  # and with it the weights, before they are read again
        gc.collect()
        memory.trim()
        proven = _prove(work, path, inputs)
        report = ExportReport(
            path=str(path),
            format="saved_model",
            scheme="float32",
            target=None,
            size_bytes=0,
            **proven,
            operators=None,
            evaluation=labelled and labelled.compare_file(work),
            rewrites=rewrites,
            **inputs.report_fields(dtype, notes),
        )
        return publish(work, path, report)


def _prove(work, path, inputs):
    """Run the directory in TensorFlow and compare it with the Keras model.

    Returns:
        The report's fields on the signature's input and output.
    """
    stage("comparing with the model")
    pixels, preprocessing = (
        inputs.images.compared(inputs.outputs.shape),
        inputs.preprocessing,
    )
    judged = inputs.outputs.segments, merges_by_similarity(inputs.model)
    expected = reference_outputs(inputs.model, pixels, preprocessing, BATCH)
    runner = runners.SavedModelRunner(work)
    outputs = runner(pixels, batch_size=BATCH)
    threshold = get_scheme("float32").min_sqnr_db
    parity = measure_parity(expected, outputs, threshold, *judged)
    if not parity.passed:
        raise ParityError(f"{path} was not written: {parity}", parity)
    (output,) = output_reports(runner, {UNNAMED: parity})
    return {
        "input": f"{runner.input_dtype} {runner.input_shape}",
        "output": str(output),
        "parity": parity,
        "outputs": (output,),
    }


def _check_signatures(names, inputs):
    """Return the names of the signatures to write, after checking them."""
    outputs, labelled = inputs.outputs, ("classify",)
    if names is None:
        more = labelled if outputs.classifies else ()
        names = ("serving_default", "predict_bytes", *more)
    if "classify" in names and not outputs.classifies:
        raise ValueError(
            "`signatures` may include classify only for a model with one vector of "
            f"classes per image. Received: output shape {outputs.shape}, "
            f"head={outputs.head!r}"
        )
    if not inputs.takes_pixels and names != ("serving_default",):
        raise ValueError(
            "`preprocessing` must be given for a model that has none, because it says "
            "how encoded images are resized; or `signatures` must be "
            "('serving_default',)"
        )
    return names


def _server(inputs, names, top_k, exif):
    """Return the `Server` that writes the directory, rewrites and notes."""
    from .network import serving_network

    model, reading = inputs.model, inputs.reading
    shape = tuple(model.input_shape[1:])
    wanted = dict.fromkeys(o for n in names for o in SIGNATURES[n].outputs)
    network, rewrites, notes = serving_network(
        model, inputs.preprocessing, inputs.images.pixels, tuple(wanted)
    )
    decoder = None
    if reading is not None:
        decoder = Decoder(shape[:2], reading, exif=exif)
    server = Server(
        network,
        shape,
        dtype="float32" if reading is None else "uint8",
        decoder=decoder,
        top_k=top_k,
        labels=inputs.labels,
        outputs=inputs.outputs,
    )
    return server, rewrites, notes

"""Write a SavedModel directory for TensorFlow and TF Serving, and prove it."""

import gc
import pathlib

from .. import backend, child, memory
from ..errors import ParityError
from ..evaluation import runners
from ..evaluation.verify import compare, predict
from ..progress import stage
from ..quantization import calibration as images_of
from ..report import ExportReport, publish, staged
from ..schemes import get_scheme
from .decode import Decoder
from .signatures import SIGNATURES, Server, check_names
from .warmup import check_batch_sizes, write_warmup

BATCH = 1  # images at a time for parity: what is between the layers needs memory, too


def to_saved_model(
    model,
    path,
    *,
    labels=None,
    signatures=None,
    top_k=5,
    exif=True,
    warmup=(),
    calibration=None,
    preprocessing=None,
) -> ExportReport:
    """Write a SavedModel with raw pixels in, run it, and compare it with the model.

    Signatures, N any number of images:

    - `serving_default`, always there: `images`, uint8 (N, H, W, C), or float32 for a
      model without preprocessing, to `output`, float32 (N, ...). Other image sizes are
      refused in the graph.
    - `predict_bytes`: `image_bytes` (N,), encoded JPEG, PNG, WebP, BMP or GIF, decoded
      and resized as evaluation does, to `logits`, `probabilities` (N, classes),
      `top_ids` int64, `top_scores`, `top_labels` (N, top_k) and `valid` bool (N,). An
      item that can not be read has `valid` false, 0, -1 and "", and harms no other.
    - `classify`: TF Serving's classification API: `inputs` (N,), a tf.Example each with
      the image as `image/encoded`, to `classes` and `scores` (N, top_k).
    - `features`: `image_bytes` to `tokens` (N, T, D), those of the last norm, `pooled`
      (N, D), what the head reads, and `valid`.
    - `attention`: `image_bytes` to `attention` (N, L, heads, T, T) and `valid`.

    A model of classes per pixel, (N, H, W, classes), gives `masks` (N, H, W) in the
    first two: the class of each pixel, uint8, or int32 for more than 255 classes. Those
    of an item that can not be read are 255, or -1.

    Each weight is stored once. `<path>.json` beside the directory holds the report.

    Arguments:
        model: a functional Keras model, on any backend, or the path of a `.keras`
            file.
        path: the directory to make, for TF Serving `NAME/VERSION` with a number as
            version. It must not exist; missing parents are made.
        labels: class names, an asset of the directory.
        signatures: which of the above; None for `predict_bytes` and, of a model with
            one vector of classes, `classify`. All but `serving_default` need a model
            with preprocessing.
        top_k: classes that are named.
        exif: turn encoded images as their EXIF orientation says, as evaluation does.
        warmup: batch sizes that the server shall run before it takes requests, written
            to `assets.extra/tf_serving_warmup_requests`; needs the extra "serving".
        calibration: pixels for the parity measurement; see `to_tflite`.
        preprocessing: for a model that does not carry its own.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError: an argument does not fit the model.
        FileExistsError: `path` exists.
        ParityError: the outputs are too far from the model's.
        OSError: the directory can not be written.
        MissingDependency: the extra "export" is not installed.
    """
    path = pathlib.Path(path)
    if path.exists():
        raise FileExistsError(
            f"`path` must not exist; a new version needs a new directory. "
            f"Received: path='{path}'"
        )
    names = check_names(signatures, top_k)
    warmup = check_batch_sizes(warmup)
    options = {
        "labels": labels,
        "signatures": names,
        "top_k": top_k,
        "exif": exif,
        "warmup": warmup,
        "calibration": calibration,
        "preprocessing": preprocessing,
    }
    if not backend.here():
        return child.in_child("saved-model", model, path, options)
    import tensorflow as tf

    from ..inputs import Source

    stage("reading the model and the images")
    limit = images_of.PARITY_LIMIT
    source = Source.open(model, preprocessing, labels, calibration, limit)
    model, pixels = source.model, source.images.pixels
    names = _check_signatures(names, source)
    path.parent.mkdir(parents=True, exist_ok=True)
    with staged(path) as work:
        stage("rewriting the graph")
        server, rewrites, notes = _server(source, names, top_k, exif)
        stage(f"writing {', '.join(names)}")
        try:
            backend.quietly(server.write, work, names)
        except tf.errors.OpError as error:  # a full or unwritable disk
            raise OSError(f"'{path.parent}' can not be written: {error}") from error
        if warmup:
            write_warmup(work, path.parent.name, names, warmup, server)
        del server  # and with it the weights, before they are read again
        gc.collect()
        memory.give_back()
        stage("comparing with the model")
        rules = source.preprocessing
        expected = predict(model, pixels, preprocessing=rules, batch_size=BATCH)
        runner = runners.SavedModelRunner(work)
        outputs = runner(pixels, batch_size=BATCH)
        parity = compare(expected, outputs, get_scheme("float32").min_sqnr_db)
        if not parity.passed:
            raise ParityError(f"{path} was not written: {parity}", parity)
        report = ExportReport(
            path=str(path),
            format="saved_model",
            scheme="float32",
            target=None,
            size_bytes=0,
            input=f"{runner.input_dtype} {runner.input_shape}",
            output=f"{runner.output_dtype} {runner.output_shape}",
            operators=None,
            parity=parity,
            rewrites=rewrites,
            **source.describe(notes),
        )
        return publish(work, path, report)


def _check_signatures(names, source):
    """Names of the signatures to write."""
    output, labelled = source.model.output_shape, ("classify",)
    vector = len(output) == 2
    if names is None:
        names = ("serving_default", "predict_bytes", *(labelled if vector else ()))
    if "classify" in names and not vector:
        raise ValueError(
            "`signatures` can hold classify only for a model with one vector of "
            f"classes per image. Received: output shape {output}"
        )
    if source.preprocessing is None and names != ("serving_default",):
        raise ValueError(
            "`preprocessing` must be given for a model that carries none, or "
            "`signatures` be ('serving_default',): how encoded images are to be "
            "resized is not known"
        )
    return names


def _server(source, names, top_k, exif):
    """What writes the directory, and what a report says of the network."""
    from .network import serving_body

    model, rules = source.model, source.preprocessing
    shape = tuple(model.input_shape[1:])
    wanted = dict.fromkeys(o for n in names for o in SIGNATURES[n].outputs)
    body, rewrites, notes = serving_body(
        model, rules, source.images.pixels, tuple(wanted)
    )
    server = Server(
        body,
        shape,
        dtype="float32" if rules is None else "uint8",
        decoder=None if rules is None else Decoder(shape[:2], rules, exif=exif),
        top_k=top_k,
        labels=source.labels,
        probabilities=_gives_probabilities(model),
    )
    return server, rewrites, notes


def _gives_probabilities(model):
    """Whether the last thing that a model does is a softmax or a sigmoid."""
    last = model.outputs[0]._keras_history.operation
    if hasattr(last, "outputs") and hasattr(last, "layers"):  # a model in the model
        return _gives_probabilities(last)
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    return bool({type(last).__name__.lower(), activation} & {"softmax", "sigmoid"})

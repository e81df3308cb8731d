"""Write a SavedModel directory for TensorFlow and TF Serving, and prove it."""

import pathlib

from ..errors import ParityError
from ..evaluation import runners
from ..evaluation.verify import compare, predict
from ..quantization import calibration as images_of
from ..schemes import get_scheme
from . import metadata, on_tensorflow


def to_saved_model(
    model, path, *, labels=None, calibration=None, preprocessing=None
) -> metadata.ExportReport:
    """Write a SavedModel with raw pixels in, run it, and compare it with the model.

    One signature, `serving_default`: `images`, uint8 (N, H, W, C) with any N, to
    `output`, float32 (N, ...). Other image sizes are refused in the graph. Each
    weight is stored once. `<path>.json` beside the directory holds the report.

    Arguments:
        model: a functional Keras model, on any backend, or the path of a `.keras`
            file.
        path: the directory to make, for TF Serving `NAME/VERSION` with a number as
            version. It must not exist; missing parents are made.
        labels: class names, written to `assets.extra/labels.txt`.
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
    options = {
        "labels": labels,
        "calibration": calibration,
        "preprocessing": preprocessing,
    }
    if not on_tensorflow.here():
        return on_tensorflow.in_child("saved-model", model, path, options)
    from ..graph.build import inference_graph
    from .source import Source

    limit = images_of.PARITY_LIMIT
    source = Source.open(model, preprocessing, labels, calibration, limit)
    model, images, labels = source.model, source.images, source.labels
    rules = get_scheme("float32")
    path.parent.mkdir(parents=True, exist_ok=True)
    with metadata.staged(path) as staged:
        graph = inference_graph(model, source.preprocessing, source.images.pixels)
        raw = source.preprocessing is not None
        _write(
            graph.function, model.input_shape[1:], staged, "uint8" if raw else "float32"
        )
        if labels is not None:
            folder = staged / "assets.extra"
            folder.mkdir()
            (folder / "labels.txt").write_text("\n".join(labels) + "\n")
        runner = runners.load(staged)
        parity = compare(
            predict(model, images.pixels, preprocessing=source.preprocessing),
            runner(images.pixels),
            rules.min_sqnr_db,
        )
        if not parity.passed:
            raise ParityError(f"{path} was not written: {parity}", parity)
        report = metadata.ExportReport(
            path=str(path),
            format="saved_model",
            scheme="float32",
            target=None,
            size_bytes=0,
            input=f"{runner.input_dtype} {runner.input_shape}",
            output=f"{runner.output_dtype} {runner.output_shape}",
            operators=None,
            parity=parity,
            rewrites=graph.rewrites,
            **source.describe(graph.notes),
        )
        return metadata.publish(staged, path, report)


def _write(function, shape, path, dtype):
    import keras
    import tensorflow as tf

    def serve(images):
        # TensorFlow's C++ loader does not enforce the signature's shape; a slightly
        # larger image would be cropped without a word.
        images = tf.ensure_shape(images, (None, *shape))
        return {"output": function(tf.cast(images, "float32"))}

    spec = tf.TensorSpec((None, *shape), tf.as_dtype(dtype), name="images")
    archive = keras.export.ExportArchive()
    # Without `track(model)`, which would store every weight a second time.
    archive.add_endpoint("serving_default", serve, input_signature=[spec])
    try:
        on_tensorflow.quietly(archive.write_out, str(path), verbose=False)
    except tf.errors.OpError as error:  # a full or unwritable disk
        raise OSError(f"'{path.parent.parent}' can not be written: {error}") from error

"""The signatures of a SavedModel: what TF Serving lets clients ask for.

All share one function of the network, and each of its weights is one variable.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

EXAMPLE_KEY = "image/encoded"  # of a tf.Example, as ImageNet's TFRecords have it


@dataclasses.dataclass(frozen=True)
class Signature:
    """One way to ask.

    Arguments:
        input: name of the input.
        encoded: whether it is encoded images, which are decoded in the graph.
        method: how TF Serving knows it.
        outputs: names of the body's outputs that it needs.
    """

    input: str
    encoded: bool
    method: str = "tensorflow/serving/predict"
    outputs: tuple[str, ...] = ("output",)


SIGNATURES: dict[str, Signature] = {
    "serving_default": Signature("images", False),
    "predict_bytes": Signature("image_bytes", True),
    "classify": Signature("inputs", True, "tensorflow/serving/classify"),
    "features": Signature("image_bytes", True, outputs=("tokens", "pooled")),
    "attention": Signature("image_bytes", True, outputs=("attention",)),
}


@dataclasses.dataclass(frozen=True)
class Server:
    """What the endpoints need.

    Arguments:
        body: from float32 pixels (N, H, W, C) to a dict of outputs.
        shape: (H, W, C).
        dtype: of the images that `serving_default` takes.
        decoder: a `Decoder` for encoded images; None if the model takes no pixels.
        top_k: how many classes are named.
        labels: class names, or None.
        probabilities: whether the output is one already.
    """

    body: Callable[[Any], dict[str, Any]]
    shape: tuple[int, int, int]
    dtype: str
    decoder: Any
    top_k: int
    labels: list[str] | None
    probabilities: bool

    def write(self, path, names):
        """Write the SavedModel.

        Arguments:
            path: the directory to make.
            names: of the signatures.
        """
        import keras
        import tensorflow as tf

        spec = tf.TensorSpec((None, *self.shape), "float32")
        core = tf.function(self.body, [spec], autograph=False).get_concrete_function()
        archive = keras.export.ExportArchive()
        with tempfile.TemporaryDirectory() as folder:
            table = self._table(folder)
            if table is not None:
                archive.track(table)
            for name in names:
                kind = SIGNATURES[name]
                endpoint = getattr(self, f"_{name}")(core, table)
                shape = (None,) if kind.encoded else (None, *self.shape)
                dtype = tf.string if kind.encoded else tf.as_dtype(self.dtype)
                entry = tf.TensorSpec(shape, dtype, name=kind.input)
                # Without `track(model)`, which would store every weight a second time.
                archive.add_endpoint(name, endpoint, input_signature=[entry])
            archive.write_out(str(path), verbose=False)
        _name_methods(path, names)

    def _table(self, folder):
        """Class names as a table that rides in the directory's assets, or None."""
        import tensorflow as tf

        if self.labels is None:
            return None
        file = pathlib.Path(folder) / "labels.txt"
        file.write_text("\n".join(self.labels) + "\n", encoding="utf-8")
        line, whole = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex
        source = tf.lookup.TextFileInitializer(
            *(str(file), tf.int64, line, tf.string, whole.WHOLE_LINE)
        )
        return tf.lookup.StaticHashTable(source, "")

    def _serving_default(self, core, table):
        import tensorflow as tf

        def endpoint(images):
            # TensorFlow's C++ loader does not enforce the signature's shape; a
            # slightly larger image would be cropped without a word.
            images = tf.ensure_shape(images, (None, *self.shape))
            return {"output": core(tf.cast(images, "float32"))["output"]}

        return endpoint

    def _predict_bytes(self, core, table):
        def endpoint(image_bytes):
            pixels, valid = self.decoder(image_bytes)
            found = self._answers(core(pixels)["output"], table)
            return {**_neutral(found, valid), "valid": valid}

        return endpoint

    def _classify(self, core, table):
        import tensorflow as tf

        def encoded(example):
            feature = tf.io.FixedLenFeature([], tf.string)
            return tf.io.parse_single_example(example, {EXAMPLE_KEY: feature})[
                EXAMPLE_KEY
            ]

        def endpoint(inputs):
            pixels, valid = self.decoder(inputs, encoded)
            found = self._answers(core(pixels)["output"], table)
            classes = found.get("top_labels", tf.strings.as_string(found["top_ids"]))
            found = {"classes": classes, "scores": found["top_scores"]}
            return _neutral(found, valid)

        return endpoint

    def _features(self, core, table):
        def endpoint(image_bytes):
            pixels, valid = self.decoder(image_bytes)
            found = core(pixels)
            found = {name: found[name] for name in ("tokens", "pooled")}
            return {**_neutral(found, valid), "valid": valid}

        return endpoint

    def _attention(self, core, table):
        def endpoint(image_bytes):
            pixels, valid = self.decoder(image_bytes)
            found = {"attention": core(pixels)["attention"]}
            return {**_neutral(found, valid), "valid": valid}

        return endpoint

    def _answers(self, output, table):
        """What clients want to know of an output (N, classes), or (N, ...)."""
        import tensorflow as tf

        if len(output.shape) != 2:
            if len(output.shape) == 4:  # classes of pixels
                return {"masks": tf.argmax(output, -1)}
            return {"output": output}
        shares = output if self.probabilities else tf.nn.softmax(output)
        scores, ids = tf.math.top_k(shares, min(self.top_k, output.shape[-1]))
        ids = tf.cast(ids, tf.int64)
        found = {"logits": output} if not self.probabilities else {}
        found |= {"probabilities": shares, "top_ids": ids, "top_scores": scores}
        if table is not None:
            found["top_labels"] = table.lookup(ids)
        return found


def _neutral(outputs, valid):
    """Rows of images that could not be read as 0, -1 or "": finite, since JSON has no
    NaN."""
    import tensorflow as tf

    nothing = {tf.string: "", tf.int64: -1}
    found = {}
    for name, value in outputs.items():
        there = tf.reshape(valid, (-1, *[1] * (len(value.shape) - 1)))
        empty = tf.constant(nothing.get(value.dtype, 0), value.dtype)
        found[name] = tf.where(there, value, empty)
    return found


def _name_methods(path, names):
    """Tell TF Serving's classification API which signature is its own."""
    import tensorflow as tf

    utilities = tf.compat.v1.saved_model.signature_def_utils
    updater = utilities.MethodNameUpdater(str(path))
    for name in names:
        updater.replace_method_name(
            signature_key=name, method_name=SIGNATURES[name].method
        )
    updater.save()


def check_names(signatures, top_k):
    """Names of the wanted signatures, `serving_default` always among them.

    Raises:
        ValueError: an unknown name, or `top_k` below 1.
    """
    names = (signatures,) if isinstance(signatures, str) else tuple(signatures)
    unknown = sorted(set(names) - set(SIGNATURES))
    if unknown:
        raise ValueError(
            f"`signatures` must be of {', '.join(SIGNATURES)}. "
            f"Received: {', '.join(unknown)}"
        )
    if not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"`top_k` must be an integer >= 1. Received: {top_k!r}")
    return tuple(name for name in SIGNATURES if name in {"serving_default", *names})

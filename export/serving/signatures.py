"""The signatures of a SavedModel for clients of TF Serving.

All share one network function, and each weight is one variable.
"""

import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from ..evaluation.tools.serving_requests import EXAMPLE_KEY

NO_CLASS = 255  # in uint8 masks, as usual in segmentation data sets


@dataclasses.dataclass(frozen=True)
class Signature:
    """A signature's input, and the network outputs that it needs.

    Arguments:
        input: name of the input.
        encoded: whether the input is encoded images, decoded in the graph.
        method: TF Serving's method name.
        outputs: names of the needed network outputs.
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
    """The network, decoder and labels behind the signatures.

    Arguments:
        network: from float32 pixels (N, H, W, C) to a dict of outputs.
        shape: (H, W, C).
        dtype: of the images for `serving_default`.
        decoder: a `Decoder` for encoded images; None if the model takes no pixels.
        top_k: number of top classes returned.
        labels: class names, or None.
        outputs: what the outputs mean (`graph.model_output.ModelOutput`).
    """

    network: Callable[[Any], dict[str, Any]]
    shape: tuple[int, int, int]
    dtype: str
    decoder: Any
    top_k: int
    labels: list[str] | None
    outputs: Any

    def write(self, path, names):
        """Write the SavedModel.

        Arguments:
            path: the directory to write.
            names: of the signatures.
        """
        import keras
        import tensorflow as tf

        core = _traced(self.network, (None, *self.shape), tf.float32)
        decode = None if self.decoder is None else _decoding(self.decoder)
        archive = keras.export.ExportArchive()
        with tempfile.TemporaryDirectory() as folder:
            table = self._table(folder)
            if table is not None:
                archive.track(table)
            for name in names:
                kind = SIGNATURES[name]
                if kind.encoded:
                    entry = tf.TensorSpec((None,), tf.string, kind.input)
                    endpoint = self._encoded(name, core, decode, table)
                else:
                    entry = tf.TensorSpec((None, *self.shape), self.dtype, kind.input)
                    endpoint = self._pixels(core)
                # `track(model)` would store every weight a second time.
                archive.add_endpoint(name, endpoint, input_signature=[entry])
            archive.write_out(str(path), verbose=False)
        _name_methods(path, names)

    def _table(self, folder):
        """Return class names as a lookup table stored as an asset, or None."""
        import tensorflow as tf

        if self.labels is None or self.outputs.head in ("regression", "depth"):
            return None
        file = pathlib.Path(folder) / "labels.txt"
        file.write_text("\n".join(self.labels) + "\n", encoding="utf-8")
        line, whole = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex
        source = tf.lookup.TextFileInitializer(
            *(str(file), tf.int64, line, tf.string, whole.WHOLE_LINE)
        )
        return tf.lookup.StaticHashTable(source, "")

    def _pixels(self, core):
        """Return the endpoint for images as arrays."""
        import tensorflow as tf

        def endpoint(images):
            # TensorFlow's C++ loader does not enforce the signature's shape; a slightly
            # larger image would be cropped silently.
            images = tf.ensure_shape(images, (None, *self.shape))
            output = core(tf.cast(images, "float32"))["output"]
            return {"output": output, **_masks(output)}

        return endpoint

    def _encoded(self, name, core, decode, table):
        """Return an endpoint for encoded images."""
        read = _image_in_example if name == "classify" else None

        def endpoint(items):
            pixels, valid = self.decoder.batch(items, decode, read)
            found = _neutral(self._reply(name, core(pixels), table), valid)
            return found if name == "classify" else {**found, "valid": valid}

        return endpoint

    def _reply(self, name, found, table):
        """Return a signature's outputs, from those of the network."""
        import tensorflow as tf

        if name in ("features", "attention"):
            return {output: found[output] for output in SIGNATURES[name].outputs}
        answers = self._answers(found["output"], table)
        if name == "predict_bytes":
            return answers
        ids = tf.strings.as_string(answers["top_ids"])
        classes = answers.get("top_labels", ids)
        return {"classes": classes, "scores": answers["top_scores"]}

    def _answers(self, output, table):
        """Return what an output means: classes, values, masks, or itself."""
        import tensorflow as tf

        if self.outputs.head in ("regression", "depth"):
            return {"values": output}
        if not self.outputs.classifies:
            return _masks(output) or {"output": output}
        given = self.outputs.is_probability
        shares = _probabilities(output, self.outputs.head, given)
        scores, ids = tf.math.top_k(shares, min(self.top_k, shares.shape[-1]))
        ids = tf.cast(ids, tf.int64)
        found = {} if given else {"logits": output}
        found |= {"probabilities": shares, "top_ids": ids, "top_scores": scores}
        if table is not None:
            found["top_labels"] = table.lookup(ids)
        return found


def _traced(function, shape, dtype):
    """Return the graph of a function of one tensor."""
    import tensorflow as tf

    graph = tf.function(function, [tf.TensorSpec(shape, dtype)], autograph=False)
    return graph.get_concrete_function()


@functools.lru_cache(maxsize=4)
def _decoding(decoder):
    """Return the graph of a decoder, which is the same in every SavedModel."""
    import tensorflow as tf

    return _traced(decoder.decode, (), tf.string)


def _probabilities(output, head, given):
    """Return the probability of each name, as `vit_keras.heads.probabilities` does."""
    import tensorflow as tf

    if head == "softmax":
        return output if given else tf.nn.softmax(output)
    shares = output if given else tf.sigmoid(output)
    if head == "multi_label":
        return shares
    return tf.concat([1 - output if given else tf.sigmoid(-output), shares], -1)


def _masks(output):
    """Return {"masks": class of each pixel} for outputs (N, H, W, classes), else {}."""
    import tensorflow as tf

    if len(output.shape) != 4 or output.shape[-1] < 2:
        return {}
    small = output.shape[-1] <= NO_CLASS
    dtype = tf.uint8 if small else tf.int32
    return {"masks": tf.cast(tf.argmax(output, -1, tf.int32), dtype)}


def _image_in_example(item):
    """Read the encoded image in a tf.Example; raise in the graph if there is none."""
    import tensorflow as tf

    feature = {EXAMPLE_KEY: tf.io.FixedLenFeature([], tf.string)}
    return tf.io.parse_single_example(item, feature)[EXAMPLE_KEY]


def _neutral(outputs, valid):
    """Set the rows of unreadable images to 0, "" or no class: finite, because JSON has
    no NaN."""
    import tensorflow as tf

    nothing = {tf.string: "", tf.int64: -1, tf.int32: -1, tf.uint8: NO_CLASS}
    found = {}
    for name, value in outputs.items():
        there = tf.reshape(valid, (-1, *[1] * (len(value.shape) - 1)))
        empty = tf.constant(nothing.get(value.dtype, 0), value.dtype)
        found[name] = tf.where(there, value, empty)
    return found


def _name_methods(path, names):
    """Set the method names by which TF Serving's APIs find their signatures."""
    import tensorflow as tf

    utilities = tf.compat.v1.saved_model.signature_def_utils
    updater = utilities.MethodNameUpdater(str(path))
    for name in names:
        updater.replace_method_name(
            signature_key=name, method_name=SIGNATURES[name].method
        )
    updater.save()


def check_names(signatures, top_k):
    """Return the signatures' names, with `serving_default`; None if none were given.


    Raises:
        ValueError: an unknown name, or `top_k` below 1.
    """
    if not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"`top_k` must be an integer >= 1. Received: {top_k!r}")
    if signatures is None:
        return None
    names = (signatures,) if isinstance(signatures, str) else tuple(signatures)
    unknown = sorted(set(names) - set(SIGNATURES))
    if unknown:
        raise ValueError(
            f"`signatures` must be of {', '.join(SIGNATURES)}. "
            f"Received: {', '.join(unknown)}"
        )
    return tuple(name for name in SIGNATURES if name in {"serving_default", *names})

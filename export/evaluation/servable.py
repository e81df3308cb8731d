"""Whether a SavedModel directory keeps what clients of TF Serving rely on."""

import hashlib
import pathlib
from typing import Any

import numpy as np

from ..errors import missing
from .tools.verdict import Refusal

WARMUP = "assets.extra/tf_serving_warmup_requests"
CLASSIFY = "tensorflow/serving/classify"
LARGE = 4096  # bytes; two equal tensors of this size are one weight stored twice
CLOSE = 1e-4  # of the largest output: float32 sums of another batch, in another order


def contract(path):
    """Open a directory as TF Serving does, in a session, and ask it.

    Returns:
        (refusals, facts).

    Raises:
        ValueError: it is no SavedModel.
        MissingDependency: TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise missing("tensorflow") from error
    path = pathlib.Path(path)
    v1, found = tf.compat.v1, []
    session = v1.Session(graph=tf.Graph())
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # it advises the loader that the server does not use
    try:
        graph = v1.saved_model.load(session, ["serve"], str(path))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"`path` must be a SavedModel. '{path}': {error}") from error
    finally:
        logger.setLevel(level)
    servable = Servable(session, graph.signature_def, tf)
    facts: dict[str, Any] = {"signatures": ", ".join(sorted(servable.signatures))}
    if not path.name.isdigit():
        found.append("its folder must be named by a version number, such as 1")
    if "serving_default" not in servable.signatures:
        found.append("it has no signature serving_default")
    for name in servable.signatures:
        found += servable.problems(name)
    found += _stored_twice(path, tf)
    if (path / WARMUP).is_file():
        number, failed = servable.replay(path / WARMUP)
        facts["warm-up records"] = number
        found += failed
    facts["variables_bytes"] = sum(
        file.stat().st_size for file in (path / "variables").glob("*.data*")
    )
    return tuple(Refusal("", 0, reason) for reason in found), facts


class Servable:
    """The signatures of an open session, run by the names of their tensors."""

    def __init__(self, session, signatures, tf):
        self.session, self.tf = session, tf
        hidden = ("__saved_model_init_op", "__saved_model_train_op")
        self.signatures = {k: v for k, v in signatures.items() if k not in hidden}

    def run(self, name, **inputs):
        """Outputs of a signature by name."""
        signature = self.signatures[name]
        feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
        fetches = {key: value.name for key, value in signature.outputs.items()}
        return self.session.run(fetches, feeds)

    def problems(self, name) -> list[str]:
        """What is wrong with a signature."""
        signature = self.signatures[name]
        if len(signature.inputs) != 1:
            return [f"{name}: it must have one input"]
        ((key, entry),) = signature.inputs.items()
        for output, info in signature.outputs.items():
            dims = info.tensor_shape.dim
            if info.tensor_shape.unknown_rank or not dims or dims[0].size != -1:
                return [f"{name}: output {output} must begin with any number of images"]
        shape = [dim.size for dim in entry.tensor_shape.dim]
        if self.tf.as_dtype(entry.dtype) == self.tf.string:
            items = self._items(signature.method_name == CLASSIFY)
        else:
            dtype = self.tf.as_dtype(entry.dtype).as_numpy_dtype
            draws = np.random.default_rng(0).integers(0, 255, (3, *shape[1:]))
            items = draws.astype(dtype)
        try:
            alone = self.run(name, **{key: items[:1]})
            together = self.run(name, **{key: items})
        except (self.tf.errors.OpError, ValueError) as error:
            return [f"{name}: {str(error).splitlines()[0]}"]
        return [f"{name}: {p}" for p in _differences(alone, together, items)]

    def _items(self, as_examples):
        """A good image, one that is none, and the good one again."""
        tf = self.tf
        pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3))
        good = tf.io.encode_png(pixels.astype("uint8")).numpy()
        items = [good, b"not an image", good]
        if as_examples:
            for i, item in enumerate(items):
                example = tf.train.Example()
                feature = example.features.feature["image/encoded"]
                feature.bytes_list.value.append(item)
                items[i] = example.SerializeToString()
        return np.array(items, object)

    def replay(self, file):
        """Run the requests of a warm-up file.

        Returns:
            (their number, what went wrong).
        """
        from .servable_records import records

        number, failed = 0, []
        for name, key, value in records(file, self.tf):
            number += 1
            try:
                self.run(name, **{key: value})
            except (self.tf.errors.OpError, ValueError, KeyError) as error:
                failed.append(f"warm-up record {number}: {str(error).splitlines()[0]}")
        return number, failed


def _differences(alone, together, items):
    """What an image's neighbours in a batch changed of its answer."""
    for name, first in alone.items():
        values = together[name]
        if len(values) != len(items):
            yield f"output {name} has {len(values)} rows for {len(items)} images"
        elif values.dtype.kind == "f":
            if not np.isfinite(values).all():
                yield f"output {name} is not finite"
            elif np.abs(values[:1] - first).max() > CLOSE * np.abs(first).max() + 1e-6:
                yield f"output {name} depends on the other images of the batch"
        elif name != "valid" and values.dtype.kind == "O" and not all(first.flat):
            yield f"output {name} names no class"
    if "valid" in together and together["valid"].tolist() != [True, False, True]:
        yield "`valid` must be true for a good image and false for a bad one"


def _stored_twice(path, tf):
    reader, seen = tf.train.load_checkpoint(str(path / "variables" / "variables")), {}
    for name in reader.get_variable_to_shape_map():
        value = reader.get_tensor(name)
        if not isinstance(value, np.ndarray) or value.nbytes < LARGE:
            continue
        if not value.any():
            continue  # weights that are all zero are alike without being the same
        digest = hashlib.sha256(value.tobytes()).hexdigest()
        if digest in seen:
            yield f"a weight is stored twice: {seen[digest]} and {name}"
        seen[digest] = name

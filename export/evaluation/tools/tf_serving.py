"""Checker for TF Serving: what clients rely on in a SavedModel directory."""

import hashlib
import pathlib
from typing import Any

import numpy as np

from ..saved_model_session import SavedModelSession, first_line
from .result import UnsupportedOp
from .serving_requests import WARMUP, example, records

CLASSIFY = "tensorflow/serving/classify"
# Dtypes of outputs with these names.
DTYPES = {
    **dict.fromkeys(("logits", "probabilities", "top_scores", "scores"), ("float32",)),
    **dict.fromkeys(("values", "tokens", "pooled", "attention"), ("float32",)),
    **dict.fromkeys(("top_labels", "classes"), ("string",)),
    "top_ids": ("int64",),
    "masks": ("uint8", "int32"),
    "valid": ("bool",),
}
LARGE = 4096  # bytes; two equal tensors of this size are one weight stored twice
CLOSE = 1e-4  # relative to the largest output: another batch sums in another order


def check_saved_model(path):
    """Open a directory in a session, as TF Serving does, and run its signatures.

    Returns:
        (problems as `UnsupportedOp`, facts).

    Raises:
        ValueError: the directory is no SavedModel.
        MissingDependency: TensorFlow is not installed.
    """
    path, found = pathlib.Path(path), []
    session = SavedModelSession(path)
    facts: dict[str, Any] = {"signatures": ", ".join(sorted(session.signatures))}
    if not path.name.isdigit():
        found.append("its folder must be named by a version number, such as 1")
    if "serving_default" not in session.signatures:
        found.append("it has no signature serving_default")
    for name in session.signatures:
        found += [f"{name}: {problem}" for problem in _problems(session, name)]
    found += _labels(session)
    found += _stored_twice(session)
    if (path / WARMUP).is_file():
        facts["warm-up records"], failed = _replay(session)
        found += failed
    facts["variables_bytes"] = sum(
        file.stat().st_size for file in (path / "variables").glob("*.data*")
    )
    return tuple(UnsupportedOp("", 0, reason) for reason in found), facts


def _problems(session, name):
    """Return the problems of a signature."""
    signature, tf = session.signatures[name], session.tf
    if len(signature.inputs) != 1:
        return ["it must have one input"]
    ((key, entry),) = signature.inputs.items()
    for output, info in signature.outputs.items():
        dims = info.tensor_shape.dim
        if info.tensor_shape.unknown_rank or not dims or dims[0].size != -1:
            return [f"output {output} must begin with any number of images"]
        dtype = tf.as_dtype(info.dtype).name
        if dtype not in DTYPES.get(output, (dtype,)):
            wanted = " or ".join(DTYPES[output])
            return [f"output {output} must be {wanted}. Received: {dtype}"]
    shape = [dim.size for dim in entry.tensor_shape.dim]
    if tf.as_dtype(entry.dtype) == tf.string:
        items, readable = _encoded(tf)
        if signature.method_name == CLASSIFY:
            items = np.array([example(item, tf) for item in items], object)
    else:
        draws = np.random.default_rng(0).integers(0, 255, (3, *shape[1:]))
        items, readable = draws.astype(tf.as_dtype(entry.dtype).as_numpy_dtype), None
    try:
        alone = session.run(name, {key: items[:1]})
        together = session.run(name, {key: items})
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        return [first_line(error)]
    return [*_differences(alone, together, items, readable)]


def _encoded(tf):
    """Return readable and unreadable images, and which are readable."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3))
    good = tf.io.encode_png(pixels.astype("uint8")).numpy()
    items = [good, b"not an image", b"", good[: len(good) // 2], good]
    return np.array(items, object), [True, False, False, False, True]


def _differences(alone, together, items, readable):
    """Yield outputs of an image that depend on the other images of its batch."""
    for name, first in alone.items():
        values = together[name]
        if len(values) != len(items):
            yield f"output {name} has {len(values)} rows for {len(items)} images"
        elif values.dtype.kind == "f":
            if not np.isfinite(values).all():
                yield f"output {name} is not finite"
            elif np.abs(values[:1] - first).max() > CLOSE * np.abs(first).max() + 1e-6:
                yield f"output {name} depends on the other images of the batch"
        elif values.dtype.kind == "O" and not all(first.flat):
            yield f"output {name} names no class"
    if readable and "valid" in together and together["valid"].tolist() != readable:
        yield "`valid` must be true for a good image and false for a bad one"


def _labels(session):
    """Yield signatures with class names that no asset has."""
    for name, signature in session.signatures.items():
        outputs = signature.outputs
        if not {"top_labels", "probabilities"} <= set(outputs):
            continue
        classes = outputs["probabilities"].tensor_shape.dim[-1].size
        files = list((session.path / "assets").glob("*"))
        texts = [file.read_text(encoding="utf-8") for file in files]
        if classes not in [len(text.splitlines()) for text in texts]:
            yield f"{name}: no file in assets has the labels of its {classes} classes"


def _stored_twice(session):
    """Yield weights that are stored more than once."""
    file = session.path / "variables" / "variables"
    reader, seen = session.tf.train.load_checkpoint(str(file)), {}
    for name in reader.get_variable_to_shape_map():
        value = reader.get_tensor(name)
        if not isinstance(value, np.ndarray) or value.nbytes < LARGE:
            continue
        if not value.any():
            continue  # all-zero weights are equal without being one weight
        digest = hashlib.sha256(value.tobytes()).hexdigest()
        if digest in seen:
            yield f"a weight is stored twice: {seen[digest]} and {name}"
        seen[digest] = name


def _replay(session):
    """Run the records of the warm-up file; return their number and the errors."""
    number, failed, tf = 0, [], session.tf
    try:
        for name, key, value in records(session.path / WARMUP, tf):
            number += 1
            try:
                session.run(name, {key: value})
            except Exception as error:  # of TensorFlow, of many kinds
                failed.append(f"warm-up record {number}: {first_line(error)}")
    except ImportError:
        raise
    except Exception as error:  # damaged, so that nothing behind it can be read
        reason = first_line(error)
        failed.append(f"warm-up record {number + 1} cannot be read: {reason}")
    return number, failed

"""Sources of TensorFlow Datasets, read without TensorFlow."""

import dataclasses
import re
from typing import Any

# Version and split follow a colon each, and a split may contain one: train[:80%].
TFDS = re.compile(r"tfds:([^:]+(?::[\d.*]+)?)(?::(.+))?")


def tfds_source(name: str, split: str) -> Any:
    """Open a data set of TFDS as a source of random access.

    Raises:
        ImportError: the packages of the extra `data` are missing.
        ValueError: there is no such data set with random access.
    """
    try:
        import array_record  # noqa: F401, TFDS imports it late
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f'"tfds:" needs {error.name}: pip install "vit-keras-edge[data]"'
        ) from error
    try:
        return tfds.data_source(name, split=split)
    except (ValueError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]  # the rest lists all data sets
        raise ValueError(
            "`data` must name a data set of TFDS that is or can be stored as "
            f"array_record. Received: {name!r}, split={split!r} ({reason})"
        ) from error


def undecoded(source: Any) -> tuple[Any, Any]:
    """Return a TFDS source that leaves images encoded, and its classes.

    Raises:
        ValueError: it has no images with labels.
    """
    from tensorflow_datasets import decode

    features = source.dataset_info.features
    if "image" not in features or "label" not in features:
        raise ValueError(
            "`data` must have the features image and label. Received: "
            f"{', '.join(features)}"
        )
    decoders = {**(source.decoders or {}), "image": decode.SkipDecoding()}
    names = getattr(features["label"], "names", None)
    return dataclasses.replace(source, decoders=decoders), names

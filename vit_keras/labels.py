"""Class names: those stored beside a model, and their order in another model."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any


def find_labels(model_path: str | os.PathLike[str]) -> list[str] | None:
    """Read class names from the `labels.txt` beside a model, one per line, or None."""
    file = pathlib.Path(model_path).with_name("labels.txt")
    if not file.is_file():
        return None
    return file.read_text(encoding="utf-8").splitlines()


def config_labels(model: Any) -> list[str] | None:
    """Return the class names in the configuration of a model with a head, or None."""
    config = getattr(model, "config", None)
    if config is None or not config.include_top or model.task == "features":
        return None
    return list(config.labels) if config.labels is not None else None


def indices_of(names: Sequence[str], labels: Sequence[str] | None) -> list[int] | None:
    """Find names among the labels of a model.

    Arguments:
        names: to look for.
        labels: in the order of the model's outputs, or None.

    Returns:
        The index of each name; None if one is missing, or stands there twice, as
        "crane" does in ImageNet.
    """
    found: dict[str, list[int]] = {}
    for index, label in enumerate(labels or ()):
        found.setdefault(label, []).append(index)
    if any(len(found.get(name, ())) != 1 for name in names):
        return None
    return [found[name][0] for name in names]

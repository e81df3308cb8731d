"""Class names: their checks, those beside a model, their order in another model."""

import collections
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from .text_files import read_text


def check_labels(labels: Sequence[str]) -> list[str]:
    """Return names of classes or labels, after checking them.

    Raises:
        ValueError: there is none, one is empty or of several lines, or there twice.
    """
    names = [labels] if isinstance(labels, str) else list(labels)
    if isinstance(labels, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"`labels` must be a list of names. Received: {labels!r}")
    if not names:
        raise ValueError("`labels` must be at least one name. Received: none")
    for index, name in enumerate(names):
        if not name.strip() or len(name.splitlines()) > 1:
            raise ValueError(
                f"`labels` must be one line of text each. Received: {name!r} as number "
                f"{index}"
            )
    twice = [n for n, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"`labels` must differ from each other. Received twice: {', '.join(twice)}"
        )
    return names


def find_labels(model_path: str | os.PathLike[str]) -> list[str] | None:
    """Read class names from the `labels.txt` beside a model, one per line, or None.

    Raises:
        ValueError: the file is no text in UTF-8, or is far too large.
    """
    file = pathlib.Path(model_path).with_name("labels.txt")
    if not file.is_file():
        return None
    return read_text(file).splitlines()


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

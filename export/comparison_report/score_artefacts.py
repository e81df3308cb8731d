"""Scores of artefacts that are there already."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from ..inputs import ExportInputs, UserInputs
from ..progress import stage
from .keras_reference import KerasReference
from .measure_file import score_artefact
from .reported_images import open_labelled
from .scores import FileScores


@dataclasses.dataclass(frozen=True)
class ArtefactScores:
    """Scores of several artefacts on the same images.

    Attributes:
        metric: name of the metric of the model's head.
        keras, keras_noise: that of the Keras model, and its standard error.
        images: which images, in words.
        scores: of each artefact.
    """

    metric: str
    keras: float
    keras_noise: float
    images: str
    scores: tuple[FileScores, ...]


def score_artefacts(
    model: Any,
    paths: Sequence[str | os.PathLike[str]],
    data: Any,
    *,
    limit: int | None = None,
    **options: Any,
) -> ArtefactScores:
    """Score artefacts on labelled images, beside the Keras model.

    Arguments:
        model: as for `to_tflite`.
        paths: `.tflite` files and SavedModel directories made of it.
        data: labelled images as training takes them; of those with parts the test part,
            else the validation part, is used.
        limit: use at most this many, drawn at random; None is all.
        **options: `preprocessing`, `labels`, `head`, `output`, `custom_objects`, as for
            `to_tflite`.

    Raises:
        ValueError: the data or an artefact does not fit the model.
        FileNotFoundError: the model, the data or an artefact does not exist.
    """
    stage("reading the model and the images")
    subject = ExportInputs.open(UserInputs(model, **options), limit=1)
    images = open_labelled(data, subject, limit=limit)
    keras = KerasReference(subject, images)
    stage("Keras: scores")
    reference, found = keras.scored(), []
    for path in paths:
        stage(f"{path}: scores")
        found.append(score_artefact(path, subject, images, keras))
    metric = found[0].metric if found else ""
    return ArtefactScores(
        metric, reference.value, reference.noise, images.words, tuple(found)
    )

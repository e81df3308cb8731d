"""The images of a report: those that are reported, and others that calibrate."""

import dataclasses
import functools
import hashlib
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from vit_keras import data
from vit_keras.data.tfds_sources import TFDS
from vit_keras.heads import HEADS, ONE_CLASS
from vit_keras.training.evaluation import checked_for
from vit_keras.weights.entries import DATA_RATIO
from vit_keras.weights.formats.npz_file import read_npz

from ..evaluation.parity_images import content_hash
from ..inputs import CALIBRATION_LIMIT, ExportInputs

BATCH = 64  # images whose outputs are in memory at a time
SET_ASIDE = 0.2  # most of a source without parts that calibrates


@dataclasses.dataclass(frozen=True)
class ReportedImages:
    """Labelled images of the model's size, and where they come from.

    Attributes:
        dataset: readable images, with labels of the model's head.
        size: (height, width) of the model's input.
        reading: the `Preprocessing` that they were read with.
        words: which images these are.
        notes: what was left out.
    """

    dataset: data.Dataset
    size: tuple[int, int]
    reading: Any
    words: str
    notes: tuple[str, ...] = ()

    def __len__(self):
        return len(self.dataset)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Return images (N, *size, C) uint8."""
        images = self.dataset.take(rows).images
        if isinstance(images, np.ndarray) and images.shape[1:3] == self.size:
            return images
        found = [images[i] for i in range(len(images))]
        return np.stack([data.read_fitted(x, self.size, self.reading) for x in found])

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (rows, images) in order."""
        for start in range(0, len(self), BATCH):
            rows = np.arange(start, min(start + BATCH, len(self)))
            yield rows, self.pixels(rows)

    @functools.cached_property
    def codes(self) -> tuple[str, ...]:
        """SHA-256 of the pixels of each image."""
        return tuple(
            code for _, images in self.batches() for code in map(content_hash, images)
        )

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the pixels, and of what is true of them."""
        labels = (self.dataset.labels[row] for row in range(len(self)))
        labels = map(np.ascontiguousarray, labels)
        found = {"images": self.codes, "truth": map(content_hash, labels)}
        return {
            name: hashlib.sha256("".join(codes).encode()).hexdigest()
            for name, codes in found.items()
        }


def open_labelled(
    source: Any,
    subject: ExportInputs,
    *,
    part: str | None = None,
    limit: int | None = None,
) -> ReportedImages:
    """Open labelled images, of which nothing is left for calibration.

    Arguments and errors are those of `open_reported`.
    """
    whole, where, _, notes = _parts(source, subject, part)
    return _prepared(whole, where, notes, subject, limit)


def open_reported(
    source: Any,
    subject: ExportInputs,
    *,
    calibration: Any = None,
    part: str | None = None,
    limit: int | None = None,
) -> tuple[ReportedImages, np.ndarray, str]:
    """Open the images to report, and others for calibration.

    Arguments:
        source: labelled images as training takes them. Reported is `part`, else the
            test part, else the validation part, else what calibration leaves.
        subject: the opened model.
        calibration: images to calibrate on, as `to_tflite` takes them. None takes the
            training part; of a source without one, a fifth, 128 images at most, is set
            aside.
        part: of the source, "train", "validation" or "test".
        limit: report at most this many, drawn at random; None is all.

    Returns:
        (the images, pixels for calibration (N, H, W, C), where these come from).

    Raises:
        ValueError: the data does not fit the model, or calibration would use the images
            that are reported.
        FileNotFoundError: a file or folder does not exist.
    """
    whole, where, given, notes = _parts(source, subject, part)
    origin = f"of the training part of {_words(source)}"
    if calibration is not None:
        given, origin = calibration, f"of {_words(calibration)}"
    elif given is None:
        whole, given = _set_aside(whole)
        origin = f"of {_words(source)}, set aside at random and not reported"
        where += ", without those set aside for calibration"
    images = _prepared(whole, where, notes, subject, limit)
    with warnings.catch_warnings():  # unreadable files are named by the notes
        warnings.simplefilter("ignore", UserWarning)
        pixels = data.load_images(given, images.size, images.reading, CALIBRATION_LIMIT)
    return images, *_without_reported(pixels, origin, images)


def _parts(source, subject, part):
    """What is reported, its name, the training part or None, and notes."""
    kind = subject.outputs.kind
    if kind is None or subject.reading is None:
        raise ValueError(
            "`model` must have a head and tell how its images are read: give `head` "
            "and `preprocessing`. Received: a model with head="
            f"{subject.outputs.head!r} and "
            f"{'no' if subject.reading is None else 'its own'} preprocessing"
        )
    splits = data.open_splits(source, held_out=True, task=kind.task)
    name = splits.name_of_part(True, part)
    training = None if name == "train" else splits.train
    if training is None and _has_parts(source):
        training = data.open_source(source, held_out=False, task=kind.task)
    alone = len(splits.counts()) == 1 and training is None
    where = (
        f"of {_words(source)}" if alone else f"of the {name} part of {_words(source)}"
    )
    notes = (*splits.notes, *splits.problems)
    return getattr(splits, name), where, training, notes


def _prepared(whole, where, notes, subject, limit):
    """Draw the images to report, and read them."""
    total = len(whole)
    if limit is not None and limit < total:
        draw = np.random.default_rng(0).choice(total, limit, replace=False)
        whole = whole.take(np.sort(draw))
    size = subject.model.input_shape[1:3]
    drawn = len(whole) < total
    dataset, bad = data.prepare(_fitting(whole, subject), size, subject.reading)
    words = f"all {total:,} images {where}"
    if len(dataset) < total:
        words = f"{len(dataset):,} of {total:,} images {where}"
        words += ", drawn at random" if drawn else ""
    notes = (*notes, *(f"skipped: {line}" for line in bad))
    return ReportedImages(dataset, size, subject.reading, words, notes)


def _words(source):
    """What a user calls a source; never more of a path than was given."""
    if isinstance(source, str | pathlib.PurePath):
        return f"'{source}'"
    return "the data given"


def _has_parts(source):
    """Whether a source that is opened part by part has one for training."""
    if source == "digits":
        return True
    if not isinstance(source, str | pathlib.PurePath):
        return False
    if match := TFDS.fullmatch(str(source)):
        return match[2] is None
    if pathlib.Path(source).suffix.lower() != ".npz":
        return False
    return "images" not in read_npz(source, DATA_RATIO)  # but x_train and x_test


def _set_aside(dataset):
    """Split a source without parts: (to report, to calibrate)."""
    number = min(CALIBRATION_LIMIT, int(SET_ASIDE * len(dataset)))
    if number < 1:
        raise ValueError(
            "`data` must hold 5 images at least, for a fifth of them to calibrate; or "
            f"give `calibration`. Received: {len(dataset)}"
        )
    order = np.random.default_rng(0).permutation(len(dataset))
    aside, rest = np.sort(order[:number]), np.sort(order[number:])
    return dataset.take(rest), dataset.take(aside)


def _fitting(dataset, subject):
    """Return a data set with the classes and labels of the model's head."""
    outputs, names = subject.outputs, subject.labels
    if names is not None:
        dataset = data.match_classes(dataset, names)
    elif outputs.head in ONE_CLASS and len(dataset.classes) < outputs.names:
        more = map(str, range(len(dataset.classes), outputs.names))
        dataset = dataclasses.replace(dataset, classes=(*dataset.classes, *more))
    channels = 1 if HEADS[outputs.head].binary else outputs.shape[-1]
    return checked_for(dataset, outputs.head, channels)


def _without_reported(pixels, where, images):
    """Leave out calibration images that are reported, and say so."""
    known = set(images.codes)
    codes = [content_hash(image) for image in pixels.astype("uint8")]
    good = [i for i, code in enumerate(codes) if code not in known]
    if not good:
        raise ValueError(
            "`calibration` must hold images that are not reported; all "
            f"{len(pixels)} of {where} are"
        )
    if len(good) < len(pixels):
        where += f", without {len(pixels) - len(good)} that are reported"
    return pixels[good], where

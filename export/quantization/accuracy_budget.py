"""What a user demands of an int8 file, and the file that meets it."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from ..errors import ParityError
from ..evaluation import runners
from ..evaluation.verify import compare, predict
from ..progress import stage
from ..targets import get_target
from . import mixed_precision
from .calibration import PARITY_LIMIT, load_images
from .post_training import static


@dataclasses.dataclass(frozen=True)
class Budget:
    """A demand on a file.

    Attributes:
        min_sqnr: dB that the output must reach against the Keras model, or None.
        accuracy_drop: percentage points of top-1 accuracy that may be lost, or None.
        images: pixels (N, H, W, C) to measure on.
        reference: the Keras model's outputs for these, (N, ...).
        labels: class indices (N,), for the accuracy.
    """

    min_sqnr: float | None
    accuracy_drop: float | None
    images: np.ndarray
    reference: np.ndarray
    labels: np.ndarray | None = None

    def measure(self, path) -> float:
        """The SQNR, or the drop of accuracy, of a file."""
        outputs = runners.load(path)(self.images)
        if self.accuracy_drop is None:
            return compare(self.reference, outputs).sqnr_db
        return 100 * (self._accuracy(self.reference) - self._accuracy(outputs))

    def enough(self, value) -> bool:
        """Whether what was measured meets the demand."""
        if self.accuracy_drop is None:
            return value >= self.min_sqnr
        return value <= self.accuracy_drop

    def _accuracy(self, outputs):
        return float(np.mean(outputs.argmax(axis=-1) == self.labels))

    @property
    def unit(self) -> str:
        """Of what is measured."""
        return "dB" if self.accuracy_drop is None else "points"

    def __str__(self):
        count = f"on {len(self.images)} images"
        if self.accuracy_drop is None:
            return f"an SQNR of {self.min_sqnr:g} dB {count}"
        return f"a drop of at most {self.accuracy_drop:g} points {count}"


def check_budget(min_sqnr, accuracy_drop, evaluation, scheme, target):
    """Whether a demand was given.

    Raises:
        ValueError: the demand is none that can be met by raising parts.
    """
    if min_sqnr is None and accuracy_drop is None:
        if evaluation is not None:
            raise ValueError("`evaluation` is of no use without `accuracy_drop`")
        return False
    if min_sqnr is not None and accuracy_drop is not None:
        raise ValueError("Give `min_sqnr` or `accuracy_drop`, not both")
    if scheme != "int8":
        raise ValueError(
            "`min_sqnr` and `accuracy_drop` raise parts of a file with scheme='int8'. "
            f"Received: scheme={scheme!r}"
        )
    if target is not None and get_target(target).wide == ():
        raise ValueError(
            f"`target` must have more than int8 to raise parts to. {target!r} has not"
        )
    if min_sqnr is not None and not min_sqnr > 0:
        raise ValueError(f"`min_sqnr` must be above 0 dB. Received: {min_sqnr!r}")
    if accuracy_drop is not None and not 0 <= accuracy_drop < 100:
        raise ValueError(
            "`accuracy_drop` must be percentage points from 0 to 100. "
            f"Received: {accuracy_drop!r}"
        )
    if (accuracy_drop is None) != (evaluation is None):
        raise ValueError(
            "`accuracy_drop` needs `evaluation`: a folder of class folders, a .npz "
            "file with images and labels, or a pair of arrays; `min_sqnr` needs none"
        )
    return True


def open_budget(min_sqnr, accuracy_drop, evaluation, source) -> Budget:
    """The demand with what it is measured on.

    Arguments:
        evaluation: labelled images, as `to_tflite` takes them.
        source: the `Source` of the export.
    """
    model, rules = source.model, source.preprocessing
    if accuracy_drop is None:
        images, labels = source.images.pixels[:PARITY_LIMIT], None
    else:
        images, labels = _labelled(evaluation, model, rules, source.labels)
    reference = predict(model, images, preprocessing=rules)
    return Budget(min_sqnr, accuracy_drop, images, reference, labels)


def _labelled(evaluation, model, rules, names):
    """Pixels (N, H, W, C) and class indices (N,) of what the user gave."""
    size, classes = model.input_shape[1:3], model.output_shape[-1]
    if isinstance(evaluation, str | os.PathLike):
        path = pathlib.Path(evaluation)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                if not {"images", "labels"} <= set(stored):
                    raise ValueError(
                        f"`evaluation` must hold images and labels. '{path}' holds "
                        f"{', '.join(stored)}"
                    )
                evaluation = stored["images"], stored["labels"]
        else:
            evaluation = _of_folder(path, size, rules, names)
    images, labels = evaluation
    images, labels = load_images(images, size, rules), np.asarray(labels)
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"`evaluation` must have an integer label per image, ({len(images)},). "
            f"Received: {labels.dtype} {labels.shape}"
        )
    if len(model.output_shape) != 2 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"`evaluation` must have labels from 0 to {classes - 1} for a classifier "
            f"with the output {model.output_shape}. Received: {labels.min()} to "
            f"{labels.max()}"
        )
    return images, labels


def _of_folder(path, size, rules, names):
    from vit_keras import data, preprocessing

    try:
        dataset = data.folder(path)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"`evaluation` must be a folder of class folders: {error}"
        ) from error
    labels = dataset.labels
    if names is not None:  # a folder may lack some classes
        unknown = sorted(set(dataset.classes) - set(names))
        if unknown:
            raise ValueError(
                "`evaluation` must have folders named as the labels, "
                f"{', '.join(names)}. '{path}' has {', '.join(unknown)}"
            )
        labels = np.array([names.index(name) for name in dataset.classes])[labels]
    images = [preprocessing.load_image(file, size, rules) for file in dataset.images]
    return np.stack(images), labels


def fit_budget(path, ranges, budget: Budget, ends, base, target, precise) -> Any:
    """Quantise a float file so that it meets a demand.

    Arguments:
        path: the float32 `.tflite` file; replaced by the quantised one.
        ranges: of its tensors.
        budget: the demand.
        ends: (input dtype, output dtype).
        base: rules of the file with nothing raised, a `Rule` each.
        target: name of the target, or None.
        precise: "int16" or "float32", what parts are raised to.

    Returns:
        The `mixed_precision.Choice`.

    Raises:
        ParityError: not even everything raised is enough.
    """
    place = get_target(target) if target else None
    kinds = place.wide if place else None
    if place and place.int8_only:
        kinds = place.int8_only
    bits = mixed_precision.BITS[precise]
    candidates = mixed_precision.parts(path, precise, kinds)
    entry, exit_ = ends
    trial, contents = path.with_name("trial.tflite"), {}

    def measure(raised):
        rules = [r for part in raised for r in part.rules(bits)]
        contents[len(raised)] = static(path, ranges, entry, exit_, [*base, *rules])
        trial.write_bytes(contents[len(raised)])
        return budget.measure(trial)

    stage("trying plain int8")
    raised, errors, curve = (), {}, {0: measure(())}
    if not budget.enough(curve[0]) and candidates:
        errors = mixed_precision.sensitivity(path, ranges, budget.images, candidates)
        order = sorted(candidates, key=lambda part: errors[part.name])
        raised, tried = mixed_precision.fewest(order, measure, budget.enough)
        curve |= tried
    value = curve[len(raised)]
    if not budget.enough(value):
        raise ParityError(
            f"no file was written: it can not reach {budget}. With all {len(raised)} "
            f"parts in {precise} it is {value:.3g}"
        )
    path.write_bytes(contents[len(raised)])
    names = tuple(part.name for part in raised)
    return mixed_precision.Choice(
        demand=str(budget),
        unit=budget.unit,
        precision=precise,
        raised=names,
        total=len(candidates),
        cost={
            "bytes": len(contents[len(raised)]) - len(contents[0]),
            "macs": float(sum(part.macs for part in raised)),
            "values": float(sum(part.values for part in raised)),
        },
        sensitivity=mixed_precision.finite(errors),
        curve=tuple(sorted(curve.items())),
    )

"""The accuracy or SQNR required of an int8 file, met by mixed precision."""

import dataclasses
from typing import Any

import numpy as np

from vit_keras import data
from vit_keras.heads import HEADS
from vit_keras.training.evaluation import checked_for
from vit_keras.training.metrics import measure

from ..errors import ParityError
from ..evaluation import runners
from ..evaluation.parity_images import PARITY_LIMIT
from ..evaluation.reference import references
from ..evaluation.verify import least_sqnr
from ..inputs import ExportInputs
from ..plan import ExportPlan
from ..progress import stage
from . import mixed_precision
from .evaluation_masks import open_masks
from .mixed_precision import MixedPrecision
from .part_sensitivity import round_kernels, sensitivity
from .post_training import quantize_static

FEW = 16  # images for the search; the chosen file is measured on all


@dataclasses.dataclass(frozen=True)
class Budget:
    """An accuracy or SQNR that a file must reach.

    Attributes:
        min_sqnr: minimum SQNR in dB against the Keras model's outputs, or None.
        accuracy_drop: maximum loss of the head's metric in `HEADS`, in percentage
            points, or None.
        images: pixels (N, H, W, C) to measure on.
        reference: the Keras model's outputs for these, {name: (N, ...)}.
        targets: (N, K) as `vit_keras.data.targets` gives them, for that metric; or
            masks (N, h, w).
        outputs: what the output with classes means (`ModelOutput`).
        labelled: name of that output; None for a file of one output.
    """

    min_sqnr: float | None
    accuracy_drop: float | None
    images: np.ndarray
    reference: dict[str, np.ndarray]
    targets: Any = None
    outputs: Any = None
    labelled: str | None = None

    @classmethod
    def open(cls, plan: ExportPlan, inputs: ExportInputs) -> "Budget":
        """Return the budget of a plan, with the images that it is measured on."""
        model, preprocessing = inputs.model, inputs.preprocessing
        if plan.accuracy_drop is None:
            images, targets = inputs.images.pixels[:PARITY_LIMIT], None
        else:
            images, targets = open_evaluation(inputs)
        reference = references(model, images, preprocessing, names=inputs.names)
        return cls(
            *(plan.min_sqnr, plan.accuracy_drop, images, reference),
            *(targets, inputs.outputs, inputs.labelled),
        )

    def on_few_images(self) -> "Budget":
        """The same budget of an SQNR on fewer images; accuracy needs all."""
        if self.accuracy_drop is not None:
            return self
        few = {name: values[:FEW] for name, values in self.reference.items()}
        return dataclasses.replace(self, images=self.images[:FEW], reference=few)

    def measure(self, path) -> float:
        """Measure the least SQNR of a file's outputs, or its drop of accuracy."""
        found = runners.run_on_all_cores(path, self.images)
        if self.accuracy_drop is None:
            return least_sqnr(self.reference, found)
        return 100 * (self._metric(self.reference) - self._metric(found))

    def _metric(self, found) -> float:
        head, activation = self.outputs.head, self.outputs.activation
        name = HEADS[head].metric
        found = found[self.labelled or next(iter(found))]
        return measure([(found, self.targets)], head, activation)[name]

    def is_met(self, value) -> bool:
        """Return whether a measured value meets the budget."""
        if self.accuracy_drop is None:
            return value >= self.min_sqnr
        return value <= self.accuracy_drop

    @property
    def unit(self) -> str:
        """Unit of the measured values."""
        return "dB" if self.accuracy_drop is None else "points"

    def __str__(self):
        count = f"on {len(self.images)} images"
        if self.accuracy_drop is None:
            return f"an SQNR of {self.min_sqnr:g} dB {count}"
        return f"a drop of at most {self.accuracy_drop:g} points {count}"


def open_evaluation(inputs: ExportInputs) -> tuple[np.ndarray, np.ndarray]:
    """Load the labelled images as pixels (N, H, W, C) and targets (N, K), or masks.

    Raises:
        ValueError: the images or labels do not fit the model.
    """
    outputs, given = inputs.outputs, inputs.evaluation
    if outputs.segments:
        return open_masks(inputs)
    if not outputs.classifies:
        raise ValueError(
            "`accuracy_drop` must be None for a model without classes; `min_sqnr` "
            f"fits any. Received: output {outputs.shape}, head={outputs.head!r}"
        )
    size = inputs.model.input_shape[1:3]
    if isinstance(given, tuple) and len(given) == 2:  # what the model takes, perhaps
        images, labels = data.load_images(given[0], size, inputs.reading), given[1]
        dataset = _of_arrays(images, np.asarray(labels), outputs)
    else:
        images, dataset = _labelled(given, size, inputs.reading, inputs.labels)
    if dataset.labels.ndim == 1:  # no image may be of the last classes
        more = map(str, range(len(dataset.classes), outputs.names))
        dataset = dataclasses.replace(dataset, classes=(*dataset.classes, *more))
    try:
        dataset = checked_for(dataset, outputs.head, outputs.shape[1])
    except ValueError as error:
        raise ValueError(f"`evaluation` must fit the model: {error}") from error
    return images, data.targets(dataset)


def _of_arrays(images, labels, outputs):
    """A `Dataset` of pixels and labels: classes (N,), or labels (N, K) of 0 and 1."""
    several = outputs.head == "multi_label" and labels.ndim == 2
    if len(labels) != len(images) or not (
        several or (labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer))
    ):
        raise ValueError(
            f"`evaluation` must have an integer label per image, ({len(images)},), or "
            f"for head='multi_label' labels (N, K). Received: {labels.dtype} "
            f"{labels.shape}, head={outputs.head!r}"
        )
    names = tuple(map(str, range(outputs.names)))
    head = "multi_label" if several else "softmax"
    return data.Dataset(images, labels, names, head)


def _labelled(given, size, preprocessing, names):
    if preprocessing is None:
        raise ValueError(
            "`evaluation` must be a pair of arrays for a model that carries no "
            f"preprocessing, or `preprocessing` be given. Received: {given!r}"
        )
    try:
        dataset = data.open_source(given, held_out=True)
        if names is not None:  # a folder may lack some classes
            dataset = data.match_classes(dataset, names)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"`evaluation` must be labelled images: {error}") from error
    pixels = [
        data.read_fitted(dataset.images[i], size, preprocessing)
        for i in range(len(dataset))
    ]
    return np.stack(pixels), dataset


def fit_budget(
    path, ranges, overrides, plan: ExportPlan, budget: Budget
) -> MixedPrecision:
    """Quantise a float file so that it meets a budget.

    The number of parts is searched on a few images (accuracy: on all). In place of
    int16, whose kernels in LiteRT take tens of times as long, float computes the trial
    files, with kernels of int8 values as int16 operators have. The file that this
    leads to is written and measured on all images, and gets more parts until it meets
    the budget.

    Arguments:
        path: the float32 `.tflite` file; replaced by the quantised one.
        ranges: of its tensors.
        overrides: of the file without fallback.
        plan: of the file.
        budget: the accuracy or SQNR to reach.

    Raises:
        ParityError: even with all parts in higher precision the budget is not met.
    """
    precision = plan.fallback
    candidates = mixed_precision.find_parts(path, precision, plan.fallback_operators)
    trial, contents = path.with_name(f"{path.name}.trial"), {}

    def quantized(parts, source=path, higher=precision) -> bytes:
        more = [row for part in parts for row in part.overrides(higher)]
        dtypes = plan.input_dtype, plan.output_dtypes
        return quantize_static(source, ranges, *dtypes, [*overrides, *more])

    def tried_with(parts) -> float:
        contents[len(parts)] = quantized(parts)
        trial.write_bytes(contents[len(parts)])
        return budget.measure(trial)

    def searched(order, first):
        source, few = path, budget.on_few_images()
        if precision != "float32":
            source = path.with_name(f"{path.name}.rounded")
            source.write_bytes(round_kernels(path.read_bytes()))

        def estimate(parts) -> float:
            trial.write_bytes(quantized(parts, source, "float32"))
            return few.measure(trial)

        return mixed_precision.fewest_parts(order, estimate, budget.is_met, first)[0]

    stage("trying plain int8")
    count, errors, curve = 0, {}, {0: tried_with(())}
    order: Any = ()
    if not budget.is_met(curve[0]) and candidates:
        errors = sensitivity(path, ranges, budget.images, candidates)
        order = sorted(candidates, key=lambda part: errors[part.name])
        first = 1
        if budget.min_sqnr is not None:
            wanted = budget.min_sqnr
            first = mixed_precision.foreseen_parts(order, errors, curve[0], wanted)
        count, step = len(searched(order, first)), 1
        while True:
            stage(f"measuring {count} of {len(order)} parts in {precision}")
            curve[count] = tried_with(order[:count])
            if budget.is_met(curve[count]) or count == len(order):
                break
            count, step = min(count + step, len(order)), 2 * step
    value, parts = curve[count], order[:count]
    if not budget.is_met(value):
        raise ParityError(
            f"no file was written: it cannot reach {budget}. With all {count} "
            f"parts in {precision} it has {value:.3g} {budget.unit}"
        )
    path.write_bytes(contents[count])
    return MixedPrecision(
        demand=str(budget),
        unit=budget.unit,
        precision=precision,
        parts=tuple(part.name for part in parts),
        total=len(candidates),
        cost={
            "bytes": len(contents[count]) - len(contents[0]),
            "macs": float(sum(part.macs for part in parts)),
            "values": float(sum(part.values for part in parts)),
        },
        sensitivity=mixed_precision.without_infinite(errors),
        curve=tuple(sorted(curve.items())),
    )

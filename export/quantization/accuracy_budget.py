"""The accuracy or SQNR required of an int8 file, met by mixed precision."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ParityError
from ..evaluation import runners
from ..evaluation.labelled_images import Labelled
from ..evaluation.parity import least_sqnr
from ..evaluation.parity_images import PARITY_LIMIT
from ..inputs import ExportInputs
from ..plan import ExportPlan
from ..progress import stage
from . import mixed_precision
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
        labelled: the labelled images that these are, for `accuracy_drop`.
    """

    min_sqnr: float | None
    accuracy_drop: float | None
    images: np.ndarray
    reference: Mapping[str, np.ndarray]
    labelled: Labelled | None = None

    @classmethod
    def open(
        cls, plan: ExportPlan, inputs: ExportInputs, labelled: Labelled | None = None
    ) -> "Budget":
        """Return the budget of a plan, with the images that it is measured on."""
        demand = plan.min_sqnr, plan.accuracy_drop
        if plan.accuracy_drop is not None and labelled is not None:
            return cls(*demand, labelled.images, labelled.reference, labelled)
        images = inputs.images.pixels[:PARITY_LIMIT]
        return cls(*demand, images, inputs.references(images))

    def on_few_images(self) -> "Budget":
        """The same budget of an SQNR on fewer images; accuracy needs all."""
        if self.accuracy_drop is not None:
            return self
        few = {name: values[:FEW] for name, values in self.reference.items()}
        return dataclasses.replace(self, images=self.images[:FEW], reference=few)

    def measure(self, path) -> float:
        """Measure the least SQNR of a file's outputs, or its drop of accuracy."""
        found = runners.run_on_all_cores(path, self.images)
        if self.labelled is None:
            return least_sqnr(self.reference, found)
        score = self.labelled.score
        return 100 * (score(self.reference) - score(found))

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

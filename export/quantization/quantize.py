"""Quantisation of a converted float file by its plan."""

import dataclasses

from ..plan import ExportPlan
from ..progress import stage
from .accuracy_budget import Budget, fit_budget
from .mixed_precision import MixedPrecision
from .output_offset import keep_offset
from .post_training import quantize_static, quantize_weights
from .strategies import Strategy


def quantize(
    path, plan: ExportPlan, strategy: Strategy, budget: Budget | None = None
) -> tuple[MixedPrecision | None, tuple[str, ...]]:
    """Quantise a float file in place, as far as its plan demands.

    Arguments:
        path: the converted `.tflite` file.
        plan: of the file.
        strategy: source of the ranges.
        budget: for mixed precision, or None.

    Returns:
        The parts that fell back, or None without a budget; and notes for the report.

    Raises:
        ParityError: no mixed precision meets the budget.
    """
    if plan.recipe is not None:
        stage("quantising the weights")
        path.write_bytes(quantize_weights(path, plan.recipe))
    if not plan.calibrated:
        return None, ()
    stage("measuring ranges")
    ranges, overrides = strategy.ranges(path), strategy.overrides(path)
    split = keep_offset(path, ranges, plan)
    notes = (*strategy.notes, *split.notes)
    ranges, overrides = split.ranges, [*overrides, *split.overrides]
    plan = dataclasses.replace(plan, output_dtypes=split.output_dtypes)
    if budget is not None:
        return fit_budget(path, ranges, overrides, plan, budget), notes
    stage("quantising")
    dtypes = plan.input_dtype, plan.output_dtypes
    path.write_bytes(quantize_static(path, ranges, *dtypes, overrides))
    return None, notes

"""From a converted float file to the quantised one that a plan describes."""

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
    """Quantise a float file in place, as far as its plan asks for it.

    Arguments:
        path: the converted `.tflite` file.
        plan: of the file.
        strategy: where its ranges come from.
        budget: the demand, if the plan has one.

    Returns:
        What fell back to more bits, where the plan demands a precision; and notes for
        the report.

    Raises:
        ParityError: no mixed precision meets the demand.
    """
    if plan.recipe is not None:
        stage("quantising the weights")
        path.write_bytes(quantize_weights(path, plan.recipe))
    if not plan.calibrated:
        return None, ()
    stage("measuring ranges")
    ranges, overrides = strategy.ranges(path), strategy.overrides(path)
    split = keep_offset(path, ranges, plan)
    ranges, overrides = split.ranges, [*overrides, *split.overrides]
    output_dtype = split.output_dtype or plan.output_dtype
    plan = dataclasses.replace(plan, output_dtype=output_dtype)
    if budget is not None:
        return fit_budget(path, ranges, overrides, plan, budget), split.notes
    stage("quantising")
    dtypes = plan.input_dtype, plan.output_dtype
    path.write_bytes(quantize_static(path, ranges, *dtypes, overrides))
    return None, split.notes

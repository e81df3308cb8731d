"""Strategies of quantisation: after training, or quantisation-aware training.

Both give a graph, ranges and overrides, so that the writer treats them alike.
"""

import collections
import dataclasses
from typing import Any, Protocol

from ..graph.build import Graph, inference_graph
from ..graph.find_vit import check_no_tome
from ..graph.inference_layer import InferenceViT
from ..plan import ExportPlan, OpOverride
from ..progress import stage
from ..schemes import SCHEMES
from .calibration import measure_ranges, symmetric_right_operands
from .gptq import GRIDS, round_weights
from .post_training import INT4_OPERATORS, score_overrides

NAMED = 3  # activations in a note


class Strategy(Protocol):
    """Source of a file's graph, ranges and overrides.

    `notes` are for the report, once the ranges are known. `plan` is that of the file.
    """

    notes: tuple[str, ...]
    plan: ExportPlan

    def graph(self) -> Graph:
        """Return the float graph to convert, with notes for the report."""
        ...

    def ranges(self, path) -> dict[str, tuple[float, float]]:
        """Return {tensor name: (min, max)} for a converted float file."""
        ...

    def overrides(self, path) -> list[OpOverride]:
        """Return overrides for operators quantised differently from the rest."""
        ...


class PostTraining:
    """Quantisation after training, with ranges measured on calibration images.

    Arguments:
        plan: of the file.
        inputs: the `ExportInputs`.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, plan: ExportPlan, inputs: Any):
        self.plan, self.inputs = plan, inputs

    def graph(self) -> Graph:
        """Return the rewritten graph, its weights rounded if the scheme needs it."""
        inputs = self.inputs
        graph = inference_graph(
            *(inputs.model, inputs.preprocessing, inputs.images.pixels),
            self.plan.graph,
            names=inputs.names,
        )
        return graph.with_notes(*self._round(graph))

    def _round(self, graph):
        """Round weights by GPTQ; return notes of what was done, or needs images."""
        grid = GRIDS.get(self.plan.weights)
        if grid is None or graph.layer is None:
            return ()
        if self.inputs.images.synthetic:
            needed = "with `calibration` they would lose less"
            return (f"weights rounded to the nearest {self.plan.weights}: {needed}",)
        stage(f"rounding weights to {self.plan.weights}")
        count = round_weights(graph, self.inputs.images.pixels, grid)
        return (f"weights ({grid.layers}) rounded by GPTQ on {count} images",)

    def ranges(self, path) -> dict[str, tuple[float, float]]:
        """Measure ranges on the calibration images."""
        inputs, method = self.inputs, self.plan.calibration_method
        ranges = measure_ranges(path, inputs.images.pixels, inputs.takes_pixels, method)
        if self.plan.symmetric_products:
            return symmetric_right_operands(path, ranges)
        return ranges

    def overrides(self, path) -> list[OpOverride]:
        """Return the plan's overrides, and those of int8 attention scores."""
        scores = score_overrides(path) if self.plan.int8_scores else ()
        return [*self.plan.overrides, *scores]


class Trained:
    """Export of a model from `quantize_aware`, with its trained grids and ranges.

    Arguments:
        plan: of the file.
        inputs: the `ExportInputs`, of a `QuantizedModel`.

    Raises:
        ValueError: the target needs another graph than the trained one.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, plan: ExportPlan, inputs: Any):
        self.inputs, self.layer = inputs, inputs.model.quantized
        # A target may prefer another graph by now; the ranges are of the trained one.
        graph = plan.graph.written_as(self.layer.options)
        trained = self.layer.options, self.layer.linear_only
        if (graph, plan.linear_only) != trained:
            raise ValueError(
                "`target` must be one whose graph was trained: give quantize_aware the "
                f"same target and layer_norm. Received: target={plan.target!r} "
                f"({plan.graph}), trained: {self.layer.options}"
            )
        if graph != plan.graph:
            self.notes = (
                f"written as it was trained; a model trained now for {plan.target!r} "
                "is faster",
            )
        self.plan = dataclasses.replace(plan, graph=graph)

    def graph(self) -> Graph:
        """Return the float graph, with kernels on their trained grids."""
        inference = InferenceViT(self.layer.arrays(), self.plan.graph, name="vit")
        inference.update()
        return Graph(inference, ("quantize_aware",), (_storage_of(self.layer),))

    def ranges(self, path) -> dict[str, tuple[float, float]]:
        """Return the trained ranges; note activations that have none."""
        from .aware.file_ranges import trained_ranges

        integers = None
        if self.plan.linear_only:
            rows = self.plan.overrides
            integers = {row.operator for row in rows if row.activations != "float32"}
        ranges, unknown = trained_ranges(
            path, self.layer, self.inputs.images.pixels, integers
        )
        if unknown:
            more = ", ..." if len(unknown) > NAMED else ""
            self.notes += (
                "activations with measured ranges, not trained ones: "
                f"{len(unknown)} ({', '.join(unknown[:NAMED])}{more})",
            )
        return ranges

    def overrides(self, path) -> list[OpOverride]:
        """Return the plan's overrides, and those of int4 or clustered kernels."""
        from .aware.file_ranges import weight_overrides

        return [*self.plan.overrides, *weight_overrides(path, self.layer)]


def choose_strategy(plan: ExportPlan, inputs: Any) -> Strategy:
    """Return the strategy of a plan.

    Raises:
        ValueError: the scheme has integers for what the model computes in floats alone.
    """
    if plan.calibrated:
        floats = [name for name, row in SCHEMES.items() if not row.needs_calibration]
        valid = f"`scheme` must be one of {', '.join(floats)}"
        check_no_tome(f"scheme={plan.scheme!r}", valid, inputs.model)
    return (Trained if plan.trained else PostTraining)(plan, inputs)


def register_layers(plan: ExportPlan):
    """Register the classes of a quantisation-aware model, so that its file can be
    opened."""
    if plan.trained:
        from .aware import aware_model  # noqa: F401


def _storage_of(layer) -> str:
    """Describe for the report how the file stores trained kernels."""
    kinds = collections.Counter(
        (bits, "int4" if layer.is_int4(path) else "int8")
        for path, bits in layer.bits.items()
    )
    parts = [f"{n} kernels of {bits} bits as {t}" for (bits, t), n in kinds.items()]
    coarse = any(bits < 8 and stored == "int8" for bits, stored in kinds)
    reason = f"; LiteRT has int4 kernels only for {', '.join(INT4_OPERATORS)}"
    return f"trained as integers: {', '.join(parts)}{reason if coarse else ''}"

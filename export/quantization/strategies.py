"""Where the integers of a file come from: after training, or from training.

Both answer the same three questions, so that writing a file has one way.
"""

import collections
from typing import Any, Protocol

from ..graph.build import Graph, inference_graph
from ..graph.inference_layer import InferenceViT
from ..plan import ExportPlan, OpOverride
from ..progress import stage
from .calibration import measure_ranges
from .gptq import GRIDS, round_weights
from .post_training import INT4_OPERATORS, score_overrides


class Strategy(Protocol):
    """How a model becomes a quantised file."""

    def graph(self) -> Graph:
        """The float graph to convert, with notes for the report."""
        ...

    def ranges(self, path) -> dict[str, tuple[float, float]]:
        """{name of a tensor: (min, max)} for a converted float file."""
        ...

    def overrides(self, path) -> list[OpOverride]:
        """Operators of this file that are quantised in another way than the rest."""
        ...


class PostTraining:
    """A float model: rewritten, its ranges measured on the calibration images.

    Arguments:
        plan: of the file.
        inputs: the `ExportInputs`.
    """

    def __init__(self, plan: ExportPlan, inputs: Any):
        self.plan, self.inputs = plan, inputs

    def graph(self) -> Graph:
        """The rewritten graph, its weights rounded where the scheme gains from it."""
        inputs = self.inputs
        graph = inference_graph(
            inputs.model, inputs.preprocessing, inputs.images.pixels, self.plan.graph
        )
        return graph.with_notes(*self._round(graph))

    def _round(self, graph):
        """Round weights by GPTQ; notes of what was done, or would need images."""
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
        """Ranges of the values on the calibration images."""
        inputs, method = self.inputs, self.plan.calibration_method
        return measure_ranges(path, inputs.images.pixels, inputs.takes_pixels, method)

    def overrides(self, path) -> list[OpOverride]:
        """Those of the plan, and attention scores where the rest is float."""
        scores = score_overrides(path) if self.plan.int8_scores else ()
        return [*self.plan.overrides, *scores]


class Trained:
    """A model of `quantize_aware`: its grids and ranges are those that it trained.

    Arguments:
        plan: of the file.
        inputs: the `ExportInputs`, of a `QuantizedModel`.

    Raises:
        ValueError: the target wants another graph than the one that was trained.
    """

    def __init__(self, plan: ExportPlan, inputs: Any):
        self.plan, self.inputs, self.layer = plan, inputs, inputs.model.quantized
        trained = self.layer.options, self.layer.linear_only
        if (plan.graph, plan.linear_only) != trained:
            raise ValueError(
                "`target` must be one whose graph was trained: give quantize_aware the "
                f"same target and layer_norm. Received: target={plan.target!r} "
                f"({plan.graph}), trained: {self.layer.options}"
            )

    def graph(self) -> Graph:
        """The graph of the weights, on their grids, without quantised activations."""
        inference = InferenceViT(self.layer.arrays(), self.plan.graph, name="vit")
        inference.update()
        return Graph(inference, ("quantize_aware",), (_storage_of(self.layer),))

    def ranges(self, path) -> dict[str, tuple[float, float]]:
        """The trained ranges."""
        from .aware.file_ranges import trained_ranges

        return trained_ranges(path, self.layer, self.inputs.images.pixels)

    def overrides(self, path) -> list[OpOverride]:
        """Those of the plan, and kernels that int4 or one scale keeps as trained."""
        from .aware.file_ranges import weight_overrides

        return [*self.plan.overrides, *weight_overrides(path, self.layer)]


def choose_strategy(plan: ExportPlan, inputs: Any) -> Strategy:
    """The strategy of a plan."""
    return (Trained if plan.trained else PostTraining)(plan, inputs)


def register_layers(plan: ExportPlan):
    """Register the classes of a model that was trained as integers, so that its file
    can be opened."""
    if plan.trained:
        from .aware import aware_model  # noqa: F401


def _storage_of(layer) -> str:
    """How the file stores trained kernels, for the report."""
    kinds = collections.Counter(
        (bits, "int4" if layer.is_int4(path) else "int8")
        for path, bits in layer.bits.items()
    )
    parts = [f"{n} kernels of {bits} bits as {t}" for (bits, t), n in kinds.items()]
    coarse = any(bits < 8 and stored == "int8" for bits, stored in kinds)
    reason = f"; LiteRT has int4 kernels of {', '.join(INT4_OPERATORS)} alone"
    return f"trained as integers: {', '.join(parts)}{reason if coarse else ''}"

"""How one `.tflite` file is made and checked, as data: `ExportPlan`.

`resolve.py` decides it, once. The plan is the request to the process that exports for
the JAX and torch backends, the record in the report beside a file, and all that the
steps of an export look at: none of them asks for the scheme or the target again.
"""

import dataclasses
from typing import Any

from .targets import GraphOptions


@dataclasses.dataclass(frozen=True)
class OpOverride:
    """Operators that are quantised in another way than the rest of the file.

    Arguments:
        operator: its name in TFLite; "ALL_SUPPORTED" for every one.
        outputs: regular expression of the names of its output tensors.
        activations: "int8", "int16", "float32" (the operator stays in float), or
            "dynamic" (it takes floats and quantises them per row at run time).
        weights: "int8" or "int4".
        granularity: of the weights' scales, "CHANNELWISE" or "TENSORWISE".
        symmetric_rhs: whether the right operand has the zero point 0.
    """

    operator: str
    outputs: str = ".*"
    activations: str = "int8"
    weights: str = "int8"
    granularity: str = "CHANNELWISE"
    symmetric_rhs: bool = False


@dataclasses.dataclass(frozen=True)
class ExportPlan:
    """How one `.tflite` file is made and checked.

    Attributes:
        scheme: name in `SCHEMES`.
        target: name in `TARGETS`; "any" if none was given.
        trained: whether the model is of `quantize_aware`, with ranges of its own.
        graph: how the inference graph is written.
        batch: images per run.
        float_weights: dtype of the weights in the converted file, before quantisation.
        input_dtype: of the file; None until it is known whether it takes pixels.
        pixel_dtype: what it is then, if nothing else was asked for.
        output_dtype: of the file.
        float_tail: whether a calibrated file may end in a float addition instead, where
            its outputs lie far from zero (`quantization/output_offset.py`).
        recipe: of litert-quantizer, for quantised weights alone, or None.
        calibrated: whether activations are quantised, with ranges from images.
        calibration_method: how ranges follow from the values.
        weights: how they are stored in the end, as the scheme says it.
        overrides: operators that differ; the last one that matches counts.
        linear_only: whether linear layers alone are quantised, and all else is float;
        int8_scores: but for attention scores, the products of queries and keys.
        min_sqnr: dB that the file must reach by mixed precision, or None.
        accuracy_drop: percentage points that it may lose by mixed precision, or None.
        fallback: precision of the layers that fall back for that.
        fallback_operators: operators that can; None for all.
        threshold_db: SQNR below which the file is refused.
        threshold_reason: why it is there.
        enforce_parity: whether it is.
    """

    scheme: str
    target: str
    trained: bool
    graph: GraphOptions
    batch: int
    float_weights: str
    input_dtype: str | None
    pixel_dtype: str
    output_dtype: str
    float_tail: bool
    recipe: str | None
    calibrated: bool
    calibration_method: str
    weights: str
    overrides: tuple[OpOverride, ...]
    linear_only: bool
    int8_scores: bool
    min_sqnr: float | None
    accuracy_drop: float | None
    fallback: str
    fallback_operators: tuple[str, ...] | None
    threshold_db: float
    threshold_reason: str
    enforce_parity: bool

    @property
    def mixed(self) -> bool:
        """Whether layers may fall back to a higher precision."""
        return self.min_sqnr is not None or self.accuracy_drop is not None

    @property
    def floats_on_purpose(self) -> bool:
        """Whether operators of a calibrated file are in float because the plan wants
        them so."""
        falls_back = self.mixed and self.fallback == "float32"
        return self.linear_only or falls_back

    def for_input(self, pixels: bool) -> "ExportPlan":
        """The plan with its input dtype decided.

        Arguments:
            pixels: whether preprocessing is inside. Without, the file takes what the
                model takes: floats.
        """
        dtype = self.pixel_dtype if pixels else "float32"
        return dataclasses.replace(self, input_dtype=self.input_dtype or dtype)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` gives the plan back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ExportPlan":
        """The plan that `to_dict` described.

        Raises:
            ValueError: it is of another release, with other fields.
        """
        try:
            kinds = data["fallback_operators"]
            return cls(
                **{
                    **data,
                    "graph": GraphOptions(**data["graph"]),
                    "overrides": tuple(OpOverride(**row) for row in data["overrides"]),
                    "fallback_operators": None if kinds is None else tuple(kinds),
                }
            )
        except (TypeError, KeyError) as error:
            raise ValueError(f"the plan is of another release: {error}") from error

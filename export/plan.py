"""`ExportPlan`: all decisions about one `.tflite` file, as data.

`resolve.py` makes the plan once. It is the request to the child process that exports
for the JAX and torch backends, it is recorded in the report beside a file, and the
export steps read it instead of the scheme and target.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from .targets import GraphOptions


@dataclasses.dataclass(frozen=True)
class OpOverride:
    """Operators that are quantised differently from the rest of the file.

    Arguments:
        operator: its name in TFLite; "ALL_SUPPORTED" for every one.
        outputs: regular expression of the names of its output tensors.
        activations: "int8", "int16", "float32" (the operator stays in float), or
            "dynamic" (float input, quantised per token at run time).
        weights: "int8" or "int4".
        granularity: of the weights' scales, "CHANNELWISE" or "TENSORWISE".
        symmetric_rhs: whether the right operand has zero point 0.
    """

    operator: str
    outputs: str = ".*"
    activations: str = "int8"
    weights: str = "int8"
    granularity: str = "CHANNELWISE"
    symmetric_rhs: bool = False


@dataclasses.dataclass(frozen=True)
class ExportPlan:
    """All decisions about one `.tflite` file.

    Attributes:
        scheme: name in `SCHEMES`.
        target: name in `TARGETS`; "any" if none was given.
        trained: whether the model comes from `quantize_aware`, with trained ranges.
        graph: how the inference graph is written.
        batch: images per run.
        float_weights: dtype of the weights in the converted file, before quantisation.
        input_dtype: of the file; None: `pixel_dtype` or float32, see `for_input`.
        pixel_dtype: default input dtype of a file that takes raw pixels.
        output_dtype: of the file's outputs.
        output_dtypes: {name: another dtype} of some outputs.
        float_tail: whether a calibrated file may end in a float addition instead, where
            its outputs are far from zero (`quantization/output_offset.py`).
        recipe: of litert-quantizer, for quantised weights with float activations.
        calibrated: whether activations are quantised with static ranges.
        calibration_method: how ranges are computed from the calibration values.
        weights: final storage of the weights, as in the scheme.
        overrides: operators quantised differently; the last match wins.
        linear_only: whether only linear layers are quantised and the rest is float.
        symmetric_products: whether int8 products of two activations have zero point 0
            on the right.
        int8_scores: whether the attention scores (queries times keys) are int8 too.
        min_sqnr: SQNR in dB that mixed precision must reach, or None.
        accuracy_drop: percentage points that mixed precision may lose, or None.
        fallback: precision of the layers that fall back.
        fallback_operators: operators that can fall back; None for all.
        threshold_db: parity threshold; a file below it is refused.
        threshold_reason: why the threshold has this value.
        enforce_parity: whether the threshold is enforced.
        output_size: of the outputs at each pixel, "image" or "decoder"; None for a
            model without.
        class_map: dtype of the classes that the file ends in, or None for its own
            outputs.
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
    output_dtypes: dict[str, str]
    float_tail: bool
    recipe: str | None
    calibrated: bool
    calibration_method: str
    weights: str
    overrides: tuple[OpOverride, ...]
    linear_only: bool
    symmetric_products: bool
    int8_scores: bool
    min_sqnr: float | None
    accuracy_drop: float | None
    fallback: str
    fallback_operators: tuple[str, ...] | None
    threshold_db: float
    threshold_reason: str
    enforce_parity: bool
    output_size: str | None = None
    class_map: str | None = None

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
        """Return the plan with its input dtype decided.

        Arguments:
            pixels: whether the artefact takes raw pixels. Otherwise it takes the
                model's own input, as float32.
        """
        dtype = self.pixel_dtype if pixels else "float32"
        return dataclasses.replace(self, input_dtype=self.input_dtype or dtype)

    def dtype_of(self, output: str) -> str:
        """Return the dtype of an output by its name."""
        return self.output_dtypes.get(output, self.output_dtype)

    def may_end_in_float(self, output: str) -> bool:
        """Whether an output may end in a float addition; see `float_tail`."""
        wanted = self.output_dtypes.get(output, "float32")
        return self.float_tail and wanted == "float32"

    def check_outputs(self, names: Sequence[str] | None):
        """Refuse dtypes of outputs that the file has not.

        Arguments:
            names: of the file's outputs; None for one without a name.

        Raises:
            ValueError: an output is unknown.
        """
        unknown = set(self.output_dtypes) - set(names or ())
        if unknown:
            valid = "be one for all" if names is None else f"name {', '.join(names)}"
            raise ValueError(
                f"`output_dtype` must {valid}. Received: {sorted(unknown)[0]!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ExportPlan":
        """Build the plan that `to_dict` described.

        Raises:
            ValueError: another release wrote it, with other fields.
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
            raise ValueError(
                f"the plan is of another release: {error}; export the model anew"
            ) from error

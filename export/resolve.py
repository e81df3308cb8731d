"""Resolution of scheme, target and options into an `ExportPlan`."""

import dataclasses
from collections.abc import Mapping

from .plan import ExportPlan, OpOverride
from .schemes import get_scheme
from .targets import ANY, TARGETS, GraphOptions, get_target

CALIBRATION_METHODS = ("min_max", "mse", "percentile")
OUTPUT_SIZES = ("image", "decoder")
DECODES = ("classes",)
CLASS_DTYPES = ("int32", "uint8")


def resolve(
    scheme: str = "float32",
    target: str | None = None,
    *,
    trained: bool = False,
    has_calibration: bool = False,
    has_evaluation: bool = False,
    batch: int = 1,
    input_dtype: str | None = None,
    output_dtype: str | Mapping[str, str] | None = None,
    calibration_method: str = "min_max",
    heads_apart: bool | None = None,
    min_sqnr: float | None = None,
    accuracy_drop: float | None = None,
    enforce_parity: bool = True,
    output_size: str | None = None,
    decode: str | None = None,
) -> ExportPlan:
    """Resolve the options of `to_tflite` into a plan.

    Arguments:
        scheme, target: names in the tables; None is the target "any".
        trained: whether the model comes from `quantize_aware`.
        has_calibration, has_evaluation: whether these images are given.
        others: as in `to_tflite`.

    Raises:
        ValueError: an option is unknown, or does not fit the others.
    """
    target = ANY if target is None else target
    row, device = get_scheme(scheme), get_target(target)
    _check_choice("scheme", scheme, device.schemes, f"target={target!r}")
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise ValueError(f"`batch` must be an integer >= 1. Received: batch={batch!r}")
    inputs, outputs = io_dtypes(scheme, target)
    class_map = _class_map(decode, output_dtype, target)
    output_dtype = output_dtype if class_map is None else None
    # "mse" and "percentile" trade clipped outliers for smaller int8 steps.
    methods = CALIBRATION_METHODS if scheme == "int8" else ("min_max",)
    each = dict(output_dtype) if isinstance(output_dtype, Mapping) else {}
    common = output_dtype if isinstance(output_dtype, str) else None
    for name, value, valid in (
        ("input_dtype", input_dtype, (*inputs, None)),
        *(
            ("output_dtype", dtype, (*outputs, None))
            for dtype in (common, *each.values())
        ),
        ("calibration_method", calibration_method, methods),
        ("output_size", output_size, (*OUTPUT_SIZES, None)),
    ):
        _check_choice(name, value, valid, f"scheme={scheme!r}")
    mixed = _check_demand(min_sqnr, accuracy_drop, has_evaluation, scheme, target)
    if row.needs_calibration and not has_calibration and not trained:
        raise ValueError(
            f"`calibration` is required by scheme={scheme!r}: give an array of pixels "
            "(N, H, W, C) in 0..255, a .npy file or a folder of images like those that "
            "the model will see; 32 to 128 are enough"
        )
    if trained:
        other = mixed or calibration_method != "min_max" or heads_apart is not None
        _check_trained(scheme, other)
    # A trained model has a static range for every input of a linear layer.
    dynamic = linear_only(scheme, target) and device.dynamic and not trained
    graph = graph_options(scheme, target, heads_apart, mixed)
    return ExportPlan(
        scheme=scheme,
        target=target,
        trained=trained,
        graph=graph,
        batch=batch,
        float_weights="float16" if scheme == "float16" else "float32",
        input_dtype=input_dtype,
        pixel_dtype=inputs[0],
        output_dtype=common or outputs[0],
        output_dtypes=each,
        float_tail=common in (None, "float32")
        and "float32" in outputs
        and not (device.integer_only or trained or dynamic),
        recipe=row.recipe,
        calibrated=row.needs_calibration,
        calibration_method=calibration_method,
        weights=row.weights,
        overrides=_overrides(scheme, target, "dynamic" if dynamic else "int8"),
        linear_only=linear_only(scheme, target),
        symmetric_products=device.symmetric_products
        and scheme == "int8"
        and not trained,
        int8_scores=dynamic,
        min_sqnr=min_sqnr,
        accuracy_drop=accuracy_drop,
        fallback=device.fallback,
        fallback_operators=device.int8_operators or device.fallback_operators,
        threshold_db=min(row.min_sqnr_db, graph.reachable_db),
        threshold_reason=row.reason,
        enforce_parity=enforce_parity,
        output_size=output_size,
        class_map=class_map,
    )


def linear_only(scheme: str, target: str) -> bool:
    """Return whether only linear layers are int8 and all other operators float."""
    return scheme == "int8" and get_target(target).int8_operators is not None


def io_dtypes(scheme: str, target: str) -> tuple[tuple[str, ...], ...]:
    """Return the valid dtypes of a file's input and output, defaults first."""
    row, device = get_scheme(scheme), get_target(target)
    inputs, outputs = row.input_dtypes, row.output_dtypes
    if linear_only(scheme, target):
        outputs = ("float32",)  # what follows the last linear layer is float
    if not device.casts and not row.needs_calibration:
        inputs = ("float32",)
    if device.io_dtypes is not None:
        inputs = tuple(dtype for dtype in inputs if dtype in device.io_dtypes)
        outputs = tuple(dtype for dtype in outputs if dtype in device.io_dtypes)
    return inputs, outputs


def graph_options(
    scheme: str, target: str, heads_apart: bool | None = None, mixed: bool = False
) -> GraphOptions:
    """Return how the graph is written for a scheme on a target.

    Arguments:
        scheme, target: names in the tables.
        heads_apart: replaces the target's setting, unless None.
        mixed: whether layers may fall back to another precision.
    """
    device = get_target(target)
    options = device.graph
    if heads_apart is not None:
        options = dataclasses.replace(options, heads_apart=heads_apart)
    split = get_scheme(scheme).split_softmax and device.int8_exp
    split = split and device.int8_operators is None
    if mixed and device.fallback == "int16":  # EXP has no int16 kernel
        split = False
    half = options.half_floats and get_scheme(scheme).activations == "float32"
    return dataclasses.replace(options, split_softmax=split, half_floats=half)


def only(operators, activations: str = "int8") -> list[OpOverride]:
    """Return overrides that quantise some operators and leave all others in float."""
    rest = OpOverride("ALL_SUPPORTED", activations="float32")
    return [rest, *(OpOverride(name, activations=activations) for name in operators)]


def _overrides(scheme, target, activations):
    """Return a scheme's overrides: operators in float, dynamic, or in int16."""
    found = []
    if linear_only(scheme, target):
        found += only(get_target(target).int8_operators, activations)
    wide = get_scheme(scheme).int16_operators
    return (*found, *(OpOverride(*row, activations="int16") for row in wide))


def _check_choice(name, value, valid, given):
    if value not in valid:
        names = ", ".join(v for v in valid if v is not None)
        raise ValueError(
            f"`{name}` must be one of {names} for {given}. Received: {name}={value!r}"
        )


def _class_map(decode, dtype, target) -> str | None:
    """Return the dtype of the classes that a file ends in, or None for no classes."""
    if decode is None:
        return None
    device, given = get_target(target), f"target={target!r}"
    _check_choice("decode", decode, (*DECODES, None), given)
    taken = device.io_dtypes or CLASS_DTYPES
    valid = [name for name in CLASS_DTYPES if name in taken]
    if not valid:
        able = [name for name, row in TARGETS.items() if row.io_dtypes is None]
        raise ValueError(
            "`decode` must be None for a target whose outputs are neither "
            f"{' nor '.join(CLASS_DTYPES)}: {', '.join(able)} have both. "
            f"Received: {given}"
        )
    given = f"decode={decode!r}, {given}"
    _check_choice("output_dtype", dtype, (*valid, None), given)
    return dtype or valid[0]


def _check_demand(min_sqnr, accuracy_drop, has_evaluation, scheme, target):
    """Return whether mixed precision is demanded, after checking that it is possible.

    Raises:
        ValueError: the arguments contradict each other or the target.
    """
    if min_sqnr is None and accuracy_drop is None:
        return False
    if min_sqnr is not None and accuracy_drop is not None:
        raise ValueError("Give `min_sqnr` or `accuracy_drop`, not both")
    if scheme != "int8":
        raise ValueError(
            "`min_sqnr` and `accuracy_drop` need scheme='int8', of which some layers "
            f"then fall back to int16 or float. Received: scheme={scheme!r}"
        )
    if get_target(target).fallback_operators == ():
        raise ValueError(
            "`target` must have more than int8 for layers to fall back to. "
            f"Received: target={target!r}, which has int8 alone"
        )
    if min_sqnr is not None and not min_sqnr > 0:
        raise ValueError(f"`min_sqnr` must be above 0 dB. Received: {min_sqnr!r}")
    if accuracy_drop is not None and not 0 <= accuracy_drop < 100:
        raise ValueError(
            "`accuracy_drop` must be percentage points from 0 to 100. "
            f"Received: {accuracy_drop!r}"
        )
    if accuracy_drop is not None and not has_evaluation:
        raise ValueError(
            "`accuracy_drop` needs `evaluation`: a folder of class folders, or of "
            "images and masks, a .npz file of images and labels, or a pair of arrays; "
            "`min_sqnr` needs none"
        )
    return True


def _check_trained(scheme, otherwise):
    if otherwise:
        raise ValueError(
            "`calibration_method`, `heads_apart`, `min_sqnr` and `accuracy_drop` are "
            "for quantisation after training; a model of quantize_aware is exported as "
            "it was trained"
        )
    if scheme != "int8":
        raise ValueError(
            "`scheme` must be 'int8' for a model of quantize_aware; its `to_float()` "
            f"returns a model for other schemes. Received: scheme={scheme!r}"
        )

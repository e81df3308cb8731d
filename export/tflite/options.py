"""Which options of an export fit together."""

from ..quantization.clipping import RANGES
from ..quantization.post_training import Rule, only
from ..schemes import get_scheme
from ..targets import get_target

MOST_BYTES = 2**31  # offsets in a flatbuffer have 32 bits and a sign


def check_options(scheme, target, batch, input_dtype, output_dtype, method):
    """The dtypes that input and output may have, the default first.

    Arguments:
        method: `calibration_method`.
        others: as `to_tflite` takes them; None for the default.

    Raises:
        ValueError: something is unknown, or does not fit the scheme or the target.
    """
    rules = get_scheme(scheme)
    place = get_target(target) if target else None
    if place and scheme not in place.schemes:
        raise ValueError(
            f"`scheme` must be one of {', '.join(place.schemes)} for "
            f"target={target!r}. Received: scheme={scheme!r}"
        )
    if not isinstance(batch, int) or batch < 1:
        raise ValueError(f"`batch` must be an integer >= 1. Received: batch={batch!r}")
    ends = [rules.input_dtypes, rules.output_dtypes]
    if place and place.int8_only and scheme == "int8":
        ends[1] = ("float32",)  # what follows the last product is float
    if place and not place.casts and not rules.needs_calibration:
        ends[0] = ("float32",)
    if place and place.ends:
        ends = [tuple(d for d in end if d in place.ends) for end in ends]
    # Those that clip weigh it against the steps of int8.
    methods = tuple(RANGES) if scheme == "int8" else ("min_max",)
    for name, value, valid in (
        ("input_dtype", input_dtype, ends[0]),
        ("output_dtype", output_dtype, ends[1]),
        ("calibration_method", method, methods),
    ):
        if value is not None and value not in valid:
            raise ValueError(
                f"`{name}` must be one of {', '.join(valid)} for scheme={scheme!r}. "
                f"Received: {name}={value!r}"
            )
    return ends


def check_size(model, scheme):
    """Refuse what no `.tflite` file can hold, before any work is done.

    Raises:
        ValueError: too many weights.
    """
    size = model.count_params() * (2 if scheme == "float16" else 4)
    if size >= MOST_BYTES:
        dtype = "float16" if scheme == "float16" else "float32"
        raise ValueError(
            "`model` must fit into a flatbuffer, which holds less than 2.1 GB. "
            f"Received: {model.count_params():,} weights, {size / 1e9:.1f} GB in the "
            f"{dtype} file that scheme={scheme!r} starts from. "
            "`export.to_saved_model` has no such limit"
        )


def special_rules(scheme, target) -> list[Rule]:
    """What of a scheme is not int8: operators left in float, or in int16."""
    place = get_target(target) if target else None
    found = []
    if place and place.int8_only and scheme == "int8":
        found += only(place.int8_only)
    return found + [Rule(name, activations=16) for name in get_scheme(scheme).wide]

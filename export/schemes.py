"""Quantisation schemes and their parity thresholds.

To change a threshold, change a row of the table.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A quantisation scheme.

    Arguments:
        summary: typical use, in a line.
        weights, activations: types at run time.
        needs_calibration: whether ranges must be measured on images.
        min_sqnr_db: parity threshold: minimum SQNR, in dB, between the Keras model's
            outputs and the file's. A file below it is refused.
        reason: why the threshold has this value.
        recipe: of litert-quantizer, for quantised weights with float activations.
        int16_operators: operators with int16 activations, when the others have int8:
            (name, regular expression of their outputs' names) pairs.
        split_softmax: whether attention divides twice by the root of the sum, because
            an int8 softmax would round small probabilities away.
        input_dtypes, output_dtypes: valid dtypes of the file's input and output; the
            first is the default.
    """

    summary: str
    weights: str
    activations: str
    needs_calibration: bool
    min_sqnr_db: float
    reason: str
    recipe: str | None = None
    int16_operators: tuple[tuple[str, str], ...] = ()
    split_softmax: bool = False
    input_dtypes: tuple[str, ...] = ("uint8", "float32")
    output_dtypes: tuple[str, ...] = ("float32",)


# Dtypes of the ends of a file that computes in integers, defaults first.
INTEGER_INPUTS = ("uint8", "int8", "float32")
INTEGER_OUTPUTS = ("int8", "uint8", "float32")

EVERYWHERE, IN_NORMS = ".*", ".*/norm/.*"
# The residual stream, which all blocks add to, and the norms that read it.
RESIDUAL = (
    ("ADD", EVERYWHERE),
    *((name, IN_NORMS) for name in ("MUL", "SUB", "MEAN", "SUM", "RSQRT")),
)
ATTENTION = (("SOFTMAX", EVERYWHERE), ("BATCH_MATMUL", EVERYWHERE))

SCHEMES: dict[str, Scheme] = {
    "float32": Scheme(
        summary="reference: exact, large",
        weights="float32",
        activations="float32",
        needs_calibration=False,
        min_sqnr_db=80.0,
        reason="only the order of float32 operations differs: about 110 dB",
    ),
    "float16": Scheme(
        summary="half the size, for GPUs",
        weights="float16",
        activations="float32",
        needs_calibration=False,
        min_sqnr_db=45.0,
        reason="11 bits of mantissa in the weights: about 65 dB",
    ),
    "dynamic_int8": Scheme(
        summary="a quarter of the size, the fastest on CPUs",
        weights="int8",
        activations="float32, matrix products in int8",
        needs_calibration=False,
        min_sqnr_db=20.0,
        reason="ranges are measured per token at run time: 31 dB on a ViT-S",
        recipe="dynamic_wi8_afp32",
    ),
    "weight_only_int8": Scheme(
        summary="a quarter of the size, computed in float32",
        weights="int8",
        activations="float32",
        needs_calibration=False,
        min_sqnr_db=20.0,
        reason="only the weights are rounded: 34 dB on a ViT-S",
        recipe="weight_only_wi8_afp32",
    ),
    "dynamic_int4": Scheme(
        summary="a seventh of the size, for models that tolerate it",
        weights="int4 in blocks of 32",
        activations="float32, matrix products in int8",
        needs_calibration=False,
        min_sqnr_db=15.0,
        reason="with calibration images a pre-trained ViT-S reaches 20 dB and a small "
        "ViT keeps its accuracy; without them that ViT-S reaches 11 dB, and does not",
        recipe="dynamic_wi4b32_afp32",
    ),
    "int8": Scheme(
        summary="integers only, for NPUs and microcontrollers",
        weights="int8",
        activations="int8",
        needs_calibration=True,
        min_sqnr_db=10.0,
        reason="error below a tenth of the signal; the stock conversion of a "
        "pre-trained ViT-S, which loses accuracy, reaches 7 dB",
        split_softmax=True,
        input_dtypes=INTEGER_INPUTS,
        output_dtypes=INTEGER_OUTPUTS,
    ),
    "int8_residual16": Scheme(
        summary="as int8, with the residual stream and its norms in int16",
        weights="int8",
        activations="int8; int16 in sums and norms",
        needs_calibration=True,
        min_sqnr_db=12.0,
        reason="as int8, with finer sums: 22 dB on a ViT-S",
        int16_operators=RESIDUAL,
        split_softmax=True,
        input_dtypes=INTEGER_INPUTS,
        output_dtypes=INTEGER_OUTPUTS,
    ),
    "int8_attention16": Scheme(
        summary="as int8_residual16, with attention in int16: for NPUs that have both",
        weights="int8",
        activations="int8; int16 in sums, norms, softmax and attention products",
        needs_calibration=True,
        min_sqnr_db=15.0,
        reason="linear layers alone lose in int8: 23 dB on a ViT-S",
        int16_operators=(*ATTENTION, *RESIDUAL),
        input_dtypes=INTEGER_INPUTS,
        output_dtypes=INTEGER_OUTPUTS,
    ),
    "int16x8": Scheme(
        summary="int8 weights with int16 activations: exact, slow on CPUs",
        weights="int8",
        activations="int16",
        needs_calibration=True,
        min_sqnr_db=25.0,
        reason="only the weights are coarse: 33 dB on a ViT-S",
        int16_operators=(("ALL_SUPPORTED", EVERYWHERE),),
        input_dtypes=("float32",),
    ),
}
"""Schemes by name, for `to_tflite`; `vit-export schemes` prints them."""


def get_scheme(name: str) -> Scheme:
    """Return a scheme of the table.

    Raises:
        ValueError: unknown name; the message lists the valid ones.
    """
    if name not in SCHEMES:
        raise ValueError(
            f"`scheme` must be one of {', '.join(SCHEMES)}. Received: scheme={name!r}"
        )
    return SCHEMES[name]

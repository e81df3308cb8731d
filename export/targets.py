"""Target devices and how the inference graph is written for each."""

import dataclasses
from typing import Any

# By which factors RESIZE_BILINEAR enlarges; others are products of matrices.
RESIZES = ("any", "powers_of_two", "none")
PATCH_PROJECTIONS = ("convolution", "columns_as_channels", "fully_connected")
# Fields that change the speed of a graph, but not which runtimes support it.
SPEED = ("heads_apart", "keys_as_rows", "patch_projection", "transposed_scores")
SPEED += ("vela_reductions",)
# Forms of GELU -> highest SQNR in dB that a file with it can be required to reach.
GELUS = {"builtin": 120.0, "tanh": 60.0}


@dataclasses.dataclass(frozen=True)
class GraphOptions:
    """Options of the inference graph, for runtimes that differ in what they support.

    Arguments:
        split_softmax: divide by the root of the sum before and after the product with
            the values, `((e / sqrt(s)) @ v) / sqrt(s)`, instead of by the sum before
            it: the int8 tensors then have a smaller range than a softmax.
        gelu: "builtin" is one operator; "tanh" writes its tanh form (Hendrycks and
            Gimpel, arXiv 1606.08415) in elementary operators, for runtimes that lack
            it: about 74 dB for models with the exact GELU.
        heads_apart: compute each attention head separately, in rank 3: the scores of
            one head at a time need less memory than those of all.
        keys_as_rows: keys stay (T, d) and the product with the queries reads them
            transposed, which the runtime does faster than a TRANSPOSE.
        patch_projection: "convolution" is one CONV_2D. "columns_as_channels" runs it
            over rows only, with the pixels of a patch's row as channels: integer
            kernels are slow on three channels. "fully_connected" brings the pixels of
            each patch together by two TRANSPOSEs, for one FULLY_CONNECTED: Vela makes
            of the convolution an operator a patch, which fetches all weights anew.
        transposed_scores: the split softmax has its scores as (keys, queries): its
            maximum and sum then run over rows, with the queries side by side where
            vector units work in parallel.
        convolutions: linear layers as 1x1 convolutions of rank 4, because GPU delegates
            support no integer products of another rank.
        flat_tokens: linear layers as products of two matrices (N * T, D): with an
            unknown batch, shapes are then not computed at each layer.
        vela_reductions: means over channels as SUM and a factor, sums over rows as MEAN
            and a factor: Vela makes a depthwise convolution of MEAN, which is slow over
            channels, and transposes what SUM adds over rows.
        resizes: factors, along both axes, by which `vit_keras.layers.Resize` is one
            RESIZE_BILINEAR: "any", "powers_of_two" or "none". By others it is two
            FULLY_CONNECTED with constant matrices, which every compiler takes.
        half_floats: floats are computed in float16: the residual stream is scaled by a
            power of two if its sums of squares come near the end of that on images.
    """

    split_softmax: bool = False
    gelu: str = "builtin"
    heads_apart: bool = False
    keys_as_rows: bool = False
    patch_projection: str = "convolution"
    transposed_scores: bool = False
    vela_reductions: bool = False
    convolutions: bool = False
    flat_tokens: bool = False
    resizes: str = "any"
    half_floats: bool = False

    def __post_init__(self):
        for name, valid in (
            ("gelu", GELUS),
            ("patch_projection", PATCH_PROJECTIONS),
            ("resizes", RESIZES),
        ):
            if getattr(self, name) not in valid:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(valid)}. "
                    f"Received: {getattr(self, name)!r}"
                )

    def written_as(self, other: "GraphOptions") -> "GraphOptions":
        """Return these options, but for those that only change speed as in `other`."""
        return dataclasses.replace(self, **{n: getattr(other, n) for n in SPEED})

    @property
    def reachable_db(self) -> float:
        """Highest SQNR in dB that a file of this graph can be required to reach."""
        return GELUS[self.gelu]


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of device.

    Arguments:
        summary: description, in a line.
        schemes: names of the supported schemes; the first is recommended.
        checker: the compiler, runtime or list that checks a file, in
            `evaluation/tools`.
        checker_options: options of the checker.
        integer_only: whether every tensor between input and output must be integer.
        graph: how the inference graph is written.
        int8_exp: whether EXP is supported in int8, which the split softmax needs.
        int8_operators: operators that scheme "int8" quantises, the others staying in
            float. None for all.
        dynamic: whether these are quantised dynamically, with float inputs and
            per-token ranges; only attention scores have ranges from calibration.
        fallback: precision of an operator that is too inexact in int8: "int16", or
            "float32" where the hardware has floats.
        fallback_operators: operators that support it; None for all.
        symmetric_products: whether int8 products of two activations, those of
            attention, have zero point 0 on the right: XNNPACK runs no others, and
            LiteRT's own kernel takes several times as long.
        casts: whether it supports CAST from uint8 to float, for float graphs.
        io_dtypes: valid dtypes of input and output; None for all of the scheme.
        output_size: of a decoder's outputs, if none is asked for: "image", or
            "decoder" where maps of the image's size are too large for the memory.
    """

    summary: str
    schemes: tuple[str, ...]
    checker: str
    checker_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    integer_only: bool = False
    graph: GraphOptions = GraphOptions()
    int8_exp: bool = True
    int8_operators: tuple[str, ...] | None = None
    dynamic: bool = False
    fallback: str = "int16"
    fallback_operators: tuple[str, ...] | None = None
    symmetric_products: bool = False
    casts: bool = True
    io_dtypes: tuple[str, ...] | None = None
    output_size: str = "image"


# Products of two int16 tensors are new: Ethos-U85, Hexagon v73.
NO_INT16_PRODUCTS = ("int8", "int8_residual16")
INTEGER = (*NO_INT16_PRODUCTS, "int8_attention16")
FLOAT = ("float32", "float16")
EVERY = (
    *("dynamic_int8", *FLOAT, "weight_only_int8", "dynamic_int4"),
    *(*INTEGER, "int16x8"),
)

# Operators with int16 activations in Vela 5.2 on every Ethos-U; U85 adds products.
ETHOS_INT16 = (
    *("ADD", "CONCATENATION", "CONV_2D", "FULLY_CONNECTED", "MEAN", "MUL", "RESHAPE"),
    *("RSQRT", "SOFTMAX", "STRIDED_SLICE", "SUB", "SUM", "TRANSPOSE"),
)

ETHOS_GRAPH = GraphOptions(
    patch_projection="fully_connected", transposed_scores=True, vela_reductions=True
)

NPU_COMPILERS = ("ethos_u55", "ethos_u65", "ethos_u85", "openvino", "qualcomm")

ANY = "any"  # the meaning of target=None

TARGETS: dict[str, Target] = {
    ANY: Target(
        summary="no device in particular: LiteRT with its builtin operators",
        schemes=EVERY,
        checker="xnnpack",
        symmetric_products=True,
    ),
    "cpu": Target(
        summary="LiteRT on a CPU with XNNPACK",
        schemes=EVERY,
        checker="xnnpack",
        # XNNPACK has no int8 RSQRT, SUM or EXP: each would leave the delegate twice a
        # block. Linear layers with float inputs and outputs are a fifth faster, and
        # more exact: 27 instead of 22 dB on a ViT-S.
        int8_operators=("CONV_2D", "FULLY_CONNECTED"),
        graph=GraphOptions(keys_as_rows=True, patch_projection="columns_as_channels"),
        dynamic=True,
        fallback="float32",
    ),
    "npu": Target(
        summary="any accelerator without floating-point units",
        schemes=NO_INT16_PRODUCTS,
        checker="integer_scan",
        integer_only=True,
        # Each takes what is exported in int8 whole: Qualcomm's has no EXP in int8, and
        # Vela no resize. `vit-export check` asks those that are installed.
        checker_options={"compilers": NPU_COMPILERS},
        graph=GraphOptions(resizes="none"),
        int8_exp=False,
    ),
    "ethos_u55": Target(
        summary="Arm Ethos-U55, 256 MACs, on a microcontroller",
        schemes=NO_INT16_PRODUCTS,
        checker="vela",
        checker_options={
            "accelerator": "ethos-u55-256",
            "system_config": "Ethos_U55_High_End_Embedded",
            "memory_mode": "Shared_Sram",
        },
        integer_only=True,
        fallback_operators=ETHOS_INT16,
        graph=dataclasses.replace(ETHOS_GRAPH, resizes="none"),
        output_size="decoder",
    ),
    "ethos_u65": Target(
        summary="Arm Ethos-U65, 512 MACs, beside an application processor",
        schemes=NO_INT16_PRODUCTS,
        checker="vela",
        checker_options={
            "accelerator": "ethos-u65-512",
            "system_config": "Ethos_U65_Client_Server",
            "memory_mode": "Dedicated_Sram",
        },
        integer_only=True,
        fallback_operators=ETHOS_INT16,
        graph=dataclasses.replace(ETHOS_GRAPH, resizes="none"),
    ),
    "ethos_u85": Target(
        summary="Arm Ethos-U85, 512 MACs",
        schemes=INTEGER,
        checker="vela",
        checker_options={
            "accelerator": "ethos-u85-512",
            "system_config": "Ethos_U85_SYS_DRAM_Mid",
            "memory_mode": "Dedicated_Sram_384KB",
        },
        integer_only=True,
        fallback_operators=(*ETHOS_INT16, "BATCH_MATMUL"),
        graph=dataclasses.replace(ETHOS_GRAPH, resizes="powers_of_two"),
    ),
    "openvino": Target(
        summary="OpenVINO on an Intel CPU, GPU or NPU",
        schemes=("float32", "float16", *INTEGER),
        checker="openvino",
        fallback="float32",
    ),
    "micro": Target(
        summary="LiteRT for Microcontrollers",
        schemes=("int8", "float32"),
        checker="micro",
        graph=GraphOptions(gelu="tanh"),
        int8_exp=False,
        casts=False,
        fallback="float32",
    ),
    "gpu": Target(
        summary="LiteRT on a GPU (WebGPU, Vulkan, Metal)",
        schemes=(*FLOAT, "int8"),
        checker="webgpu",
        graph=GraphOptions(convolutions=True, half_floats=True),
        fallback="float32",
    ),
    "web": Target(
        summary="LiteRT.js in a browser, on WebAssembly or WebGPU",
        schemes=("dynamic_int8", *FLOAT, "weight_only_int8", "int8"),
        checker="litert_js",
        graph=GraphOptions(convolutions=True),
        io_dtypes=("float32", "int32"),  # of the latter maps of classes
        symmetric_products=True,
        fallback="float32",
    ),
    "qualcomm": Target(
        summary="Qualcomm Hexagon through LiteRT",
        schemes=(*INTEGER, "int16x8", *FLOAT),
        checker="qualcomm",
        checker_options={"socs": ("SM8750", "SM8550")},
        int8_exp=False,
        casts=False,  # the HTP gives 1.0 for every non-zero uint8
    ),
    "mediatek": Target(
        summary="MediaTek NPU through LiteRT, by list",
        schemes=(*INTEGER, *FLOAT),
        checker="op_list",
        int8_exp=False,
    ),
    "google_tensor": Target(
        summary="Google Tensor through LiteRT, by list",
        schemes=(*INTEGER, *FLOAT),
        checker="op_list",
    ),
    "edge_tpu": Target(
        summary="Coral Edge TPU, by list",
        schemes=("int8",),
        checker="op_list",
        integer_only=True,
        fallback_operators=(),
    ),
}
"""Targets by name, for `to_tflite`; `vit-export targets` prints them."""


def get_target(name: str) -> Target:
    """Return a target of the table.

    Raises:
        ValueError: unknown name; the message lists the valid ones.
    """
    if name not in TARGETS:
        raise ValueError(
            f"`target` must be one of {', '.join(TARGETS)}. Received: target={name!r}"
        )
    return TARGETS[name]

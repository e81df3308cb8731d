"""Where a file is to run, and what that place can take. A table, as `schemes`."""

import dataclasses
from typing import Any

from .forms import Form
from .schemes import get_scheme


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of device.

    Arguments:
        summary: what it is, in a line.
        schemes: names of the schemes that run there; the first is advised.
        tool: what judges a file, in `evaluation/tools`.
        options: of that tool.
        integer_only: whether every tensor between input and output must be integer.
        form: how the inference graph is written for it.
        splits_softmax: whether it has EXP in int8, which the split softmax needs.
        int8_only: with scheme "int8", the operators worth it; the others stay in
            float. None for all.
        by_row: these take floats, whose ranges are found row by row as they run; only
            scores of attention have ranges from calibration.
        raised: what an int8 operator becomes that needs more bits: "int16", or
            "float32" where floats are at home.
        wide: operators that can be raised; None for all.
        casts: whether it turns uint8 pixels into floats, for float graphs.
        ends: dtypes that the input and output may have; None for all of the scheme.
    """

    summary: str
    schemes: tuple[str, ...]
    tool: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    integer_only: bool = False
    form: Form = Form()
    splits_softmax: bool = True
    int8_only: tuple[str, ...] | None = None
    by_row: bool = False
    raised: str = "int16"
    wide: tuple[str, ...] | None = None
    casts: bool = True
    ends: tuple[str, ...] | None = None


INTEGER = ("int8", "int8_attention16")
FLOAT = ("float32", "float16")

# What Vela 5.2 compiles with int16 activations for every Ethos-U; U85 adds products.
ETHOS_WIDE = (
    *("ADD", "CONCATENATION", "CONV_2D", "FULLY_CONNECTED", "MEAN", "MUL", "RESHAPE"),
    *("RSQRT", "SOFTMAX", "STRIDED_SLICE", "SUB", "SUM", "TRANSPOSE"),
)

TARGETS: dict[str, Target] = {
    "cpu": Target(
        summary="LiteRT on a CPU with XNNPACK",
        schemes=(
            *("dynamic_int8", *FLOAT, "weight_only_int8", "dynamic_int4"),
            *(*INTEGER, "int16x8"),
        ),
        tool="xnnpack",
        # In int8 XNNPACK has no RSQRT, SUM or EXP: each would leave the delegate twice
        # a block. Linear layers are a fifth faster if they take and give floats, and
        # more exact: 27 instead of 22 dB on a ViT-S.
        int8_only=("CONV_2D", "FULLY_CONNECTED"),
        form=Form(keys_as_rows=True, columns_as_channels=True),
        by_row=True,
        raised="float32",
    ),
    "npu": Target(
        summary="any accelerator without floating-point units",
        schemes=INTEGER,
        tool="scan",
        integer_only=True,
    ),
    "ethos_u55": Target(
        summary="Arm Ethos-U55, 256 MACs, on a microcontroller",
        schemes=INTEGER,
        tool="vela",
        options={
            "accelerator": "ethos-u55-256",
            "system": "Ethos_U55_High_End_Embedded",
            "memory": "Shared_Sram",
        },
        integer_only=True,
        wide=ETHOS_WIDE,
    ),
    "ethos_u65": Target(
        summary="Arm Ethos-U65, 512 MACs, beside an application processor",
        schemes=INTEGER,
        tool="vela",
        options={
            "accelerator": "ethos-u65-512",
            "system": "Ethos_U65_Client_Server",
            "memory": "Dedicated_Sram",
        },
        integer_only=True,
        wide=ETHOS_WIDE,
    ),
    "ethos_u85": Target(
        summary="Arm Ethos-U85, 512 MACs",
        schemes=INTEGER,
        tool="vela",
        options={
            "accelerator": "ethos-u85-512",
            "system": "Ethos_U85_SYS_DRAM_Mid",
            "memory": "Dedicated_Sram_384KB",
        },
        integer_only=True,
        wide=(*ETHOS_WIDE, "BATCH_MATMUL"),
        # Its vector units are fast enough that what is saved on moving data counts.
        form=Form(heads_apart=True),
    ),
    "openvino": Target(
        summary="OpenVINO on an Intel CPU, GPU or NPU",
        schemes=("float32", "float16", *INTEGER),
        tool="openvino",
        raised="float32",
    ),
    "micro": Target(
        summary="LiteRT for Microcontrollers",
        schemes=("int8", "float32"),
        tool="micro",
        form=Form(gelu="tanh"),
        splits_softmax=False,
        casts=False,
        raised="float32",
    ),
    "gpu": Target(
        summary="LiteRT on a GPU (WebGPU, Vulkan, Metal)",
        schemes=(*FLOAT, "int8"),
        tool="webgpu",
        form=Form(convolutions=True),
        raised="float32",
    ),
    "web": Target(
        summary="LiteRT.js in a browser, on WebAssembly or WebGPU",
        schemes=("dynamic_int8", *FLOAT, "weight_only_int8", "int8"),
        tool="web",
        form=Form(convolutions=True),
        ends=("float32",),
        raised="float32",
    ),
    "qualcomm": Target(
        summary="Qualcomm Hexagon through LiteRT, by list",
        schemes=(*INTEGER, *FLOAT),
        tool="op_list",
    ),
    "mediatek": Target(
        summary="MediaTek NPU through LiteRT, by list",
        schemes=(*INTEGER, *FLOAT),
        tool="op_list",
        splits_softmax=False,
    ),
    "google_tensor": Target(
        summary="Google Tensor through LiteRT, by list",
        schemes=(*INTEGER, *FLOAT),
        tool="op_list",
    ),
    "edge_tpu": Target(
        summary="Coral Edge TPU, by list",
        schemes=("int8",),
        tool="op_list",
        integer_only=True,
        wide=(),
    ),
}


def get_target(name: str) -> Target:
    """A row of the table.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in TARGETS:
        raise ValueError(
            f"`target` must be one of {', '.join(TARGETS)}. Received: target={name!r}"
        )
    return TARGETS[name]


def form_for(
    scheme: str,
    target: str | None,
    heads_apart: bool | None = None,
    wide: bool = False,
) -> Form:
    """How the graph is written for a scheme on a target.

    Arguments:
        scheme: a name in `SCHEMES`.
        target: a name in `TARGETS`, or None.
        heads_apart: overrules the target's form, unless None.
        wide: whether operators may be raised to int16, which EXP can not.
    """
    place = get_target(target) if target else None
    form = place.form if place else Form()
    if heads_apart is not None:
        form = dataclasses.replace(form, heads_apart=heads_apart)
    able = place is None or (place.splits_softmax and place.int8_only is None)
    split = get_scheme(scheme).split_softmax and able and not wide
    return dataclasses.replace(form, split_softmax=split)

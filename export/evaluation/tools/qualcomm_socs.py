"""Qualcomm's SoCs with a Hexagon NPU of the kind HTP, and the schemes each takes whole.

Hexagon version, memory and floats are what the compiler of QAIRT 2.50 and 2.51 says and
does (`benchmarks/results/qualcomm.csv`, 2026-11-29). It also accepts SoCs older than
v68, down to those without an NPU, and compiles for a memory that none has: they are not
here. Names are those of LiteRT's plugin.
"""

import dataclasses

from ...targets import FLOAT

INT16_PRODUCTS = 73  # first Hexagon version with products of two int16 tensors


@dataclasses.dataclass(frozen=True)
class Soc:
    """A SoC.

    Arguments:
        hexagon: version of its NPU.
        memory_mb: of the NPU itself (VTCM).
        floats: whether it computes float16, as float files are.
        name: on the market, if it is known under one.
    """

    hexagon: int
    memory_mb: int
    floats: bool
    name: str = ""

    @property
    def schemes(self) -> tuple[str, ...]:
        """Schemes of `SCHEMES` that it takes whole."""
        wide = ("int8_attention16", "int16x8") if self.hexagon >= INT16_PRODUCTS else ()
        return ("int8", "int8_residual16", *wide, *(FLOAT if self.floats else ()))


SOCS: dict[str, Soc] = {
    "SM7325": Soc(68, 2, False, "Snapdragon 778G"),
    "QCM6490": Soc(68, 2, False),
    "SM8350": Soc(68, 4, False, "Snapdragon 888"),  # takes floats, then stops at GELU
    "SA8295": Soc(68, 8, True),
    "SM7450": Soc(69, 2, True, "Snapdragon 7 Gen 1"),
    "SM8450": Soc(69, 8, True, "Snapdragon 8 Gen 1"),
    "SM8475": Soc(69, 8, True, "Snapdragon 8+ Gen 1"),
    "SXR2230P": Soc(69, 8, True, "Snapdragon XR2 Gen 2"),
    "SSG2125P": Soc(73, 2, False, "Snapdragon AR1 Gen 1"),
    "SM6450": Soc(73, 2, False, "Snapdragon 6 Gen 1"),
    "SM6650": Soc(73, 2, False, "Snapdragon 6 Gen 4"),
    "SM7435": Soc(73, 2, False, "Snapdragon 7s Gen 2"),
    "SM7550": Soc(73, 2, False, "Snapdragon 7 Gen 3"),
    "SM7675": Soc(73, 4, False, "Snapdragon 7+ Gen 3"),
    "SM7750": Soc(73, 4, False, "Snapdragon 7 Gen 4"),
    "SM8635": Soc(73, 4, False, "Snapdragon 8s Gen 3"),
    "SM8735": Soc(73, 8, False, "Snapdragon 8s Gen 4"),
    "SM8550": Soc(73, 8, True, "Snapdragon 8 Gen 2"),
    "QCS8550": Soc(73, 8, True),
    "QCS9100": Soc(73, 8, True),
    "SA8255": Soc(73, 8, True),
    "SC8380XP": Soc(73, 8, True, "Snapdragon X Elite"),
    "QCS8300": Soc(75, 8, True),
    "SM8650": Soc(75, 8, True, "Snapdragon 8 Gen 3"),
    "SM8750": Soc(79, 8, True, "Snapdragon 8 Elite"),
    "SXR2330P": Soc(79, 8, True),
    "SM8845": Soc(81, 8, True, "Snapdragon 8 Gen 5"),
    "SM8850": Soc(81, 8, True, "Snapdragon 8 Elite Gen 5"),
    "SW6100": Soc(81, 4, False),
    "SAR2230P": Soc(81, 4, False),
}

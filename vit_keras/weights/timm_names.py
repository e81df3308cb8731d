"""What the name of a timm architecture says that neither arrays nor JSON do.

A name is words between underscores, as `vit_base_patch32_clip_quickgelu_224`. Each must
be known: to the fields that it sets, or to the reason why its network is none of ours.
"""

import re
from typing import Any

from .entries import CheckpointError

RELATIVE = "it has relative positions"
CONVOLUTIONS = "it has a convolutional network in front of the blocks"
DIFFERENTIAL = "it has differential attention"
PARALLEL = "it computes attention and MLP side by side"
NO_LAST_NORM = "it has no layer norm behind the last block"

PLAIN = {"pooling": "token", "mlp_activation": "gelu", "norm_epsilon": 1e-6}
TANH = {"mlp_activation": "gelu_tanh"}
SILU = {"mlp_activation": "silu"}
EVA02 = {"rotary": "eva02", "rotary_grid": (16, 16)}
DINOV3 = {"norm_epsilon": 1e-5, "positions": "none", "rotary": "dinov3"}
PE = {"norm_epsilon": 1e-5, "pooling": "map", "pool_heads": 8, "rotary": "pe"}

# Names of its class `Eva`; all others that are loaded are of `VisionTransformer`.
EVA = "eva02_.*|eva_giant_.*|.*_(dinov3|lingbot|rope|pe)(_.*)?"

# Whole names, before their words: what is said of the first that fits.
NAMES: dict[str, dict[str, Any] | str] = {
    r"eva_(large|giant)_patch14_\d+": {**PLAIN, "num_heads": 16, "pooling": "gap"},
    r"eva_giant_patch14_clip_224": {**PLAIN, "num_heads": 16},
    r"eva02_enormous_patch14_clip_224": {**PLAIN, "num_heads": 16, "post_norm": True},
    r"vit_base_patch16_gap_224": {**PLAIN, "num_heads": 16, "pooling": "gap"},
    r"vit_giant_patch14_(reg\d_)?(dinov2|tipsv2)": {**PLAIN, **SILU, "num_heads": 24},
    r"vit_pe_core_gigantic_.*": "the MLP of its pooling is narrower than the blocks'",
    r"test_vit": {**PLAIN, "num_heads": 2},
    r"test_vit2": {**PLAIN, "num_heads": 2, "pooling": "gap"},
    r"test_vit3": {**PLAIN, "num_heads": 3, "pooling": "map", "pool_prefix": True},
    r"test_vit4": "its norms are RMS norms",
    r"test_vit_relpos": RELATIVE,
}
# Parts of names, beside their words.
PARTS: dict[str, dict[str, Any]] = {
    # The second SigLIP, of which the smaller models keep the exact GELU.
    "(base_patch32|giantopt_patch16|so400m_patch16)_siglip": TANH,
    "large_patch16_siglip_(gap_)?512": TANH,
    # What the class `Eva` has otherwise.
    "eva02_.*_clip": {"pooling": "token", "norm_epsilon": 1e-6},
    r"_rope_reg\d": EVA02,
    "small_plus_patch16_dinov3": {"num_heads": 6},
    "huge_plus_patch16_dinov3": {"num_heads": 20},
    "(plus|7b)_patch16_dinov3": SILU,
    "giant_patch16_lingbot": {**SILU, "num_heads": 24},
    "pe_core_(tiny|small|large)": {"rotary_grid": (24, 24)},
    "pe_core_base": {"rotary_grid": (14, 14)},
}
# Words; what a later one says goes before.
WORDS: dict[str, dict[str, Any] | str] = {
    "vit|deit|deit3|flexivit": PLAIN,
    # Sizes, of which the arrays do not tell the heads.
    "tiny": {"num_heads": 3},
    "wee|xsmall": {"num_heads": 4},
    "little": {"num_heads": 5},
    "small": {"num_heads": 6},
    "mediumd?": {"num_heads": 8},
    "betwixt": {"num_heads": 10},
    "base": {"num_heads": 12},
    "so150m2": {"num_heads": 13},
    "so150m|plus": {"num_heads": 14},
    "large|huge|giant|giantopt|gigantic|so400m": {"num_heads": 16},
    "7b": {"num_heads": 32},
    # Told by the arrays: patches, depth, registers, a distillation token.
    r"patch\d+|\d+x1|reg\d+|distilled|dinov2|tipsv2|qkvb": {},
    r"\d+": {},  # the image's side
    "clip": {"norm_epsilon": 1e-5},
    "quickgelu": {"mlp_activation": "quick_gelu"},
    "siglip|map": {"pooling": "map"},
    "gap": {"pooling": "gap"},
    "rpn": {"pooling": "gap", "post_norm": True},
    "beit3": {**PLAIN, "pooling": "gap", "norm_epsilon": 1e-5},
    # Rotary positions.
    "eva02": {**PLAIN, **SILU, **EVA02, "pooling": "gap"},
    "dinov3": {**DINOV3, "pooling": "gap"},
    "lingbot": DINOV3,
    "rope": {"rotary": "rope_vit", "positions": "none"},
    "ape": {"positions": "learned"},
    "pe": PE,
    "core": {},
    # Trainings, in names of older releases.
    "in21k|in21ft1k|miil|sam|dino|laion2b": {},
    # Networks that are none of ours.
    "xp": f"{PARALLEL}, and its norms are RMS norms",
    "pwee|18x2": PARALLEL,
    "dpwee|dwee|dlittle": DIFFERENTIAL,
    "s?relpos|beitv?2?": RELATIVE,
    "mixed": "the frequencies of its rotary positions are learned",
    "sapiens2": "its LayerScale is on attention alone, its norms are RMS norms",
    "radio|intern300m|lang|spatial": NO_LAST_NORM,
    "samvit": "it attends within windows, with relative positions",
    "naflexvit": "its images come as lists of patches of any shape",
    r"r\d*|resnet\d+d?|mci": CONVOLUTIONS,
}


def is_eva(name: str) -> bool:
    """Return whether a name is one of timm's class `Eva`; a tag may be behind it."""
    return re.fullmatch(EVA, name.partition(".")[0]) is not None


def read_name(name: str, *, accept: bool = False) -> dict[str, Any]:
    """Return the fields of `ViTConfig` that the name of an architecture implies.

    Arguments:
        name: as timm has it, such as `vit_base_patch16_clip_224`, with or without the
            tag of a training behind a dot.
        accept: take a name with unknown words, of which nothing is known then.

    Raises:
        CheckpointError: it names another network, or holds an unknown word.
    """
    name = name.partition(".")[0]
    said = next((NAMES[p] for p in NAMES if re.fullmatch(p, name)), None)
    rows = [said] if said is not None else []
    unknown = []
    for word in name.split("_") if said is None else ():
        row = next((WORDS[p] for p in WORDS if re.fullmatch(p, word)), None)
        if row is None:
            unknown.append(word)
        else:
            rows.append(row)
    for row in rows:
        if isinstance(row, str):
            raise CheckpointError(
                f"`architecture` is {name!r}, which this package does not have: {row}"
            )
    if unknown and not accept:
        raise CheckpointError(
            f"`architecture` is {name!r}, of which {', '.join(map(repr, unknown))} is "
            "not known: its network may differ in what no array tells. `assume` states "
            "that, as assume={'mlp_activation': 'gelu'}; assume={} takes the defaults"
        )
    fields: dict[str, Any] = {}
    for row in rows if not unknown else ():
        fields |= row if isinstance(row, dict) else {}
    for part, row in PARTS.items():
        fields |= row if fields and re.search(part, name) else {}
    return fields

"""Presets: published sizes, with source and exact weight count."""

import dataclasses
import difflib

from .config import ViTConfig


@dataclasses.dataclass(frozen=True)
class Preset:
    """A published size: its configuration, source and exact number of weights.

    `parameters` counts all weights at 224 px with 1000 classes.
    """

    config: ViTConfig
    parameters: int
    paper: str


_VIT = "arXiv 2010.11929, table 1"
_AUGREG = "arXiv 2106.10270, table 2"
_SCALING = "arXiv 2106.04560, table 2"
_DEIT = "arXiv 2012.12877, table 1"

# name: width, depth, heads, MLP width (one row per size in the papers' tables)
_SIZES = {
    "ti": (192, 12, 3, 768),
    "s": (384, 12, 6, 1536),
    "m": (512, 12, 8, 2048),
    "b": (768, 12, 12, 3072),
    "l": (1024, 24, 16, 4096),
    "h": (1280, 32, 16, 5120),
    "g": (1408, 40, 16, 6144),
}


def _preset(size, patch, parameters, paper, **options):
    width, depth, heads, mlp = _SIZES[size]
    config = ViTConfig(
        patch_size=patch,
        hidden_size=width,
        num_layers=depth,
        num_heads=heads,
        mlp_dim=mlp,
        **options,
    )
    return Preset(config, parameters, paper)


PRESETS: dict[str, Preset] = {
    "vit_ti16": _preset("ti", 16, 5_717_416, _AUGREG),
    "vit_s16": _preset("s", 16, 22_050_664, _AUGREG),
    "vit_s32": _preset("s", 32, 22_878_952, _AUGREG),
    "vit_m16": _preset("m", 16, 38_837_736, _SCALING),
    "vit_b8": _preset("b", 8, 86_576_872, _AUGREG),
    "vit_b16": _preset("b", 16, 86_567_656, _VIT),
    "vit_b32": _preset("b", 32, 88_224_232, _VIT),
    "vit_l16": _preset("l", 16, 304_326_632, _VIT),
    "vit_l32": _preset("l", 32, 306_535_400, _VIT),
    "vit_h14": _preset("h", 14, 632_045_800, _VIT),
    "vit_g14": _preset("g", 14, 1_012_611_432, _SCALING),
    "deit_ti16": _preset("ti", 16, 5_910_800, _DEIT, distillation_token=True),
    "deit_s16": _preset("s", 16, 22_436_432, _DEIT, distillation_token=True),
    "deit_b16": _preset("b", 16, 87_338_192, _DEIT, distillation_token=True),
}


def get_config(name: str) -> ViTConfig:
    """Return the configuration of a preset.

    Raises:
        ValueError: unknown name; the message lists the valid ones.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(str(name), PRESETS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"`preset` must be one of {', '.join(PRESETS)}.{hint} "
            f"Received: preset={name!r}"
        )
    return PRESETS[name].config

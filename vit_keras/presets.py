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
_DINOV2 = "arXiv 2304.07193"
_DINOV3 = "arXiv 2508.10104"
_SIGLIP = "arXiv 2303.15343"
_CLIP = "arXiv 2103.00020, table 20"

# name: width, depth, heads, MLP width (one row per size in the papers' tables)
_SIZES = {
    "ti": (192, 12, 3, 768),
    "s": (384, 12, 6, 1536),
    "m": (512, 12, 8, 2048),
    "b": (768, 12, 12, 3072),
    "l": (1024, 24, 16, 4096),
    "h": (1280, 32, 16, 5120),
    "g": (1408, 40, 16, 6144),
    "giant": (1536, 40, 24, 4096),  # DINOv2's, with gates
    "so400m": (1152, 27, 16, 4304),
}
_GATED = {"mlp_gated": True, "mlp_activation": "silu"}
_SIGLIP_FIELDS = {"pooling": "map", "mlp_activation": "gelu_tanh"}
_CLIP_FIELDS = {"pre_norm": True, "mlp_activation": "quick_gelu", "norm_epsilon": 1e-5}
_DINOV3_FIELDS = {
    "positions": "none",
    "rotary": "dinov3",
    "num_register_tokens": 4,
    "key_bias": False,
    "layer_scale_init_value": 1e-5,
    "norm_epsilon": 1e-5,
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
    "dinov2_g14": _preset(
        "giant", 14, 1_136_306_664, _DINOV2, layer_scale_init_value=1e-5, **_GATED
    ),
    "dinov3_s16": _preset("s", 16, 21_981_160, _DINOV3, **_DINOV3_FIELDS),
    "dinov3_s16plus": _preset("s", 16, 29_077_480, _DINOV3, **_DINOV3_FIELDS, **_GATED),
    "dinov3_b16": _preset("b", 16, 86_428_648, _DINOV3, **_DINOV3_FIELDS),
    "dinov3_l16": _preset("l", 16, 304_153_576, _DINOV3, **_DINOV3_FIELDS),
    "siglip_b16": _preset("b", 16, 93_653_224, _SIGLIP, **_SIGLIP_FIELDS),
    "siglip_so400m14": _preset("so400m", 14, 428_833_704, _SIGLIP, **_SIGLIP_FIELDS),
    "clip_b32": _preset("b", 32, 88_225_768, _CLIP, **_CLIP_FIELDS),
    "clip_b16": _preset("b", 16, 86_569_192, _CLIP, **_CLIP_FIELDS),
    "clip_l14": _preset("l", 14, 304_205_800, _CLIP, **_CLIP_FIELDS),
}
"""Published sizes by name, for `create_model`; `vit-keras presets` prints them."""


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

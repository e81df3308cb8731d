"""Settings of transformers' models with a decoder."""

import dataclasses
from typing import Any

from .known_settings import HUGGINGFACE, Known, check_known
from .settings import read_huggingface_fields

# The settings of each layout, beside those of its ViT.
_NECK_SIZES = ("neck_hidden_sizes", "fusion_hidden_size", "reassemble_hidden_size")
_NECK = {"reassemble_factors": ([4, 2, 1, 0.5],), "head_in_index": (-1,)}


def _beside(only, read=(), silent=()):
    """Return the settings of a ViT of transformers, and others."""
    return dataclasses.replace(
        HUGGINGFACE,
        read=(*HUGGINGFACE.read, *read),
        only={**HUGGINGFACE.only, **only},
        silent=(*HUGGINGFACE.silent, *silent),
    )


KNOWN = {
    "huggingface_dpt": _beside(
        {
            **_NECK,
            "model_type": ("dpt",),
            "is_hybrid": (False,),
            "use_batch_norm_in_fusion_residual": (False,),
            "add_projection": (False,),
            "readout_type": ("ignore", "project"),
            "hidden_act": ("gelu",),
            "patch_size": (16,),  # at the end rows and columns are doubled, and fit
        },
        read=("backbone_out_indices",),
        silent=(
            *_NECK_SIZES,
            *("neck_ignore_stages", "backbone_featmap_shape", "use_auxiliary_head"),
            *("auxiliary_loss_weight", "semantic_loss_ignore_index"),
            *("semantic_classifier_dropout", "use_bias_in_fusion_residual"),
        ),
    ),
    "huggingface_depth_anything": Known(
        read=("backbone_config", "max_depth", "architectures", "patch_size"),
        only={
            **_NECK,
            "model_type": ("depth_anything",),
            "head_hidden_size": (32,),
            "depth_estimation_type": ("relative", "metric"),
        },
        silent=(*HUGGINGFACE.silent, *_NECK_SIZES),
    ),
    "huggingface_eomt": _beside(
        {
            "model_type": ("eomt",),
            "hidden_act": ("gelu",),
            "use_swiglu_ffn": (False,),
        },
        read=("num_blocks",),
        silent=(
            *("num_queries", "num_upscale_blocks", "attention_dropout"),
            *("no_object_weight", "class_weight", "mask_weight", "dice_weight"),
            *("train_num_points", "oversample_ratio", "importance_sample_ratio"),
        ),
    ),
}


def read_with_decoder(layout: str):
    """Return the reader of the settings of a layout with a decoder."""

    def read(files: dict[str, dict], *, accept: bool = False) -> dict[str, Any]:
        model = files.get("config.json", {})
        check_known(model, KNOWN[layout], accept=accept)
        backbone = model.get("backbone_config") or {}
        check_known(backbone, HUGGINGFACE, accept=accept)
        merged = {**files, "config.json": {**model, **backbone}}
        fields = read_huggingface_fields(merged)
        fields |= _taps(model, backbone)
        if "num_blocks" in model:
            fields["decoder_depth"] = int(model["num_blocks"])
        if model.get("depth_estimation_type") == "metric":
            fields |= {"activation": "sigmoid", "depth_type": "metric"}
        if (model.get("max_depth") or 1) != 1:
            fields["max_depth"] = float(model["max_depth"])
        if "apply_layernorm" in backbone:
            fields["tap_norm"] = bool(backbone["apply_layernorm"])
        return fields

    return read


def _taps(model, backbone):
    """Return the blocks that are decoded; a backbone counts the embedding as 0."""
    stages = backbone.get("out_indices") or [
        int(name.removeprefix("stage")) for name in backbone.get("out_features") or ()
    ]
    blocks = [i - 1 for i in stages] or model.get("backbone_out_indices")
    return {"taps": tuple(blocks)} if blocks else {}


READERS = {name: read_with_decoder(name) for name in KNOWN}

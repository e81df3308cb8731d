"""Settings of transformers' models with a decoder, and what of them is refused."""

from collections.abc import Mapping

from .entries import CheckpointError
from .family_settings import READERS as FAMILIES
from .settings import READERS as BACKBONES
from .settings import read_huggingface

# `model_type`, or a setting of it, that names another network than any of ours.
OTHERS = {
    "eomt_dinov3": "EoMT on DINOv3, which has rotary positions",
    "beit": "BEiT, which has relative positions",
    "swinv2": "Swin, which is no plain ViT",
    "bit": "a ResNet, which is no plain ViT",
    "dpt, is_hybrid": "DPT-Hybrid on a ResNet, which is no plain ViT",
    "dpt, backbone_config": "DPT on the maps of another model, not of its own",
}
DPT_PARTS = ("is_hybrid", "backbone_config")
# What must stand there, if it does, for each layout; other values compute otherwise.
FACTORS = [4, 2, 1, 0.5]
NECK = {"reassemble_factors": FACTORS, "head_in_index": -1}
NEEDS = {
    "huggingface_dpt": {
        **NECK,
        "is_hybrid": False,
        "use_batch_norm_in_fusion_residual": False,
        "add_projection": False,
        "readout_type": ("ignore", "project"),
        "hidden_act": "gelu",
        "patch_size": 16,  # at the end rows and columns are doubled, and fit
    },
    "huggingface_depth_anything": {
        **NECK,
        "head_hidden_size": 32,
        "depth_estimation_type": ("relative", "metric"),
    },
    "huggingface_eomt": {"use_swiglu_ffn": False, "hidden_act": "gelu"},
}


def refuse_others(settings: Mapping[str, dict]) -> None:
    """Refuse networks by the name that their settings give them.

    Raises:
        CheckpointError: the settings name one.
    """
    model = settings.get("config.json", {})
    backbone = model.get("backbone_config") or {}
    kinds = [model.get("model_type")]
    if isinstance(backbone, dict):
        kinds.append(backbone.get("model_type"))
    kinds += [f"{kinds[0]}, {name}" for name in DPT_PARTS if model.get(name)]
    for kind in kinds:
        if isinstance(kind, str) and kind in OTHERS:
            raise CheckpointError(
                f"`config.json` beside the weights says {kind!r}: {OTHERS[kind]}; "
                "this package has no such network"
            )


def read_with_decoder(layout: str):
    """Return the reader of the settings of a layout with a decoder."""

    def read(files: dict[str, dict]) -> dict:
        model = files.get("config.json", {})
        for name, wanted in NEEDS[layout].items():
            wanted = wanted if isinstance(wanted, tuple) else (wanted,)
            if name in model and model[name] not in wanted:
                raise CheckpointError(
                    f"`{name}` must be {' or '.join(map(repr, wanted))}. "
                    f"Received from the settings: {model[name]!r}"
                )
        backbone = model.get("backbone_config") or {}
        fields = read_huggingface({**files, "config.json": {**model, **backbone}})
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


READERS = {
    **BACKBONES,
    **FAMILIES,
    **{name: read_with_decoder(name) for name in NEEDS},
}

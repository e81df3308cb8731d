"""Networks that are none of ours, by the names of their settings and arrays."""

from collections.abc import Mapping

from .entries import CheckpointError
from .keras_hub_settings import refuse_other_classes
from .timm_names import read_name

# `model_type`, or a setting of it, that names another network than any of ours.
OTHERS = {
    "eomt_dinov3": "EoMT on DINOv3, which has rotary positions",
    "beit": "BEiT, which has relative positions",
    "vit_hybrid": "a ViT on a ResNet, which is no plain ViT",
    "yolos": "YOLOS, which finds objects",
    "swinv2": "Swin, which is no plain ViT",
    "bit": "a ResNet, which is no plain ViT",
    "dpt, is_hybrid": "DPT-Hybrid on a ResNet, which is no plain ViT",
    "dpt, backbone_config": "DPT on the maps of another model, not of its own",
}
DPT_PARTS = ("is_hybrid", "backbone_config")
# {names that no layout reads: what network has them}
REFUSED = {
    ".*relative_position_bias_table": "relative positions in its attention, as BEiT's",
    r".*\.lambda_[12]": "the scales of the branches of BEiT",
}


def refuse_others(settings: Mapping[str, dict]) -> None:
    """Refuse networks by the name that their settings give them.

    Raises:
        CheckpointError: the settings name one.
    """
    refuse_other_classes(settings)
    model = settings.get("config.json", {})
    if "architecture" in model:
        read_name(str(model["architecture"]), accept=True)
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

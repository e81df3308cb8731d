"""Settings of transformers' DINOv3, SigLIP and CLIP, read and written."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from ..config import ViTConfig
from .entries import CheckpointError
from .known_settings import HUGGINGFACE, Known, check_known, one_of
from .settings import read_huggingface_fields
from .written_settings import write_huggingface


@dataclasses.dataclass(frozen=True)
class Family:
    """How transformers describes a family of models.

    Arguments:
        model_types: of the image encoder alone, and of both towers.
        classes: those in transformers whose outputs ours are.
        known: its settings.
        heads: `num_attention_heads` where its settings have none, as those of the first
            published models.
    """

    model_types: tuple[str, ...]
    classes: tuple[str, ...]
    known: Known
    heads: int


BLOCK = "encoderblock_0/"
DINOV3 = dataclasses.replace(
    HUGGINGFACE,
    read=(*HUGGINGFACE.read, "rope_theta"),
    weights={
        "use_gated_mlp": f"{BLOCK}mlp/gate/kernel",
        "query_bias": f"{BLOCK}attention/query/bias",
        "key_bias": f"{BLOCK}attention/key/bias",
        "value_bias": f"{BLOCK}attention/value/bias",
        "proj_bias": f"{BLOCK}attention/out/bias",
        "mlp_bias": f"{BLOCK}mlp/dense1/bias",
    },
    silent=(
        *HUGGINGFACE.silent,
        *("attention_dropout", "pos_embed_shift", "pos_embed_jitter"),
        "pos_embed_rescale",
    ),
)
TOWER = dataclasses.replace(
    HUGGINGFACE,
    read=(*HUGGINGFACE.read, "vision_config", "vision_config_dict", "num_patches"),
    weights={},
    silent=(
        *HUGGINGFACE.silent,
        # Of the arrays: their shapes, or whether they are there.
        *("projection_dim", "vision_use_head"),
        # The other tower, and training.
        *("text_config", "text_config_dict", "logit_scale_init_value"),
        *("attention_dropout", "dropout", "initializer_factor"),
    ),
)
FAMILIES = {
    "huggingface_dinov3": Family(
        ("dinov3_vit",), ("DINOv3ViTModel", "DINOv3ViTBackbone"), DINOV3, 6
    ),
    "huggingface_siglip": Family(
        ("siglip_vision_model", "siglip"),
        ("SiglipVisionModel", "SiglipModel", "SiglipForImageClassification"),
        TOWER,
        12,
    ),
    "huggingface_siglip2": Family(
        ("siglip2_vision_model", "siglip2"),
        ("Siglip2VisionModel", "Siglip2Model", "Siglip2ForImageClassification"),
        TOWER,
        12,
    ),
    "huggingface_clip": Family(
        ("clip_vision_model", "clip"),
        ("CLIPVisionModel", "CLIPModel", "CLIPVisionModelWithProjection"),
        TOWER,
        12,
    ),
}
ROTARY_THETA = 100.0  # of DINOv3ViTConfig, and of our "dinov3"
SQUARE, PATCH = 256, 16  # positions and pixels of Siglip2VisionConfig


def tower(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the image tower, of which a text model is beside it."""
    vision = dict(model.get("vision_config") or {})
    vision |= model.get("vision_config_dict") or {}  # of old files, which counts
    return {**vision, **model}


def read_family(layout: str) -> Callable[[dict[str, dict]], dict[str, Any]]:
    """Return the reader of the settings of a layout, with or without a text model."""

    def read(files: dict[str, dict], *, accept: bool = False) -> dict[str, Any]:
        model = files.get("config.json")
        if model is None:
            return read_huggingface_fields(files)
        model = {"num_attention_heads": FAMILIES[layout].heads, **tower(model)}
        check_known(model, FAMILIES[layout].known, accept=accept)
        if not accept:
            _check_names(files["config.json"], FAMILIES[layout])
        fields = read_huggingface_fields({**files, "config.json": model})
        theta = model.get("rope_theta", ROTARY_THETA)
        if layout == "huggingface_dinov3" and theta != ROTARY_THETA:
            fields["rotary_temperature"] = float(theta)
        if layout == "huggingface_siglip2":
            side = math.isqrt(model.get("num_patches", SQUARE))
            patch = fields.setdefault("patch_size", (PATCH, PATCH))
            fields["image_size"] = (side * patch[0], side * patch[1])
        return fields | _distorted(files, fields)

    return read


def _check_names(model, family):
    """Refuse a model of another name."""
    kind = model.get("model_type")
    if kind is not None:
        one_of("`model_type`", kind, dict.fromkeys(family.model_types))
    for name in model.get("architectures") or ():
        one_of("`architectures`", name, dict.fromkeys(family.classes))


def _distorted(files, fields):
    """Return the preprocessing of a processor that resizes both sides by themselves."""
    images = files.get("preprocessor_config.json") or {}
    size = images.get("size")
    whole = isinstance(size, dict) and {"height", "width"} <= size.keys()
    if not whole or images.get("do_center_crop"):
        return {}
    told = dataclasses.replace(fields["preprocessing"], resize="stretch")
    return {"preprocessing": told}


def write_family(config: ViTConfig, layout: str) -> dict[str, dict]:
    """Return the JSON files for `from_pretrained` of a model of one of `FAMILIES`.

    Raises:
        CheckpointError: there is no setting for what the model has.
    """
    family, files = FAMILIES[layout], write_huggingface(config, layout)
    model = files["config.json"]
    for name in ("image_size", "patch_size"):
        if layout != "huggingface_dinov3" and isinstance(model[name], list):
            raise CheckpointError(
                f"`{name}` must be a square for the layout {layout}. "
                f"Received: {name}={getattr(config, name)}"
            )
    for name in ("qkv_bias", "hidden_dropout_prob", "pooler_output_size"):
        model.pop(name, None)
    model |= {
        "model_type": family.model_types[0],
        "attention_dropout": model.pop("attention_probs_dropout_prob"),
    }
    if layout == "huggingface_dinov3":
        model |= {
            "query_bias": config.qkv_bias,
            "key_bias": config.qkv_bias and config.key_bias,
            "value_bias": config.qkv_bias,
            "use_gated_mlp": config.mlp_gated,
            "layerscale_value": config.layer_scale_init_value,
            "num_register_tokens": config.num_register_tokens,
            "rope_theta": config.rotary_temperature or ROTARY_THETA,
        }
    if layout == "huggingface_siglip":
        model["vision_use_head"] = config.pooling == "map"
    if layout == "huggingface_clip" and config.representation_size:
        model["architectures"] = ["CLIPVisionModelWithProjection"]
        model["projection_dim"] = config.representation_size
    return files


READERS = {name: read_family(name) for name in FAMILIES}
WRITERS = dict.fromkeys(FAMILIES, write_family)
# {`Layout.settings`: the part of `config.json` that tells of the arrays, its table}
CHECKED = {name: (tower, family.known) for name, family in FAMILIES.items()}

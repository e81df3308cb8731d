"""Fields of `ViTConfig` from `open_clip_config.json`."""

from typing import Any

from ..preprocessing import Preprocessing
from .entries import CheckpointError
from .known_settings import Known, check_known, one_of

FILE = "open_clip_config.json"
TOP = Known(read=("model_cfg", "preprocess_cfg"))
MODEL = Known(
    read=("embed_dim", "vision_cfg", "quick_gelu"),
    silent=(
        *("text_cfg", "custom_text", "init_logit_scale", "init_logit_bias"),
        *("nonscalar_logit_scale", "cast_dtype", "output_dict"),
    ),
)
VISION = Known(
    read=("image_size", "head_width", "pool_type", "act_kwargs", "norm_kwargs"),
    sizes={"width": "D", "layers": "L", "patch_size": "pq", "embed_dim": "F"},
    weights={"ls_init_value": "encoderblock_0/layer_scale1/gamma"},
    only={
        "final_ln_after_pool": (False,),
        "attentional_pool": (False,),
        "block_type": ("default",),
        # Both are arrays of the file.
        "pos_embed_type": ("learnable", "sin_cos_2d"),
    },
    silent=(
        *("mlp_ratio", "no_ln_pre", "patch_dropout", "output_tokens"),
        *("attn_pooler_queries", "attn_pooler_heads"),
        # Of another encoder, which `timm_model_name` would name.
        *("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias"),
        *("timm_drop", "timm_drop_path"),
    ),
)
IMAGES = Known(
    read=("mean", "std", "interpolation", "resize_mode"),
    only={"mode": ("RGB",)},
    silent=("size", "fill_color"),
)
POOLING = {"tok": "token", "avg": "gap"}
RESIZE = {"shortest": "cover", "squash": "stretch"}


def read_open_clip(files: dict[str, dict], *, accept: bool = False) -> dict[str, Any]:
    """Read the settings of a model of open_clip on a hub.

    Arguments:
        files: the file, if it is there.
        accept: take settings that are not known.

    Returns:
        Fields of `ViTConfig`.

    Raises:
        CheckpointError: a setting is unknown, or of another network.
    """
    if FILE not in files:
        return {}
    settings = files[FILE]
    model = settings.get("model_cfg") or {}
    images = settings.get("preprocess_cfg") or {}
    vision = vision_of(files)
    for part, known in (
        (settings, TOP),
        (model, MODEL),
        ({n: v for n, v in vision.items() if n != "embed_dim"}, VISION),
        (images, IMAGES),
    ):
        check_known(part, known, accept=accept)
    fields: dict[str, Any] = {"mlp_activation": _activation(model, vision)}
    fields["norm_epsilon"] = float((vision.get("norm_kwargs") or {}).get("eps", 1e-5))
    fields["pooling"] = one_of("`pool_type`", vision.get("pool_type", "tok"), POOLING)
    if "width" in vision:
        fields["num_heads"] = int(vision["width"]) // int(vision.get("head_width", 64))
    size = vision.get("image_size", 224)
    fields["image_size"] = tuple(size) if isinstance(size, list) else (size, size)
    mode = one_of("`resize_mode`", images.get("resize_mode", "shortest"), RESIZE)
    options = {n: images[n] for n in ("mean", "std", "interpolation") if images.get(n)}
    default = {
        "mean": (0.48145466, 0.4578275, 0.40821073),
        "std": (0.26862954, 0.26130258, 0.27577711),
        "interpolation": "bicubic",
    }
    return fields | {"preprocessing": Preprocessing(**default | options, resize=mode)}


def vision_of(files: dict[str, dict]) -> dict[str, Any]:
    """Return what the settings say of the image encoder, and the output's width."""
    model = files.get(FILE, {}).get("model_cfg") or {}
    width = {"embed_dim": model["embed_dim"]} if "embed_dim" in model else {}
    vision = model.get("vision_cfg") or {}
    return {n: v for n, v in vision.items() if v is not None} | width


def _activation(model, vision):
    options = vision.get("act_kwargs") or {}
    if options not in ({}, {"approximate": "none"}, {"approximate": "tanh"}):
        raise CheckpointError(
            "`act_kwargs` must be {'approximate': 'tanh'} or empty. "
            f"Received from the settings: {options!r}"
        )
    if model.get("quick_gelu"):
        return "quick_gelu"
    return "gelu_tanh" if options.get("approximate") == "tanh" else "gelu"

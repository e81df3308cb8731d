"""JSON settings of other libraries from a `ViTConfig`."""

import math

from ..config import ViTConfig
from .entries import CheckpointError
from .settings import CROP_MODES, POOLING, POSITIONS, PROBLEMS, RESAMPLE, unnamed

# model_type: class names in transformers, with and without a classifier
HF_CLASSES = {
    "vit": ("ViTForImageClassification", "ViTModel"),
    "deit": ("DeiTForImageClassificationWithTeacher", "DeiTModel"),
    "dinov2": ("Dinov2ForImageClassification", "Dinov2Model"),
    "dinov2_with_registers": (
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersModel",
    ),
    "dinov3": ("", "DINOv3ViTModel"),
    "siglip": ("", "SiglipVisionModel"),
    "clip": ("", "CLIPVisionModel"),
}
HF_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}  # where they differ from ours


def write_huggingface(config: ViTConfig, layout: str) -> dict[str, dict]:
    """Return the JSON files for `transformers.AutoModel.from_pretrained`."""
    kind = layout.removeprefix("huggingface_")
    if kind == "dinov2" and config.num_register_tokens:
        kind = "dinov2_with_registers"
    (height, width), patch = config.image_size, config.patch_size
    model = {
        "model_type": kind,
        "architectures": [HF_CLASSES[kind][0 if config.include_top else 1]],
        "image_size": height if height == width else [height, width],
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch),
        "num_channels": config.channels,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_act": HF_ACTIVATIONS.get(config.mlp_activation, config.mlp_activation),
        "layer_norm_eps": config.norm_epsilon,
        "qkv_bias": config.qkv_bias,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
    }
    if kind.startswith("dinov2"):
        if config.mlp_dim % config.hidden_size:
            raise CheckpointError(
                "`mlp_dim` must be a multiple of hidden_size for a Dinov2 model. "
                f"Received: {config.mlp_dim}, hidden_size={config.hidden_size}"
            )
        model["mlp_ratio"] = config.mlp_dim // config.hidden_size
        model["layerscale_value"] = config.layer_scale_init_value or 1.0
        model["num_register_tokens"] = config.num_register_tokens
    else:
        model["intermediate_size"] = config.mlp_dim
        model["pooler_output_size"] = config.representation_size
    if config.include_top:
        kinds = {ours: theirs for theirs, ours in PROBLEMS.items()}
        if config.head not in kinds:
            raise CheckpointError(
                f"`head` must be one of {', '.join(kinds)} for the layout {layout}. "
                f"Received: head={config.head!r}"
            )
        model["problem_type"] = kinds[config.head]
        names = config.labels or unnamed(config.classes)
        model["id2label"] = {str(i): name for i, name in enumerate(names)}
        model["label2id"] = {name: i for i, name in enumerate(names)}
    images, size = config.preprocessing, {"height": height, "width": width}
    if images.resize == "contain":
        raise CheckpointError(
            f"`resize` must not be contain for the layout {layout}, whose settings "
            "have no padding"
        )
    whole = {name: round(side / images.crop) for name, side in size.items()}
    return {
        "config.json": model,
        "preprocessor_config.json": {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": whole,
            "resample": RESAMPLE.index(images.interpolation),
            "do_center_crop": images.crop < 1,
            "crop_size": size,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(images.mean),
            "image_std": list(images.std),
        },
    }


def _ratio(whole, part):
    """Return `whole / part` as a float that gives `whole` again in timm's product."""
    ratio = whole / part
    return ratio if int(part * ratio) == whole else math.nextafter(ratio, math.inf)


def write_timm(config: ViTConfig, layout: str) -> dict[str, dict]:
    """Return the `config.json` for `timm.create_model("local-dir:FOLDER")`."""
    pool = {ours: theirs for theirs, ours in POOLING.items()}[config.pooling]
    distilled = "deit_tiny_distilled_patch16_224"
    model = {
        "img_size": list(config.image_size),
        "patch_size": list(config.patch_size),
        "in_chans": config.channels,
        "embed_dim": config.hidden_size,
        "depth": config.num_layers,
        "num_heads": config.num_heads,
        "mlp_ratio": _ratio(config.mlp_dim, config.hidden_size),
        "qkv_bias": config.qkv_bias,
        "act_layer": config.mlp_activation,
        "init_values": config.layer_scale_init_value,
        "qk_norm": config.qk_norm,
        "pre_norm": config.pre_norm,
        "scale_attn_norm": config.attention_norm,
        "scale_mlp_norm": config.mlp_norm,
    }
    if not config.distillation_token:
        model |= {
            "class_token": config.class_token,
            "global_pool": pool,
            "reg_tokens": config.num_register_tokens,
            "no_embed_class": not config.position_prefix,
            "fc_norm": config.fc_norm,
            "pos_embed": {v: k for k, v in POSITIONS.items()}[config.positions],
            "pool_include_prefix": config.pool_prefix,
        }
    images, classes = config.preprocessing, config.classes * config.include_top
    return {
        "config.json": {
            "architecture": (
                distilled if config.distillation_token else "vit_tiny_patch16_224"
            ),
            "num_classes": classes,
            **({"label_names": list(config.labels)} if config.labels else {}),
            "num_features": config.hidden_size,
            "global_pool": pool,
            "model_args": model,
            "pretrained_cfg": {
                "num_classes": classes,
                "input_size": [config.channels, *config.image_size],
                "mean": list(images.mean),
                "std": list(images.std),
                "interpolation": images.interpolation,
                "crop_pct": images.crop,
                "crop_mode": {v: k for k, v in CROP_MODES.items()}[images.resize],
                "first_conv": "patch_embed.proj",
                "classifier": (
                    ["head", "head_dist"] if config.distillation_token else "head"
                ),
            },
        }
    }


WRITERS = {"huggingface": write_huggingface, "timm": write_timm}

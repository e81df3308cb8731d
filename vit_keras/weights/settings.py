"""Conversion between JSON settings of other libraries and `ViTConfig`."""

import math

from ..config import ViTConfig
from ..preprocessing import Preprocessing
from .entries import CheckpointError

# Their names in Hugging Face and timm.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
}
HF_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}  # where they differ from ours
RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic")  # by Pillow's number
# `problem_type` of transformers; None is decided there by the labels.
PROBLEMS = {
    "single_label_classification": "softmax",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}

# timm's `crop_mode`, which pads with the mean, too: the way of resizing here.
CROP_MODES = {"center": "cover", "squash": "stretch", "border": "contain"}
POOLING = {"token": "token", "avg": "gap", "map": "map", "": None}
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


def _pair(value):
    return tuple(value) if isinstance(value, list) else (value, value)


def _activation(name):
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"the activation must be one of {', '.join(ACTIVATIONS)}. "
            f"Received from the settings: {name!r}"
        )
    return ACTIVATIONS[name]


def read_huggingface(files: dict[str, dict]) -> dict:
    """Read fields of `ViTConfig` from `config.json` and `preprocessor_config.json`."""
    model, fields = files.get("config.json", {}), {}
    for theirs, ours, convert in (
        ("num_attention_heads", "num_heads", int),
        ("layer_norm_eps", "norm_epsilon", float),
        ("hidden_act", "mlp_activation", _activation),
        ("image_size", "image_size", _pair),
        ("patch_size", "patch_size", _pair),
    ):
        if theirs in model:
            fields[ours] = convert(model[theirs])
    if model.get("use_swiglu_ffn"):  # it has this one, whatever `hidden_act` says
        fields["mlp_activation"] = "silu"
    if model.get("problem_type") in PROBLEMS:
        fields["head"] = PROBLEMS[model["problem_type"]]
    names = _huggingface_names(model.get("id2label") or {})
    if names and names != unnamed(len(names)):
        fields["labels"] = tuple(names)
    images = files.get("preprocessor_config.json")
    if images is not None:
        fields["preprocessing"] = _huggingface_images(images)
    return fields


def _huggingface_names(labels):
    """Return the names of the outputs in their order, which may be given as numbers."""
    numbers = [str(i) for i in range(len(labels))]
    lacking = [n for n in numbers if not isinstance(labels.get(n), (str, int))]
    if lacking:
        raise CheckpointError(
            f"`id2label` must name each output from 0 to {len(labels) - 1}. "
            f"Received none for: {', '.join(lacking[:5])}"
        )
    return [str(labels[n]) for n in numbers]


def unnamed(classes):
    """Return the names that transformers gives to classes without one."""
    return [f"LABEL_{i}" for i in range(classes)]


def _huggingface_images(settings):
    options = {}
    if settings.get("do_normalize", True) and "image_mean" in settings:
        options = {"mean": settings["image_mean"], "std": settings["image_std"]}
    resample = settings.get("resample")
    if isinstance(resample, int) and resample < len(RESAMPLE):
        options["interpolation"] = RESAMPLE[resample]
    if settings.get("do_center_crop") and "crop_size" in settings:
        kept, whole = _side(settings["crop_size"]), _side(settings.get("size"))
        if kept and whole:
            options["crop"] = min(1.0, kept / whole)
    return Preprocessing(**options)


def _side(size):
    """Return the shorter side, in any version of the settings."""
    if isinstance(size, dict):
        return size.get("shortest_edge") or min(size.values(), default=None)
    return size


def read_timm(files: dict[str, dict]) -> dict:
    """Read fields of `ViTConfig` from the `config.json` of timm's models on a hub."""
    settings = files.get("config.json", {})
    model = settings.get("model_args") or {}
    images = settings.get("pretrained_cfg") or {}
    fields = {}
    if "num_heads" in model:
        fields["num_heads"] = int(model["num_heads"])
    if "act_layer" in model:
        fields["mlp_activation"] = _activation(model["act_layer"])
    pool = model.get("global_pool", settings.get("global_pool"))
    if pool in POOLING:
        fields["pooling"] = POOLING[pool]
    if "img_size" in model:
        fields["image_size"] = _pair(model["img_size"])
    elif "input_size" in images:
        fields["image_size"] = tuple(images["input_size"][1:])
    if settings.get("label_names"):
        fields["labels"] = tuple(map(str, settings["label_names"]))
    names = {"crop_pct": "crop", "interpolation": "interpolation"}
    names |= {"mean": "mean", "std": "std"}
    options = {ours: images[n] for n, ours in names.items() if n in images}
    if images.get("crop_mode") in CROP_MODES:
        options["resize"] = CROP_MODES[images["crop_mode"]]
    if options:
        fields["preprocessing"] = Preprocessing(**options)
    return fields


def read_keras(files: dict[str, dict]) -> dict:
    """Read the number of heads from the model description in a `.h5` file."""
    waiting: list = [files.get("model_config")]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if isinstance(item.get("num_heads"), int):
                return {"num_heads": item["num_heads"]}
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return {}


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
    }
    if not config.distillation_token:
        model |= {
            "class_token": config.class_token,
            "global_pool": pool,
            "reg_tokens": config.num_register_tokens,
            "no_embed_class": not config.position_prefix,
            "fc_norm": config.fc_norm,
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


READERS = {
    "huggingface": read_huggingface,
    "timm": read_timm,
    "keras": read_keras,
}
WRITERS = {"huggingface": write_huggingface, "timm": write_timm}

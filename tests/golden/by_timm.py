"""Golden checkpoints of timm."""

from functools import partial

import timm
import torch
from common import FEATURES, IMAGENET_MEAN, IMAGENET_STD, SIZES, Maker, images, version
from pytorch import fill, run
from safetensors.torch import save_file
from timm.layers import LayerNorm
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer


def make_timm(args):
    make = Maker("timm", version("timm"))
    sizes = {
        "img_size": 16,
        "patch_size": 4,
        "embed_dim": 8,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 1.5,
        "num_classes": 5,
    }
    heads = {"num_heads": 2}  # a fused qkv kernel does not tell them

    def case(
        name,
        config,
        needs=None,
        cls=VisionTransformer,
        file="model.safetensors",
        save=save_file,
        size=(16, 16),
        base=SIZES,
        **options,
    ):
        model = fill(cls(**sizes | options))
        save(model.state_dict(), make.folder(name) / file)
        x = images(*size)
        make.add(name, file, x, run(model, x), base | config, heads | (needs or {}))

    def save_nested(state, path):
        torch.save({"model": state}, path)

    save_legacy = partial(torch.save, _use_new_zipfile_serialization=False)
    token, gap = {"pooling": "token"}, {"pooling": "gap", "class_token": True}

    case("timm-token", token)
    case("timm-pth", token, file="model.pth", save=save_nested)
    case("timm-legacy-pth", token, file="model.pth", save=save_legacy)
    case("timm-gap", gap | {"fc_norm": True}, global_pool="avg")
    case(
        "timm-gap-norm",
        gap,
        {"pooling": "gap"},
        global_pool="avg",
        fc_norm=False,
    )
    case(
        "timm-map",
        {"pooling": "map", "class_token": False},
        global_pool="map",
        class_token=False,
    )
    case(
        "timm-distilled",
        token | {"distillation_token": True},
        cls=VisionTransformerDistilled,
    )
    case(
        "timm-registers",
        token | {"num_register_tokens": 3, "position_prefix": False},
        reg_tokens=3,
        no_embed_class=True,
    )
    case("timm-layerscale", token | {"layer_scale": True}, init_values=0.5)
    case(
        "timm-dinov2",
        token
        | {"layer_scale": True, "num_register_tokens": 4, "position_prefix": False},
        base=FEATURES,
        num_classes=0,
        init_values=0.5,
        reg_tokens=4,
        no_embed_class=True,
        dynamic_img_size=True,
    )
    case(
        "timm-clip",
        token | {"pre_norm": True, "norm_epsilon": 1e-5},
        pre_norm=True,
        norm_layer=partial(LayerNorm, eps=1e-5),  # as timm's CLIP models have
    )
    case("timm-qknorm", token | {"qk_norm": True}, qk_norm=True)
    case(
        "timm-rect",
        token | {"image_size": [16, 8]},
        {"image_size": [16, 8]},
        size=(16, 8),
        img_size=(16, 8),
    )
    case("timm-noqkvbias", token | {"qkv_bias": False}, qkv_bias=False)

    name = "timm-folder"
    model = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained_cfg_overlay={
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
            "crop_pct": 0.9,
            "interpolation": "bicubic",
            "input_size": (3, 16, 16),
            "num_classes": 5,
        },
        **sizes,
    )
    timm.models.save_for_hf(
        fill(model),
        make.folder(name),
        model_args={k: v for k, v in sizes.items() if k != "num_classes"},
        safe_serialization=True,
    )
    make.add(name, ".", images(), run(model, images()), SIZES | token)
    return make.rows

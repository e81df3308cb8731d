"""Golden checkpoints of timm."""

from functools import partial

import timm
import torch
from common import FEATURES, IMAGENET_MEAN, IMAGENET_STD, SIZES, Maker, images, version
from pytorch import fill, run
from safetensors.torch import save_file
from timm.layers import LayerNorm, SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import ResPostBlock, VisionTransformer


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

    dinov2 = {"layer_scale": True, "mlp_gated": True, "mlp_activation": "silu"}
    case(
        "timm-dinov2-swiglu",
        token | dinov2,
        init_values=0.5,
        mlp_ratio=3,
        mlp_layer=SwiGLUPacked,
        act_layer=torch.nn.SiLU,
    )
    case(
        "timm-rpn",
        {"pooling": "gap", "fc_norm": True, "qkv_bias": False, "post_norm": True},
        {"post_norm": True},
        global_pool="avg",
        class_token=False,
        qkv_bias=False,
        block_fn=ResPostBlock,
    )
    make_eva(case)

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


def make_eva(case):
    """The families of its class `Eva`, with the arguments of their models."""
    fine = partial(LayerNorm, eps=1e-5)
    rotary = {"rotary": "dinov3", "positions": "none", "norm_epsilon": 1e-5}
    rotary |= {"pooling": "gap"}
    case(
        "timm-dinov3",
        {"layer_scale": True, "num_register_tokens": 4, "class_token": True}
        | {"image_size": [16, 8], "key_bias": False}
        | rotary,
        rotary | {"image_size": [16, 8]},
        cls=Eva,
        size=(16, 8),
        img_size=(16, 8),
        dynamic_img_size=True,
        init_values=0.5,
        num_reg_tokens=4,
        use_abs_pos_emb=False,
        use_rot_pos_emb=True,
        rope_type="dinov3",
        rope_temperature=100,
        rope_rotate_half=True,
        use_fc_norm=False,
        norm_layer=fine,
    )
    # Another reference than the 4 x 4 patches, to which nothing is rescaled.
    rotary = {"rotary": "eva02", "rotary_grid": [3, 3]}
    case(
        "timm-eva02",
        {"pooling": "gap", "fc_norm": True, "class_token": True, "key_bias": False}
        | {"mlp_gated": True, "mlp_activation": "silu", "mlp_norm": True}
        | {"attention_norm": True}
        | rotary,
        rotary,
        cls=Eva,
        qkv_fused=False,
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(3, 3),
    )
    rotary = {"rotary": "pe", "rotary_grid": [3, 3], "norm_epsilon": 1e-5}
    rotary |= {"pooling": "map", "pool_heads": 4, "pool_prefix": True}
    case(
        "timm-pe",
        {"class_token": True, "pre_norm": True} | rotary,
        rotary,
        cls=Eva,
        global_pool="map",
        attn_type="rope",
        use_pre_transformer_norm=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(3, 3),
        rope_grid_offset=1.0,
        rope_grid_indexing="xy",
        attn_pool_num_heads=4,
        attn_pool_mlp_ratio=1.5,
        norm_layer=fine,
    )

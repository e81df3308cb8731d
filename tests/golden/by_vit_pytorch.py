"""Golden checkpoints of lucidrains/vit-pytorch."""

import torch
from common import SIZES, Maker, images, version
from pytorch import fill, run
from vit_pytorch.vit import ViT


def make_vit_pytorch(args):
    make = Maker("vit_pytorch", version("vit-pytorch"))
    always = {"patch_norm": True, "qkv_bias": False, "norm_epsilon": 1e-5}

    def case(name, config, needs=None, dim_head=4, **options):
        model = ViT(
            image_size=16,
            patch_size=4,
            num_classes=5,
            dim=8,
            depth=2,
            heads=2,
            mlp_dim=12,
            dim_head=dim_head,
            **options,
        )
        torch.save(fill(model).state_dict(), make.folder(name) / "model.pth")
        x, needs = images(), {"num_heads": 2} | (needs or {})
        make.add(name, "model.pth", x, run(model, x), SIZES | always | config, needs)

    case("vp-cls", {"pooling": "token"})
    case("vp-mean", {"pooling": "gap", "class_token": False}, pool="mean")
    case("vp-headdim", {"pooling": "token", "head_dim": 7}, dim_head=7)
    return make.rows

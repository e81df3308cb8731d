"""Golden checkpoints of models with outputs at each pixel.

transformers' DPT, Depth Anything and EoMT; Segmenter by its own code; DINOv2 by timm,
its head written out: `BNHead` in mmsegmentation is a batch norm and a convolution.
"""

import sys

import numpy as np
import torch
import transformers as hf
from common import Maker, images, version
from pytorch import fill, run
from safetensors.torch import save_file

NECK = {"neck_hidden_sizes": [3, 4, 5, 6], "fusion_hidden_size": 8}
SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "attn_implementation": "eager",
}
NAMES = {"id2label": {i: name for i, name in enumerate(("sky", "road", "pole"))}}


def filled(module):
    """Draw weights small enough for many layers, and variances above 0."""
    module = fill(module)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.ndim > 1:
                tensor *= 0.5
            elif name.endswith("running_var"):
                tensor.abs_().add_(0.5)
            elif name.endswith("attn_mask_probs"):
                tensor.zero_()
    return module


def make_decoders(args):
    make = Maker("huggingface_dpt", version("transformers"))

    def case(name, layout, outputs, size, config, **more):
        outputs = outputs.numpy()
        outputs = (
            outputs[..., None] if outputs.ndim == 3 else np.moveaxis(outputs, 1, 3)
        )
        make.add(name, ".", images(*size), outputs, config, layout=layout)
        make.rows[-1] |= more

    def saved(name, module):
        module = filled(module)
        module.save_pretrained(make.folder(name))
        return module

    dpt = {**SIZES, **NECK, "image_size": 32, "patch_size": 16, "intermediate_size": 12}
    dpt["backbone_out_indices"] = [0, 1, 2, 3]
    ours = {"decoder": "dpt", "decoder_width": 8, "decoder_channels": [3, 4, 5, 6]}
    x = images(32, 32)
    model = saved(
        "hf-dpt-segment", hf.DPTForSemanticSegmentation(hf.DPTConfig(**dpt, **NAMES))
    )
    config = {**ours, "readout": "project", "tap_norm": False, "taps": [0, 1, 2, 3]}
    case(
        *("hf-dpt-segment", "huggingface_dpt", run(model, x).logits, (32, 32)),
        {**config, "head": "segmentation", "labels": ["sky", "road", "pole"]},
    )
    model = saved(
        "hf-dpt-depth",
        hf.DPTForDepthEstimation(hf.DPTConfig(**dpt, readout_type="ignore")),
    )
    config |= {"readout": None, "head": "depth", "activation": "relu"}
    depth = run(model, x).predicted_depth
    case("hf-dpt-depth", "huggingface_dpt", depth, (32, 32), config)

    backbone = hf.Dinov2Config(
        **SIZES,
        image_size=16,
        patch_size=4,
        mlp_ratio=2,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    x = images(16, 16)
    for name, kind, largest in (("", "relative", 1), ("-metric", "metric", 20)):
        name = f"hf-depth-anything{name}"
        options = {"depth_estimation_type": kind, "max_depth": largest, "patch_size": 4}
        model = saved(
            name,
            hf.DepthAnythingForDepthEstimation(
                hf.DepthAnythingConfig(
                    backbone_config=backbone,
                    reassemble_hidden_size=8,
                    **NECK,
                    **options,
                )
            ),
        )
        config = {**ours, "head": "depth", "taps": [0, 1, 2, 3], "labels": None}
        config["activation"] = "relu" if largest == 1 else "sigmoid"
        config["max_depth"] = None if largest == 1 else 20.0
        depth = run(model, x).predicted_depth
        case(name, "huggingface_depth_anything", depth, (16, 16), config)

    config = hf.EomtConfig(
        **SIZES,
        **NAMES,
        image_size=32,
        patch_size=16,
        mlp_ratio=2,
        num_queries=6,
        num_blocks=2,
        num_register_tokens=3,
    )
    model = saved("hf-eomt", hf.EomtForUniversalSegmentation(config))
    found = run(model, images(32, 32))
    # As `post_process_semantic_segmentation` has them, before it resizes them.
    classes = found.class_queries_logits.softmax(dim=-1)[..., :-1]
    masks = found.masks_queries_logits.sigmoid()
    scores = torch.einsum("bqc, bqhw -> bchw", classes, masks)
    case(
        *("hf-eomt", "huggingface_eomt", torch.log(scores + 1e-6), (32, 32)),
        {
            **{"decoder": "eomt", "decoder_queries": 6, "decoder_depth": 2},
            **{"head": "segmentation", "labels": ["sky", "road", "pole"]},
        },
        compared="decoder_logits",
    )

    make.package = "rstrudel/segmenter@20d1bfad354165ee45c3f65972a4d9c131f58d53"
    for name, module in segmenters(args.segmenter).items():
        module = filled(module)
        torch.save({"model": module.state_dict()}, make.folder(name) / "checkpoint.pth")
        decoder = name.removeprefix("segmenter-")
        config = {"decoder": decoder, "head": "segmentation", "classes": 3}
        config |= {"norm_epsilon": 1e-5}
        case(
            *(name, "segmenter", run(module, images(16, 16)), (16, 16), config),
            needs={"num_heads": 2},
        )
        make.rows[-1]["file"] = "checkpoint.pth"
    dinov2_head(make, case)
    return make.rows


def segmenters(folder):
    sys.path.insert(0, str(folder))
    from segm.model.decoder import DecoderLinear, MaskTransformer
    from segm.model.segmenter import Segmenter
    from segm.model.vit import VisionTransformer

    def encoder():
        return VisionTransformer((16, 16), 4, 2, 8, 12, 2, n_cls=3)

    mask = MaskTransformer(3, 4, 8, 2, 3, 12, 48, 0.0, 0.0)
    return {
        "segmenter-linear": Segmenter(encoder(), DecoderLinear(3, 4, 8), n_cls=3),
        "segmenter-mask": Segmenter(encoder(), mask, n_cls=3),
    }


def dinov2_head(make, case):
    import timm

    make.package = version("timm")
    name = "dinov2-head"
    folder = make.folder(name)
    backbone = filled(
        timm.create_model(
            *("vit_tiny_patch16_224",),
            **{"img_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 5},
            **{"num_heads": 2, "mlp_ratio": 1.5, "num_classes": 0, "init_values": 0.5},
        )
    )
    head = torch.nn.ModuleDict(
        {"bn": torch.nn.BatchNorm2d(32), "conv_seg": torch.nn.Conv2d(32, 3, 1)}
    )
    head = filled(torch.nn.ModuleDict({"decode_head": head}))
    save_file(backbone.state_dict(), folder / "backbone.safetensors")
    torch.save({"meta": {}, "state_dict": head.state_dict()}, folder / "head.pth")
    x = torch.from_numpy(images(16, 16).transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        maps = backbone.get_intermediate_layers(x, 4, reshape=True, norm=True)
        logits = torch.cat(maps, dim=1)
        for layer in head["decode_head"].values():
            logits = layer(logits)
        logits = torch.nn.functional.interpolate(logits, (16, 16), mode="bilinear")
    config = {"decoder": "linear", "taps": [1, 2, 3, 4], "head": "segmentation"}
    case(
        *(name, "dinov2_heads", logits, (16, 16), {**config, "classes": 3}),
        needs={"num_heads": 2},
        decoder_weights="head.pth",
    )
    make.rows[-1]["file"] = "backbone.safetensors"

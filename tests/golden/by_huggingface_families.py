"""Golden checkpoints of transformers: DINOv3, SigLIP, CLIP, and DINOv2 with gates."""

import json

import torch
import transformers as hf
from common import FEATURES, IMAGENET_MEAN, IMAGENET_STD, SIZES, Maker, images, version
from pytorch import fill, run

VISION = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
}
# The other tower, which is not ours: as small as it can be.
TEXT = {
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 4,
    "vocab_size": 8,
    "max_position_embeddings": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
DINOV3 = {
    "class_token": True,
    "layer_scale": True,
    "norm_epsilon": 1e-5,
    "num_register_tokens": 3,
    "pooling": "token",
    "positions": "none",
    "rotary": "dinov3",
}
SIGLIP = {"mlp_activation": "gelu_tanh", "norm_epsilon": 1e-6}
CLIP = {
    "mlp_activation": "quick_gelu",
    "norm_epsilon": 1e-5,
    "pooling": "token",
    "pre_norm": True,
    "representation_activation": "linear",
}
# As the published files of each family have it.
SQUARE = {
    "do_rescale": True,
    "do_resize": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "size": {"height": 16, "width": 16},
}
IMAGENET = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD, "resample": 2}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
FAST = SQUARE | IMAGENET | {"image_processor_type": "DINOv3ViTImageProcessorFast"}
SIGLIP_IMAGES = SQUARE | HALF
SIGLIP_IMAGES |= {"image_processor_type": "SiglipImageProcessor", "resample": 3}
NAFLEX_IMAGES = {k: v for k, v in SQUARE.items() if k != "size"} | HALF
NAFLEX_IMAGES |= {"image_processor_type": "Siglip2ImageProcessor", "resample": 2}
NAFLEX_IMAGES |= {"max_num_patches": 16, "patch_size": 4}
CLIP_IMAGES = SQUARE | {
    "crop_size": {"height": 16, "width": 16},
    "do_center_crop": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "CLIPImageProcessor",
    "resample": 3,
    "size": {"shortest_edge": 16},
}


def tokens(module, x):
    return run(module, x).last_hidden_state


def pooled(module, x):
    return run(module, x).pooler_output


def logits(module, x):
    return run(module, x).logits


def projected(module, x):
    """The image embedding of a CLIPModel, before it is divided by its length."""
    with torch.inference_mode():
        return module.visual_projection(run(module.vision_model, x).pooler_output)


def flat_patches(module, x):
    """What NaFlex computes for images that fill their shape."""
    images, height, width, channels = x.shape
    rows, columns, p = height // 4, width // 4, 4
    flat = x.reshape(images, rows, p, columns, p, channels).transpose(0, 1, 3, 2, 4, 5)
    flat = torch.from_numpy(flat.reshape(images, rows * columns, -1).copy())
    with torch.inference_mode():
        return module(
            flat,
            pixel_attention_mask=torch.ones(images, rows * columns),
            spatial_shapes=torch.tensor([[rows, columns]] * images),
        ).pooler_output


def make_families(args):
    make = Maker("huggingface_dinov3", version("transformers"))

    def case(name, model, config, preprocessing, outputs, layout):
        model = fill(model)
        folder = make.folder(name)
        model.save_pretrained(folder)
        text = json.dumps(preprocessing, indent=2, sort_keys=True)
        (folder / "preprocessor_config.json").write_text(text + "\n")
        x = images()
        found = outputs(model, x)
        make.add(name, ".", x, found, config, layout=f"huggingface_{layout}")

    def dinov3(**options):
        return hf.DINOv3ViTModel(
            hf.DINOv3ViTConfig(num_register_tokens=3, **VISION | options)
        )

    case(
        "hf-dinov3",
        dinov3(),
        FEATURES | DINOV3 | {"mlp_activation": "gelu", "key_bias": False},
        FAST,
        tokens,
        "dinov3",
    )
    case(
        "hf-dinov3-gated",  # as the largest one: no biases, gates
        dinov3(
            use_gated_mlp=True,
            hidden_act="silu",
            query_bias=False,
            value_bias=False,
            rope_theta=50.0,
        ),
        FEATURES
        | DINOV3
        | {
            "mlp_activation": "silu",
            "mlp_gated": True,
            "qkv_bias": False,
            "rotary_temperature": 50.0,
        },
        FAST,
        tokens,
        "dinov3",
    )
    siglip = hf.SiglipConfig(vision_config=VISION, text_config=TEXT, num_labels=5)
    case(
        "hf-siglip",
        hf.SiglipModel(siglip),
        FEATURES | SIGLIP | {"pooling": "map"},
        SIGLIP_IMAGES,
        lambda module, x: pooled(module.vision_model, x),
        "siglip",
    )
    case(
        "hf-siglip-classifier",
        hf.SiglipForImageClassification(siglip),
        SIZES | SIGLIP | {"pooling": "gap"},
        SIGLIP_IMAGES,
        logits,
        "siglip",
    )
    flat = {k: v for k, v in VISION.items() if k != "image_size"}
    case(
        "hf-siglip2-naflex",
        hf.Siglip2VisionModel(hf.Siglip2VisionConfig(num_patches=16, **flat)),
        FEATURES | SIGLIP | {"pooling": "map"},
        NAFLEX_IMAGES,
        flat_patches,
        "siglip2",
    )
    clip = VISION | {"projection_dim": 6}
    case(
        "hf-clip",
        hf.CLIPModel(
            hf.CLIPConfig(vision_config=clip, text_config=TEXT, projection_dim=6)
        ),
        FEATURES | CLIP | {"representation_size": 6},
        CLIP_IMAGES,
        projected,
        "clip",
    )
    gated = {k: v for k, v in VISION.items() if k != "intermediate_size"}
    case(
        "hf-dinov2-gated",
        hf.Dinov2Model(hf.Dinov2Config(mlp_ratio=3, use_swiglu_ffn=True, **gated)),
        FEATURES
        | {
            "class_token": True,
            "layer_scale": True,
            "mlp_activation": "silu",
            "mlp_dim": 16,
            "mlp_gated": True,
            "pooling": "token",
        },
        SQUARE | IMAGENET | {"image_processor_type": "BitImageProcessor"},
        tokens,
        "dinov2",
    )
    return make.rows

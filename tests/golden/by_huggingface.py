"""Golden checkpoints of Hugging Face transformers: ViT, DeiT and DINOv2."""

import json

import torch
import transformers as hf
from common import FEATURES, IMAGENET_MEAN, IMAGENET_STD, SIZES, Maker, images, version
from pytorch import fill, run


def make_huggingface(args):
    make = Maker("huggingface_vit", version("transformers"))
    sizes = {
        "image_size": 16,
        "patch_size": 4,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "attn_implementation": "eager",
    }
    # `mlp_ratio` is an integer there.
    dinov2 = sizes | {"mlp_ratio": 2, "layerscale_value": 0.5}
    sizes["intermediate_size"] = 12
    vit = {"pooling": "token", "norm_epsilon": 1e-12}

    def processor(kind, size, **more):
        return {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_processor_type": kind,
            "rescale_factor": 1 / 255,
            "size": size,
        } | more

    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    crop = {
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "resample": 3,
        "do_center_crop": True,
    }
    # As the published files of each family are; DeiT's are of the old form.
    square = processor("ViTImageProcessor", {"height": 16, "width": 16}, **half)
    old = {
        "crop_size": 16,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "DeiTFeatureExtractor",
        "size": 18,
    } | crop
    shortest = processor(
        "BitImageProcessor",
        {"shortest_edge": 18},
        crop_size={"height": 16, "width": 16},
        do_convert_rgb=True,
        **crop,
    )

    def case(
        name,
        model,
        config,
        preprocessing=square,
        output="logits",
        dtype=torch.float32,
        size=(16, 16),
        layout=None,
        **save,
    ):
        model = fill(model).to(dtype)
        folder = make.folder(name)
        model.save_pretrained(folder, **save)
        text = json.dumps(preprocessing, indent=2, sort_keys=True)
        (folder / "preprocessor_config.json").write_text(text + "\n")
        x = images(*size)
        outputs = getattr(run(model.float(), x), output)
        make.add(name, ".", x, outputs, config, layout=layout)

    def classifier(**options):
        return hf.ViTForImageClassification(
            hf.ViTConfig(num_labels=5, **sizes | options)
        )

    case("hf-vit", classifier(), SIZES | vit)
    case("hf-sharded", classifier(), SIZES | vit, max_shard_size="3KB")
    case("hf-bf16", classifier(), SIZES | vit, dtype=torch.bfloat16)
    case(
        "hf-rect",
        classifier(image_size=(16, 8)),
        SIZES | vit | {"image_size": [16, 8]},
        square | {"size": {"height": 16, "width": 8}},
        size=(16, 8),
    )
    case(
        "hf-vit-base",
        hf.ViTModel(hf.ViTConfig(**sizes)),
        FEATURES | vit | {"representation_size": 8},
        output="pooler_output",
    )
    case(
        "hf-deit",
        hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(num_labels=5, **sizes)),
        SIZES | vit | {"distillation_token": True},
        old,
        layout="huggingface_deit",
    )
    tokens = {
        "pooling": "token",
        "class_token": True,
        "layer_scale": True,
        "mlp_dim": 16,
    }
    case(
        "hf-dinov2",
        hf.Dinov2Model(hf.Dinov2Config(**dinov2)),
        FEATURES | tokens,
        shortest,
        output="last_hidden_state",
        layout="huggingface_dinov2",
    )
    case(
        "hf-dinov2-registers",
        hf.Dinov2WithRegistersModel(
            hf.Dinov2WithRegistersConfig(num_register_tokens=3, **dinov2)
        ),
        # The class token has a position, the registers have none: added to the class
        # token, it is a model without positions for the prefix.
        FEATURES | tokens | {"num_register_tokens": 3, "position_prefix": False},
        shortest,
        output="last_hidden_state",
        layout="huggingface_dinov2",
    )
    return make.rows

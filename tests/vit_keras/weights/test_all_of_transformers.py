"""Whatever is loaded from transformers computes as there, or is refused."""

import numpy as np
import pytest

import vit_keras
from tests.models import run, slow_but
from tests.vit_keras.weights.against_timm import TOLERANCE, filled
from tests.vit_keras.weights.compared import PATCH, flat_patches, images, run_torch
from vit_keras import CheckpointError

SIZES = {
    "image_size": 24,
    "patch_size": PATCH,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
}
PLAIN = {**SIZES, "intermediate_size": 40}
DINO = {**SIZES, "mlp_ratio": 2}
# {family: (configuration, its arguments, classes of models, whether they are loaded)}
FAMILIES = {
    "vit": ("ViTConfig", PLAIN, ("ViTModel", "ViTForImageClassification"), True),
    "vit-pictures": ("ViTConfig", PLAIN, ("ViTForMaskedImageModeling",), False),
    "deit": (
        "DeiTConfig",
        PLAIN,
        (
            "DeiTModel",
            "DeiTForImageClassification",
            "DeiTForImageClassificationWithTeacher",
        ),
        True,
    ),
    "msn": (
        "ViTMSNConfig",
        PLAIN,
        ("ViTMSNModel", "ViTMSNForImageClassification"),
        True,
    ),
    "mae": ("ViTMAEConfig", PLAIN, ("ViTMAEModel", "ViTMAEForPreTraining"), True),
    "ijepa": (
        "IJepaConfig",
        PLAIN,
        ("IJepaModel", "IJepaForImageClassification"),
        True,
    ),
    "dinov2": ("Dinov2Config", DINO, ("Dinov2Model",), True),
    "dinov2-classes": ("Dinov2Config", DINO, ("Dinov2ForImageClassification",), False),
    "registers": (
        "Dinov2WithRegistersConfig",
        DINO,
        ("Dinov2WithRegistersModel",),
        True,
    ),
    "registers-classes": (
        "Dinov2WithRegistersConfig",
        DINO,
        ("Dinov2WithRegistersForImageClassification",),
        False,
    ),
    "dinov3": ("DINOv3ViTConfig", PLAIN, ("DINOv3ViTModel",), True),
    "siglip": ("SiglipVisionConfig", PLAIN, ("SiglipVisionModel",), True),
    "siglip2": (
        "Siglip2VisionConfig",
        {**PLAIN, "num_patches": 9},
        ("Siglip2VisionModel",),
        True,
    ),
    "clip": (
        "CLIPVisionConfig",
        PLAIN,
        ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
        True,
    ),
    "beit": ("BeitConfig", PLAIN, ("BeitModel", "BeitForImageClassification"), False),
}
# Settings, for the families that have them, and whether their models are loaded then.
CHANGES = {
    "plain": ({}, True),
    "GELU": ({"hidden_act": "gelu"}, True),
    "quick_gelu": ({"hidden_act": "quick_gelu"}, True),
    "tanh GELU": ({"hidden_act": "gelu_pytorch_tanh"}, True),
    "relu": ({"hidden_act": "relu"}, True),
    "silu": ({"hidden_act": "silu"}, True),
    "mish": ({"hidden_act": "mish"}, False),
    "epsilon": ({"layer_norm_eps": 1e-3}, True),
    "no bias": ({"qkv_bias": False}, True),
    "grey": ({"num_channels": 1}, True),
    "relu pooler": ({"pooler_act": "relu"}, False),
    # It computes SiLU there, whatever `hidden_act` says.
    "SwiGLU": ({"use_swiglu_ffn": True, "hidden_act": "relu"}, True),
    "gates": ({"use_gated_mlp": True, "hidden_act": "silu"}, True),
    "gates of ReLU": ({"use_gated_mlp": True, "hidden_act": "relu"}, True),
    "no query bias": ({"query_bias": False}, True),
    "key bias": ({"key_bias": True}, True),
    "no other bias": (
        {"value_bias": False, "proj_bias": False, "mlp_bias": False},
        True,
    ),
    "two registers": ({"num_register_tokens": 2}, True),
    "rotary base": ({"rope_theta": 30.0}, True),
    "training alone": ({"pos_embed_shift": 0.5, "pos_embed_jitter": 2.0}, True),
    "no pooling": ({"vision_use_head": False}, True),
    "more patches": ({"num_patches": 16}, True),
    "narrow": ({"projection_dim": 10}, True),
    "half hidden": ({"mask_ratio": 0.5}, True),  # ours sees all patches
    "oblong": ({"image_size": [24, 40]}, True),
}
# transformers has no oblong models of these.
SQUARE = ("mae", "dinov2", "registers", "siglip", "clip")
CASES = [(family, name) for family, row in FAMILIES.items() for name in row[2]]
# The last of a family has the head that most people use; `make test` takes those that
# are quick, `make test-all` every one.
FIRST = [(family, row[2][-1]) for family, row in FAMILIES.items() if family != "mae"]


def made(hf, family, name, changed):
    """A small model with drawn weights, or None without such a setting."""
    config_class = getattr(hf, FAMILIES[family][0])
    known = config_class().to_dict()
    if not changed.keys() <= known.keys():
        return None
    arguments = {k: v for k, v in FAMILIES[family][1].items() if k in known}
    arguments["attn_implementation"] = "eager"
    config = config_class(**{**arguments, **changed, "num_labels": 7})
    return filled(getattr(hf, name)(config))


def outputs_of(module, family, x):
    """What ours gives: logits, the pooler's vector, or that of the tokens."""
    import torch

    if family == "mae":  # all patches, in the order of the noise
        module, count = getattr(module, "vit", module), x[0, ::PATCH, ::PATCH, 0].size
        module.config.mask_ratio = 0.0
        noise = torch.arange(count).repeat(len(x), 1) / count
        outputs = run_torch(module, x, noise=noise)
    elif family == "siglip2":
        patches, options = flat_patches(x)
        with torch.inference_mode():
            outputs = module(patches, **options)
    else:
        outputs = run_torch(module, x)
    if "image_embeds" in outputs:
        return outputs.image_embeds.numpy()
    if "logits" in outputs:
        return outputs.logits.numpy()
    if outputs.get("pooler_output") is not None:
        return outputs.pooler_output.numpy()
    tokens = outputs.last_hidden_state.numpy()
    # Without a class token, ours is the mean.
    without = family in ("ijepa", "siglip", "siglip2")
    return tokens.mean(1) if without else tokens[:, 0]


@pytest.mark.parametrize(("family", "name"), slow_but(FIRST, CASES))
def test_equal_or_refused(hf, family, name, tmp_path):
    for change, (changed, understood) in CHANGES.items():
        understood &= FAMILIES[family][3]
        if change != "plain" and not FAMILIES[family][3]:
            break  # refused as it is
        if change == "oblong" and family in SQUARE:
            continue
        module = made(hf, family, name, changed)
        if module is None:
            continue
        folder = tmp_path / change
        module.save_pretrained(folder)
        if not understood:
            with pytest.raises(CheckpointError):
                vit_keras.from_checkpoint(folder)
            continue
        given = {}
        if change == "grey":
            given["preprocessing"] = vit_keras.Preprocessing(mean=(0.5,), std=(0.5,))
        ours = vit_keras.from_checkpoint(folder, **given)
        x = images(*ours.config.image_size, ours.config.channels)
        expected = outputs_of(module, family, x)
        error = np.abs(run(ours, x) - expected).max() / np.abs(expected).max()
        assert error < TOLERANCE, change

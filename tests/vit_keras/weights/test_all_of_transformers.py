"""Whatever is loaded from transformers computes as there, or is refused."""

import numpy as np
import pytest

import vit_keras
from tests.models import run
from tests.vit_keras.weights.against_timm import TOLERANCE, filled
from tests.vit_keras.weights.compared import images, run_torch
from vit_keras import CheckpointError

SIZES = {
    "image_size": 24,
    "patch_size": 8,
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
    "mae-pictures": ("ViTMAEConfig", PLAIN, ("ViTMAEForPreTraining",), False),
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
    "dinov3": ("DINOv3ViTConfig", PLAIN, ("DINOv3ViTModel",), False),
    "siglip": (
        "SiglipVisionConfig",
        PLAIN,
        ("SiglipVisionModel",),
        False,
    ),
    "siglip2": ("Siglip2VisionConfig", PLAIN, ("Siglip2VisionModel",), False),
    "clip": (
        "CLIPVisionConfig",
        PLAIN,
        ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
        False,
    ),
    "beit": ("BeitConfig", PLAIN, ("BeitModel", "BeitForImageClassification"), False),
}
# Settings, for the families that have them, and whether their models are loaded then.
CHANGES = {
    "plain": ({}, True),
    "quick_gelu": ({"hidden_act": "quick_gelu"}, True),
    "tanh GELU": ({"hidden_act": "gelu_pytorch_tanh"}, True),
    "relu": ({"hidden_act": "relu"}, True),
    "silu": ({"hidden_act": "silu"}, True),
    "mish": ({"hidden_act": "mish"}, False),
    "epsilon": ({"layer_norm_eps": 1e-3}, True),
    "no bias": ({"qkv_bias": False}, True),
    "grey": ({"num_channels": 1}, True),
    "relu pooler": ({"pooler_act": "relu"}, False),
    "SwiGLU": ({"use_swiglu_ffn": True}, False),
    "oblong": ({"image_size": [24, 40]}, True),
}
SQUARE = ("dinov2", "registers")  # transformers has no oblong models of these
CASES = [(family, name) for family, row in FAMILIES.items() for name in row[2]]


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
    outputs = run_torch(module, x)
    if "logits" in outputs:
        return outputs.logits.numpy()
    if outputs.get("pooler_output") is not None:
        return outputs.pooler_output.numpy()
    tokens = outputs.last_hidden_state.numpy()
    return tokens.mean(1) if family == "ijepa" else tokens[:, 0]


@pytest.mark.parametrize(("family", "name"), CASES)
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

"""The real packages load what `save_checkpoint` writes, and compute the same."""

import keras
import numpy as np
import pytest

import vit_keras
from tests.models import randomise, run, tiny
from tests.vit_keras.weights.compared import (
    NOT_OURS,
    SIZES,
    close,
    fill,
    images,
    model_of,
    run_torch,
    written,
)
from vit_keras import create_model

DINOV3 = {
    "include_top": False,
    "layer_scale_init_value": 1.0,
    "positions": "none",
    "rotary": "dinov3",
}
GREY = {"channels": 1, "preprocessing": {"mean": [0.4], "std": [0.3]}}
HF_MODELS = {
    "vit": (tiny(**SIZES), "ViTForImageClassification"),
    "vit-base": (
        tiny(**SIZES, include_top=False, representation_size=16),
        "ViTModel",
    ),
    "vit-tanh": (
        tiny(**SIZES, mlp_activation="gelu_tanh", qkv_bias=False),
        "ViTForImageClassification",
    ),
    "vit-rectangle": (
        tiny(image_size=(32, 16), patch_size=(8, 4)),
        "ViTForImageClassification",
    ),
    "vit-grey": (tiny(**SIZES, **GREY), "ViTForImageClassification"),
    "vit-no-positions": (
        tiny(**SIZES, position_prefix=False, norm_epsilon=1e-3),
        "ViTForImageClassification",
    ),
    "deit": (
        tiny(**SIZES, distillation_token=True),
        "DeiTForImageClassificationWithTeacher",
    ),
    "deit-base": (
        tiny(
            **SIZES,
            distillation_token=True,
            include_top=False,
            representation_size=16,
            position_prefix=False,
        ),
        "DeiTModel",
    ),
    "dinov2": (
        tiny(**SIZES, mlp_dim=32, include_top=False, layer_scale_init_value=0.5),
        "Dinov2Model",
    ),
    "dinov3": (
        tiny(**SIZES, **DINOV3, key_bias=False, norm_epsilon=1e-5),
        "DINOv3ViTModel",
    ),
    "dinov3-gated": (
        tiny(
            **SIZES,
            **DINOV3,
            qkv_bias=False,
            mlp_gated=True,
            mlp_activation="silu",
            num_register_tokens=3,
            rotary_temperature=30.0,
        ),
        "DINOv3ViTModel",
    ),
    "dinov3-rectangle": (
        tiny(image_size=(32, 16), patch_size=(8, 4), **DINOV3),
        "DINOv3ViTModel",
    ),
    "siglip": (
        tiny(**SIZES, pooling="map", include_top=False, mlp_activation="gelu_tanh"),
        "SiglipVisionModel",
    ),
    "siglip-no-head": (
        tiny(**SIZES, pooling=None, include_top=False),
        "SiglipVisionModel",
    ),
    "clip": (
        tiny(**SIZES, pre_norm=True, include_top=False, mlp_activation="quick_gelu"),
        "CLIPVisionModel",
    ),
    "dinov2-registers": (
        tiny(
            **SIZES,
            mlp_dim=48,
            include_top=False,
            layer_scale_init_value=0.5,
            num_register_tokens=3,
        ),
        "Dinov2WithRegistersModel",
    ),
}


def from_pretrained(cls, folder, empty=frozenset()):
    """Loads strictly: nothing may be missing, left over or of another shape."""
    module, info = cls.from_pretrained(folder, output_loading_info=True)
    wrong = ("missing_keys", "unexpected_keys", "mismatched_keys")
    found = {key: info[key] for key in wrong if info.get(key)}
    # Not of the network: masking in pre-training only.
    missing = set(found.get("missing_keys", ())) - NOT_OURS - empty
    assert not missing and set(found) <= {"missing_keys"}, found
    return module


@pytest.mark.parametrize("name", HF_MODELS)
def test_transformers_loads_it(name, hf, tmp_path):
    config, cls = HF_MODELS[name]
    model = model_of(config)
    folder = vit_keras.save_checkpoint(model, tmp_path / "model", "huggingface")
    auto = hf.AutoModelForImageClassification if config.include_top else hf.AutoModel
    # Without registers DINOv3 has an empty array of them.
    empty = set() if config.num_register_tokens else {"embeddings.register_tokens"}
    module = from_pretrained(auto, folder, empty)
    assert type(module).__name__ == cls
    x = images(*config.image_size, config.channels)
    outputs = run_torch(module, x)
    if config.include_top:
        close(run(model, x), outputs.logits)
        return
    # CLIP's tokens are those before its last norm.
    last = f"encoderblock_{config.num_layers - 1}" if name == "clip" else "encoder_norm"
    tokens = keras.Model(model.input, model.get_layer(last).output)
    close(run(tokens, x), outputs.last_hidden_state)
    if config.representation_size or name in ("siglip", "clip", "dinov3"):
        close(run(model, x), outputs.pooler_output)


def test_transformers_loads_a_projection(hf, tmp_path):
    config = HF_MODELS["clip"][0].replace(
        representation_size=6, representation_activation="linear"
    )
    model = model_of(config)
    bias = model.get_layer("pre_logits").bias
    bias.assign(np.zeros(bias.shape))
    folder = vit_keras.save_checkpoint(model, tmp_path / "model", "huggingface")
    module = from_pretrained(hf.CLIPVisionModelWithProjection, folder)
    close(run(model, images()), run_torch(module, images()).image_embeds)


def test_features_of_siglip_have_no_head(hf, tmp_path):
    config = HF_MODELS["siglip"][0]
    model = randomise(create_model(config, task="features"))
    folder = vit_keras.save_checkpoint(model, tmp_path / "model", "huggingface")
    module = from_pretrained(hf.AutoModel, folder)
    outputs = run_torch(module, images())
    close(run(model, images()), outputs.last_hidden_state)
    assert outputs.pooler_output is None


def test_transformers_reads_our_preprocessing(hf, tmp_path):
    from PIL import Image

    prep = {
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.3, 0.25),
        "interpolation": "bicubic",
    }
    config = tiny(**SIZES, preprocessing=prep)
    folder = vit_keras.save_checkpoint(
        create_model(config), tmp_path / "m", "huggingface"
    )
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype("uint8")
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    theirs = np.asarray(processor(Image.fromarray(pixels))["pixel_values"][0])
    ours = (pixels / 255 - np.array(prep["mean"])) / np.array(prep["std"])
    np.testing.assert_allclose(theirs.transpose(1, 2, 0), ours, rtol=0, atol=1e-5)


TIMM_MODELS = {
    "token": {},
    "gap": {"pooling": "gap", "class_token": True},
    "gap-no-class": {"pooling": "gap"},
    "gap-fc-norm": {"pooling": "gap", "class_token": True, "fc_norm": True},
    "token-fc-norm": {"fc_norm": True},
    "map": {"pooling": "map"},
    "map-fc-norm": {"pooling": "map", "fc_norm": True},
    "registers": {"num_register_tokens": 3, "position_prefix": False},
    "registers-with-positions": {"num_register_tokens": 3},
    "layer-scale": {"layer_scale_init_value": 0.1},
    "distilled": {"distillation_token": True},
    "distilled-options": {
        "distillation_token": True,
        "layer_scale_init_value": 0.1,
        "qk_norm": True,
        "pre_norm": True,
        "qkv_bias": False,
    },
    "qk-norm": {"qk_norm": True},
    "pre-norm": {"pre_norm": True},
    "no-qkv-bias": {"qkv_bias": False},
    "rectangle": {"image_size": (32, 16), "patch_size": (8, 4)},
    "tanh": {"mlp_activation": "gelu_tanh"},
    "features": {"include_top": False},
    "grey": GREY,
    "odd-widths": {"hidden_size": 22, "mlp_dim": 15},  # int(22 * (15 / 22)) is 14
}


@pytest.mark.parametrize("name", TIMM_MODELS)
def test_timm_loads_it(name, timm, tmp_path):
    model = model_of(tiny(**SIZES | TIMM_MODELS[name]))
    folder = vit_keras.save_checkpoint(model, tmp_path / "model", "timm")
    module = timm.create_model(f"local-dir:{folder}", pretrained=True)  # strict
    x = images(*model.config.image_size, model.config.channels)
    close(run(model, x), run_torch(module, x))
    cfg = module.pretrained_cfg
    assert tuple(cfg["input_size"]) == (x.shape[-1], *x.shape[1:3])
    assert tuple(cfg["mean"]) == model.config.preprocessing.mean


def test_timm_returns_all_tokens(timm, tmp_path):
    config = tiny(**SIZES, pooling=None, include_top=False, class_token=True)
    model = model_of(config)
    folder = vit_keras.save_checkpoint(model, tmp_path / "model", "timm")
    module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    close(run(model, images()), run_torch(module, images()))


@pytest.mark.parametrize("pooling", ["token", "gap"])
def test_timm_loads_our_augreg_file(pooling, timm, tmp_path):
    model = model_of(tiny(**SIZES, pooling=pooling, mlp_activation="gelu_tanh"))
    path = vit_keras.save_checkpoint(model, tmp_path / "model.npz", "augreg")
    module = timm.models.VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        mlp_ratio=1.5,
        num_classes=5,
        act_layer="gelu_tanh",
        global_pool={"token": "token", "gap": "avg"}[pooling],
        class_token=pooling == "token",
        fc_norm=False,
    )
    fill(module)
    module.load_pretrained(str(path))
    close(run(model, images()), run_torch(module, images()))


def test_features_are_a_model_without_head(timm, tmp_path):
    """Their configuration still has the head that the model lacks."""
    model = randomise(create_model(tiny(**SIZES), task="features"))
    assert model.config.include_top
    folder = vit_keras.save_checkpoint(model, tmp_path / "timm", "timm")
    module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert module.num_classes == 0
    x = images()
    close(run(model, x)[:, 0], run_torch(module, x))
    folder = vit_keras.save_checkpoint(model, tmp_path / "hf", "huggingface")
    names = written(folder / "model.safetensors")
    assert "embeddings.cls_token" in names  # a bare ViTModel, without "vit."
    again = vit_keras.from_checkpoint(folder, task="features")
    np.testing.assert_array_equal(run(again, x), run(model, x))

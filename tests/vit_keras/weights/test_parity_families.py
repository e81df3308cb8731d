"""Random models of transformers' newer families, larger than the golden ones."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest

import vit_keras
from tests.models import covering, run
from tests.vit_keras.weights.compared import (
    PATCH,
    close,
    fill,
    flat_patches,
    images,
    run_torch,
)
from tests.vit_keras.weights.golden_files import (
    GOLDEN,
    arrays_of,
    file_of,
    golden,
    hf_folder,
    saved,
    sizes_of,
)
from vit_keras import PRESETS, CheckpointError, Preprocessing
from vit_keras.weights.axes import shapes_of
from vit_keras.weights.describe import describe
from vit_keras.weights.entries import Entry
from vit_keras.weights.formats import Checkpoint
from vit_keras.weights.recognise import recognise

SIZES = {
    "image_size": 32,
    "patch_size": PATCH,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
}
# The file's own size, a larger one, and a rectangle with fewer rows and more columns.
OTHER_SIZES = [(32, 32), (56, 56), (16, 48)]
FLAT = {k: v for k, v in SIZES.items() if k != "image_size"}
TEXT = {k: v for k, v in FLAT.items() if k != "patch_size"}
TEXT |= {"vocab_size": 10, "bos_token_id": 0, "eos_token_id": 1}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
GATED = {"use_gated_mlp": True, "hidden_act": "silu"}
BIASES = {f"{part}_bias": False for part in ("query", "value", "proj", "mlp")}
DINOV3 = {
    "plain": {},
    "gated": GATED | {"num_register_tokens": 2, "rope_theta": 30.0},
    "no-biases": GATED | BIASES,
    "no-biases-plain": BIASES,
    "key-bias-alone": {"key_bias": True, "query_bias": False, "value_bias": False},
    "no-query-bias": {"query_bias": False},
    "no-value-bias": {"value_bias": False, "hidden_act": "gelu_pytorch_tanh"},
}


def features(folder, size, module, x, **options):
    """Compare all tokens, and what the model gives without a head."""
    outputs = run_torch(module, x, **options)
    ours = vit_keras.from_checkpoint(folder, task="features", image_size=size)
    close(run(ours, x), outputs.last_hidden_state)
    if outputs.get("pooler_output") is not None:
        ours = vit_keras.from_checkpoint(folder, image_size=size)
        close(run(ours, x), outputs.pooler_output)


@pytest.mark.parametrize(("name", "size"), covering(DINOV3, OTHER_SIZES))
def test_dinov3(name, size, hf, tmp_path):
    module = fill(hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**SIZES | DINOV3[name])))
    module.save_pretrained(tmp_path)
    features(tmp_path, size, module, images(*size))


def test_a_bias_that_one_block_lacks_is_no_zero(tmp_path):
    arrays = arrays_of("hf-dinov3")
    del arrays["layer.1.attention.q_proj.bias"]
    with pytest.raises(CheckpointError, match=r"missing.*encoderblock_1.*query/bias"):
        vit_keras.from_checkpoint(saved(tmp_path, arrays), num_heads=2)


def siglip_config(hf, **options):
    return hf.SiglipConfig(vision_config=SIZES, text_config=TEXT, **options)


@pytest.mark.parametrize(
    ("name", "size"), covering(["tower", "whole", "classifier", "no-head"], OTHER_SIZES)
)
def test_siglip(name, size, hf, tmp_path):
    module = fill(
        {
            "tower": lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**SIZES)),
            "whole": lambda: hf.SiglipModel(siglip_config(hf)),
            "classifier": lambda: hf.SiglipForImageClassification(
                siglip_config(hf, num_labels=7)
            ),
            "no-head": lambda: hf.SiglipVisionModel(
                hf.SiglipVisionConfig(vision_use_head=False, **SIZES)
            ),
        }[name]()
    )
    module.save_pretrained(tmp_path)
    x, options = images(*size), {"interpolate_pos_encoding": True}
    if name == "classifier":
        ours = vit_keras.from_checkpoint(tmp_path, image_size=size)
        close(run(ours, x), run_torch(module, x, **options).logits)
        return
    tower = module.vision_model if name == "whole" else module
    features(tmp_path, size, tower, x, **options)


# 2 x 8 has as many patches as the positions' own 4 x 4, and is resized there.
@pytest.mark.parametrize(
    ("name", "size"),
    covering(["tower", "whole", "classifier"], [*OTHER_SIZES, (16, 64)]),
)
def test_siglip2_naflex(name, size, hf, tmp_path):
    import torch

    vision = FLAT | {"num_patches": 16}
    both = {"vision_config": vision, "text_config": TEXT}
    module = fill(
        {
            "tower": lambda: hf.Siglip2VisionModel(hf.Siglip2VisionConfig(**vision)),
            "whole": lambda: hf.Siglip2Model(hf.Siglip2Config(**both)),
            "classifier": lambda: hf.Siglip2ForImageClassification(
                hf.Siglip2Config(num_labels=7, **both)
            ),
        }[name]()
    )
    module.save_pretrained(tmp_path)
    x = images(*size)
    patches, options = flat_patches(x)
    tower = module.vision_model if name == "whole" else module
    with torch.inference_mode():
        outputs = tower(patches, **options)
    ours = vit_keras.from_checkpoint(tmp_path, image_size=size)
    if name == "classifier":
        close(run(ours, x), outputs.logits)
        return
    close(run(ours, x), outputs.pooler_output)
    ours = vit_keras.from_checkpoint(tmp_path, image_size=size, task="features")
    close(run(ours, x), outputs.last_hidden_state)


@pytest.mark.parametrize(
    ("name", "size"), covering(["tower", "projection", "whole"], OTHER_SIZES)
)
def test_clip(name, size, hf, tmp_path):
    import torch

    vision = SIZES | {"projection_dim": 10}
    module = fill(
        {
            "tower": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**vision)),
            "projection": lambda: hf.CLIPVisionModelWithProjection(
                hf.CLIPVisionConfig(hidden_act="gelu", **vision)
            ),
            "whole": lambda: hf.CLIPModel(
                hf.CLIPConfig(vision_config=vision, text_config=TEXT, projection_dim=10)
            ),
        }[name]()
    )
    module.save_pretrained(tmp_path)
    x = images(*size)
    tower = getattr(module, "vision_model", module)
    outputs = run_torch(tower, x, interpolate_pos_encoding=True)
    with torch.inference_mode():
        normed = tower.post_layernorm(outputs.last_hidden_state)
        pooled = outputs.pooler_output
        if name != "tower":
            pooled = module.visual_projection(pooled)
    ours = vit_keras.from_checkpoint(tmp_path, image_size=size)
    assert ours.config.mlp_activation == (
        "gelu" if name == "projection" else "quick_gelu"
    )
    close(run(ours, x), pooled)
    # Theirs are the tokens before the last norm, ours those behind it.
    ours = vit_keras.from_checkpoint(tmp_path, image_size=size, task="features")
    close(run(ours, x), normed)


def test_the_classifier_of_clip_is_refused_by_name(hf, tmp_path):
    config = hf.CLIPConfig(vision_config=SIZES, text_config=TEXT, num_labels=7)
    hf.CLIPForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="CLIPForImageClassification reads"):
        vit_keras.from_checkpoint(tmp_path)


@pytest.mark.parametrize("relative", [True, False])
def test_beit_is_refused_by_name(relative, hf, tmp_path):
    config = hf.BeitConfig(use_relative_position_bias=relative, **SIZES)
    hf.BeitModel(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="'beit': BEiT"):
        vit_keras.from_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use_relative_position_bias": True}, "bias_table, relative positions"),
        ({"use_shared_relative_position_bias": True}, "bias_table, relative positions"),
        ({"use_absolute_position_embeddings": True}, "lambda_1, the scales"),
    ],
)
@pytest.mark.parametrize("name", ["BeitModel", "BeitForImageClassification"])
def test_beit_is_refused_by_its_weights(name, options, words, hf, tmp_path):
    """Without settings, too, and not as the backbone of a decoder."""
    getattr(hf, name)(hf.BeitConfig(**SIZES, **options)).save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=words):
        vit_keras.from_checkpoint(tmp_path / "model.safetensors", num_heads=3)


@pytest.mark.parametrize(
    ("name", "size"), covering(["mae", "mae-pretrained", "ijepa", "msn"], OTHER_SIZES)
)
def test_encoders_with_the_names_of_vit(name, size, hf, tmp_path):
    import torch

    mae = {"mask_ratio": 0.0, "decoder_num_hidden_layers": 1, "decoder_hidden_size": 32}
    module = fill(
        {
            "mae": lambda: hf.ViTMAEModel(hf.ViTMAEConfig(**mae, **SIZES)),
            "mae-pretrained": lambda: hf.ViTMAEForPreTraining(
                hf.ViTMAEConfig(**mae, **SIZES)
            ),
            "ijepa": lambda: hf.IJepaModel(hf.IJepaConfig(**SIZES)),
            "msn": lambda: hf.ViTMSNModel(hf.ViTMSNConfig(**SIZES)),
        }[name]()
    )
    module.save_pretrained(tmp_path)
    options = {"interpolate_pos_encoding": True}
    if name.startswith("mae"):  # patches are kept in the order of the noise
        patches = size[0] * size[1] // PATCH**2
        options["noise"] = torch.arange(patches).repeat(2, 1) / patches
        module = getattr(module, "vit", module)
    features(tmp_path, size, module, images(*size), **options)


@pytest.mark.parametrize("name", ["IJepa", "ViTMSN"])
def test_classifiers_with_the_names_of_vit(name, hf, tmp_path):
    config = getattr(hf, f"{name}Config")(num_labels=7, **SIZES)
    module = fill(getattr(hf, f"{name}ForImageClassification")(config))
    module.save_pretrained(tmp_path)
    ours = vit_keras.from_checkpoint(tmp_path)
    assert ours.config.pooling == {"IJepa": "gap", "ViTMSN": "token"}[name]
    close(run(ours, images()), run_torch(module, images()).logits)


def test_settings_of_old_files_say_little(tmp_path):
    """Those of SigLIP name only what differs, and those of CLIP say it twice."""
    config = {"vision_config": {"model_type": "siglip_vision_model"}}
    folder = hf_folder(tmp_path, name="hf-siglip")
    (folder / "config.json").write_text(str(config).replace("'", '"'))
    with pytest.raises(CheckpointError, match=r"multiple of `num_heads`.*num_heads=12"):
        vit_keras.from_checkpoint(folder)
    (folder / "config.json").write_text(
        '{"vision_config": {"num_attention_heads": 1}, '
        '"vision_config_dict": {"num_attention_heads": 4}}'
    )
    assert vit_keras.from_checkpoint(folder).config.num_heads == 4


@pytest.mark.parametrize(
    "name, expected",
    [
        ("hf-dinov3", Preprocessing(IMAGENET_MEAN, IMAGENET_STD, "bilinear")),
        ("hf-siglip", Preprocessing()),
        ("hf-clip", Preprocessing(CLIP_MEAN, CLIP_STD)),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_preprocessing_is_that_of_the_family(name, expected, beside, tmp_path):
    """As its processor has it; only CLIP's keeps the shape, and crops."""
    folder = hf_folder(tmp_path, name=name)
    if beside:
        file = "preprocessor_config.json"
        (folder / file).write_text((GOLDEN / name / file).read_text())
    resize = "cover" if name == "hf-clip" else "stretch"
    found = vit_keras.from_checkpoint(folder).config.preprocessing
    assert found == dataclasses.replace(expected, resize=resize)


PRESET_OF = {
    "hf-dinov3": "dinov3_s16",
    "hf-siglip": "siglip_b16",
    "hf-clip": "clip_b32",
}


@pytest.mark.parametrize("name", PRESET_OF)
def test_a_preset_takes_the_settings_of_its_family(name):
    """A classifier to train, and what the package computes without one."""
    sizes: dict[str, Any] = sizes_of(name) | {"classes": 3}
    with pytest.warns(UserWarning, match="left fresh: head/kernel, head/bias"):
        model = vit_keras.create_model(PRESET_OF[name], weights=file_of(name), **sizes)
    assert model.output_shape == (None, 3)
    assert model.config.representation_size is None
    x, outputs = golden(name)
    if name == "hf-dinov3":  # the class token is the first of theirs
        outputs = outputs[:, 0]
    model = vit_keras.create_model(
        PRESET_OF[name], weights=file_of(name), include_top=False, **sizes
    )
    close(run(model, x), outputs)


def test_counts_of_old_releases_are_no_weights(tmp_path):
    arrays = arrays_of("hf-clip")
    for tower in ("vision_model", "text_model"):
        arrays[f"{tower}.embeddings.position_ids"] = np.arange(17)[None]
    path = saved(tmp_path, arrays)
    model = vit_keras.from_checkpoint(path, num_heads=2, assume={})
    x, outputs = golden("hf-clip")
    close(run(model, x), outputs)


def test_labels_come_along(tmp_path):
    names = ("a", "b", "c", "d", "e")
    settings = {"id2label": {str(i): name for i, name in enumerate(names)}}
    folder = hf_folder(tmp_path, settings, name="hf-siglip-classifier")
    assert vit_keras.from_checkpoint(folder).config.labels == names


def of_shapes(shapes):
    """A checkpoint of these shapes without any values."""

    def read():
        raise AssertionError("no array is read")

    entries = {n: Entry(tuple(s), np.dtype("float32"), read) for n, s in shapes.items()}
    return Checkpoint(pathlib.Path("dinov3"), entries)


def hf_shapes(module):
    return {n: tuple(t.shape) for n, t in module.state_dict().items()}


def test_the_largest_dinov3_is_refused_before_it_is_read(hf):
    import torch

    config = hf.DINOv3ViTConfig(
        hidden_size=4096,
        num_hidden_layers=40,
        num_attention_heads=32,
        intermediate_size=8192,
        num_register_tokens=4,
        query_bias=False,
        value_bias=False,
        **GATED,
    )
    with torch.device("meta"):
        shapes = hf_shapes(hf.DINOv3ViTModel(config))
    with pytest.raises(CheckpointError, match=r"6\.7e9 .*needs 27 GB in float32"):
        describe(recognise(of_shapes(shapes)), num_heads=32)


# As their authors' `config.json` say; what differs from the class's defaults.
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
LARGE |= {"intermediate_size": 4096}
BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
PUBLISHED = {
    "dinov3_s16": ("DINOv3ViT", {}),
    "dinov3_s16plus": ("DINOv3ViT", GATED),
    "dinov3_b16": ("DINOv3ViT", BASE),
    "dinov3_l16": ("DINOv3ViT", LARGE),
    "siglip_b16": ("SiglipVision", {}),
    "siglip_so400m14": (
        "SiglipVision",
        {
            "hidden_size": 1152,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "intermediate_size": 4304,
            "patch_size": 14,
        },
    ),
    "clip_b32": ("CLIPVision", {}),
    "clip_b16": ("CLIPVision", {"patch_size": 16}),
    "clip_l14": ("CLIPVision", {**LARGE, "patch_size": 14}),
    "dinov2_g14": (
        "Dinov2",
        {
            "hidden_size": 1536,
            "num_hidden_layers": 40,
            "num_attention_heads": 24,
            "use_swiglu_ffn": True,
            "patch_size": 14,
        },
    ),
}
NEW = ("dinov3", "siglip", "clip", "dinov2")


def test_every_new_preset_is_compared():
    assert {n for n in PRESETS if n.startswith(NEW)} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_are_the_published_sizes(name, hf):
    """The weights of transformers' model, and what ours has besides."""
    import torch

    kind, sizes = PUBLISHED[name]
    options = {"num_register_tokens": 4} if kind == "DINOv3ViT" else {}
    with torch.device("meta"):
        config = getattr(hf, f"{kind}Config")(**sizes, **options)
        shapes = hf_shapes(getattr(hf, f"{kind}Model")(config))
    count = sum(int(np.prod(s)) for n, s in shapes.items() if "mask_token" not in n)
    preset = PRESETS[name].config
    ours = shapes_of(preset)
    head = preset.hidden_size * 1000 + 1000
    patch_bias = preset.hidden_size if kind == "CLIPVision" else 0  # zeros there
    total = sum(int(np.prod(s)) for s in ours.values())
    assert total == count + head + patch_bias == PRESETS[name].parameters
    assert preset.num_heads == config.num_attention_heads
    assert preset.norm_epsilon == config.layer_norm_eps

"""The configuration: published sizes, round trips and every refused value."""

import dataclasses
import json
import re

import pytest

from tests.models import tiny, without_memory
from vit_keras import PRESETS, Preprocessing, ViTConfig, create_model
from vit_keras.presets import get_config

# Written out, so that the table in the code is not its own witness: PyTorch models of
# the same sizes have the same counts (timm's `vit_tiny_patch16_224` and its kin), and
# table 1 of arXiv 2010.11929 rounds the last three to 86M, 307M and 632M.
PUBLISHED = {
    "vit_ti16": 5_717_416,
    "vit_s16": 22_050_664,
    "vit_b16": 86_567_656,
    "vit_l16": 304_326_632,
    "vit_h14": 632_045_800,
}
NAMES = [
    *("vit_ti16", "vit_s16", "vit_s32", "vit_m16", "vit_b8", "vit_b16", "vit_b32"),
    *("vit_l16", "vit_l32", "vit_h14", "vit_g14"),
    *("deit_ti16", "deit_s16", "deit_b16"),
    *("dinov2_g14", "dinov3_s16", "dinov3_s16plus", "dinov3_b16", "dinov3_l16"),
    *("siglip_b16", "siglip_so400m14", "clip_b32", "clip_b16", "clip_l14"),
]


def test_every_preset_is_covered_and_cites_a_paper():
    assert sorted(NAMES) == sorted(PRESETS)
    for name, preset in PRESETS.items():
        assert re.search(r"arXiv \d{4}\.\d{5}", preset.paper), name


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_a_preset_are_exact(name):
    with without_memory():
        model = create_model(name)
    assert model.count_params() == PRESETS[name].parameters
    assert model.config == PRESETS[name].config
    assert model.name == name


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_state_the_published_parameters(name):
    assert PRESETS[name].parameters == PUBLISHED[name]


def test_unknown_preset_names_the_close_one():
    with pytest.raises(ValueError, match="Did you mean 'vit_b16'.*'vit_b61'"):
        get_config("vit_b61")


@pytest.mark.parametrize(
    "config",
    [
        ViTConfig(),
        tiny(image_size=(16, 24), pooling="map", class_token=True),
        tiny(pooling=None, include_top=False),
        tiny(qk_norm=True, pre_norm=True, fc_norm=True, pooling="gap"),
        tiny(
            distillation_token=True,
            layer_scale_init_value=1e-5,
            preprocessing=Preprocessing((0.1, 0.2, 0.3), (1, 2, 3), "lanczos", 0.9),
        ),
        *(preset.config for preset in PRESETS.values()),
    ],
)
def test_round_trip_through_json(config):
    assert ViTConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny().hidden_size = 32  # type: ignore[misc]


def test_an_int_means_a_square():
    config = tiny(image_size=32, patch_size=4)
    assert config.image_size == (32, 32)
    assert config.patch_size == (4, 4)
    assert tiny(image_size=[16, 24]).image_size == (16, 24)


@pytest.mark.parametrize("name", ["qk_norm", "pre_norm", "fc_norm"])
def test_norms_are_off_unless_asked_for(name):
    assert tiny().to_dict()[name] is False
    assert tiny(**{name: True}).to_dict()[name] is True


@pytest.mark.parametrize("pooling", ["token", "gap", "map"])
def test_fc_norm_goes_with_every_pooling(pooling):
    assert tiny(fc_norm=True, pooling=pooling).fc_norm


@pytest.mark.parametrize(
    ("options", "prefix", "tokens"),
    [
        ({}, 1, 5),
        ({"distillation_token": True}, 2, 6),
        ({"num_register_tokens": 4}, 5, 9),
        ({"pooling": "gap"}, 0, 4),
        ({"pooling": "gap", "class_token": True}, 1, 5),
        ({"pooling": "map", "num_register_tokens": 2}, 2, 6),
        ({"image_size": (24, 40)}, 1, 16),
        ({"image_size": (8, 12), "patch_size": (8, 4)}, 1, 4),
    ],
)
def test_counts_of_tokens(options, prefix, tokens):
    config = tiny(**options)
    assert config.num_prefix_tokens == prefix
    assert config.num_tokens == tokens
    with without_memory():
        model = create_model(config, task="features")
    assert model.output_shape == (None, tokens, config.hidden_size)


def test_grid_is_rows_then_columns():
    config = tiny(image_size=(24, 40), patch_size=(8, 4))
    assert config.grid == (3, 10)


def test_replace_leaves_the_original():
    config = tiny()
    assert config.replace(classes=7).classes == 7
    assert config.classes == 5


def test_replace_decides_the_class_token_again_with_the_pooling():
    assert tiny(pooling="gap").class_token is False
    assert tiny(pooling="gap").replace(pooling="token").class_token is True
    assert tiny(pooling="gap").replace(classes=3).class_token is False


@pytest.mark.parametrize(
    ("name", "close"),
    [("num_layer", "num_layers"), ("imagesize", "image_size"), ("drop", "dropout")],
)
def test_replace_suggests_the_close_name(name, close):
    with pytest.raises(ValueError, match=f"`{name}` .*Did you mean `{close}`"):
        tiny().replace(**{name: 1})


def test_replace_without_a_close_name_lists_all():
    with pytest.raises(ValueError) as error:
        tiny().replace(zzz=1)
    assert "Did you mean" not in str(error.value)
    for field in dataclasses.fields(ViTConfig):
        assert field.name in str(error.value)


POSITIVE = ["channels", "num_layers", "hidden_size", "num_heads", "mlp_dim", "classes"]
POSITIVE += ["head_dim", "representation_size"]
RATES = ["dropout", "attention_dropout", "drop_path_rate"]
NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in POSITIVE for value in (0, -1, 1.5, "4", True)),
        *((name, value) for name in RATES for value in (-0.1, 1.0, NAN, "0.1")),
        *(("image_size", v) for v in (0, -8, 16.0, None, "16", (16,), (16, 16, 3))),
        *(("image_size", v) for v in ((16, 0), (16, 8.0), True)),
        *(("patch_size", v) for v in (0, 8.0, None, (8, -8))),
        *(("num_register_tokens", v) for v in (-1, 1.5, None)),
        *(("norm_epsilon", v) for v in (0, -1e-6, NAN, None)),
        ("layer_scale_init_value", "small"),
        ("pooling", "mean"),
        ("positions", "rotary"),
        ("positions", None),
        ("mlp_activation", "mish"),
        ("preprocessing", None),
    ],
)
def test_bad_value_is_named(name, value):
    with pytest.raises(ValueError) as error:
        tiny(**{name: value})
    assert f"`{name}`" in str(error.value)
    assert f"{name}={value!r}" in str(error.value)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            {"image_size": 20},
            ["`image_size`", "image_size=(20, 20)", "patch_size=(8, 8)"],
        ),
        ({"image_size": (16, 20)}, ["`image_size`", "(16, 20)"]),
        ({"num_heads": 3}, ["`hidden_size`", "hidden_size=16", "num_heads=3"]),
        (
            {"positions": "sincos2d", "hidden_size": 18},
            ["`hidden_size`", "sincos2d", "hidden_size=18"],
        ),
        ({"class_token": False}, ["`class_token`", "pooling='token'"]),
        (
            {"distillation_token": True, "pooling": "gap"},
            ["`pooling`", "distillation_token=True", "pooling='gap'"],
        ),
        ({"pooling": None}, ["`pooling`", "include_top=True", "pooling=None"]),
        (
            {"fc_norm": True, "pooling": None, "include_top": False},
            ["`fc_norm`", "one vector per image", "pooling=None"],
        ),
        (
            {"fc_norm": True, "distillation_token": True},
            ["`fc_norm`", "distillation_token=True", "pooling='token'"],
        ),
        ({"channels": 1}, ["`preprocessing`", "channels=1", "mean=(0.5, 0.5, 0.5)"]),
        (
            {"preprocessing": Preprocessing((0.5,), (0.5,))},
            ["`preprocessing`", "channels=3", "mean=(0.5,)"],
        ),
    ],
)
def test_bad_combination_is_named(options, parts):
    with pytest.raises(ValueError) as error:
        tiny(**options)
    for part in parts:
        assert part in str(error.value)

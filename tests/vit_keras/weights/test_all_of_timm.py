"""Whatever is loaded from timm computes as there, or is refused."""

import pathlib

import pytest

from tests.vit_keras.weights import against_timm
from tests.vit_keras.weights.against_timm import (
    arguments_of,
    is_ours,
    names_of,
    outcome,
    signature,
    small,
)
from vit_keras import CheckpointError
from vit_keras.weights.timm_names import read_name


def said_of(name):
    try:
        return read_name(name)
    except CheckpointError:
        return "refused"


def one_of_each(timm, monkeypatch):
    """The first name of each network that is read the same."""
    chosen = {}
    for name in names_of(timm):
        about = arguments_of(timm, monkeypatch, name)
        chosen.setdefault(signature(*about, said_of(name)), name)
    return list(chosen.values())


def check(timm, monkeypatch, names, folder):
    found = against_timm.rows(timm, monkeypatch, names, folder)
    for name, (result, why) in found.items():
        print(f"{name:45} {result:8} {why[:300]}")
    wrong = {name: why for name, (result, why) in found.items() if result == "wrong"}
    assert not wrong
    ours = {n for n in names if is_ours(*arguments_of(timm, monkeypatch, n))}
    assert ours == {name for name, (result, _) in found.items() if result == "equal"}
    root = pathlib.Path(__file__).parents[3]
    document = (root / "docs" / "reference" / "timm.md").read_text()
    assert set(against_timm.as_table(found)) <= set(document.splitlines())


def test_names_of_some_networks(timm, monkeypatch, tmp_path):
    names = one_of_each(timm, monkeypatch)
    assert len(names) > 60
    check(timm, monkeypatch, names[::8], tmp_path)


@pytest.mark.slow
def test_all_names(timm, monkeypatch, tmp_path):
    names = names_of(timm)
    assert len(names) > 250
    check(timm, monkeypatch, names, tmp_path)


# Arguments of `timm.create_model("vit_tiny_patch16_224")`, and whether they are loaded.
ARGUMENTS = [
    ({"global_pool": "avg"}, True),
    ({"global_pool": "avg", "fc_norm": False}, True),
    ({"global_pool": "avg", "class_token": False}, True),
    ({"global_pool": "map"}, True),
    ({"global_pool": "token", "fc_norm": True}, True),
    ({"global_pool": "max"}, False),
    ({"global_pool": "max", "fc_norm": False}, True),
    ({"global_pool": "avgmax"}, False),
    ({"global_pool": "prr"}, False),
    ({"global_pool": "avg", "pool_include_prefix": True}, False),
    ({"global_pool": "max", "fc_norm": False, "pool_include_prefix": True}, False),
    ({"global_pool": "map", "pool_include_prefix": True}, True),
    ({"pos_embed": "none"}, True),
    ({"pos_embed": ""}, True),
    ({"pos_embed": "learn"}, True),
    ({"act_layer": "quick_gelu"}, True),
    ({"act_layer": "gelu_tanh"}, True),
    ({"act_layer": "relu"}, True),
    ({"act_layer": "silu"}, True),
    ({"act_layer": "tanh"}, True),
    ({"act_layer": "mish"}, False),
    ({"norm_layer": "layernorm"}, True),
    ({"norm_layer": "layernorm", "pre_norm": True}, True),
    ({"norm_layer": "rmsnorm"}, False),
    ({"norm_layer": "simplenorm"}, False),
    ({"embed_norm_layer": "layernorm"}, False),
    ({"pre_norm": True}, True),
    ({"qk_norm": True}, True),
    ({"qkv_bias": False}, True),
    ({"proj_bias": False}, False),
    ({"scale_attn_norm": True}, True),
    ({"scale_mlp_norm": True}, True),
    ({"final_norm": False}, False),
    ({"attn_layer": "diff"}, False),
    ({"init_values": 0.1}, True),
    ({"reg_tokens": 2}, True),
    ({"reg_tokens": 2, "no_embed_class": True}, True),
    ({"in_chans": 1}, True),
    ({"in_chans": 4}, True),
    ({"mlp_ratio": 2.5}, True),
    ({"num_heads": 6}, True),
    ({"dynamic_img_size": True, "dynamic_img_pad": True}, True),
    ({"drop_path_rate": 0.1, "weight_init": "jax"}, True),
    ({"use_naflex": True}, False),
]


@pytest.mark.parametrize(("arguments", "loaded"), ARGUMENTS, ids=str)
def test_arguments(arguments, loaded, timm, monkeypatch, tmp_path):
    name = "vit_tiny_patch16_224"
    module = small(timm, monkeypatch, name, **{"num_heads": 3} | arguments)
    result, why = outcome(module, tmp_path, named=False)
    assert result == ("equal" if loaded else "refused"), why


# Arguments of one of its Eva, and whether they are loaded.
OF_EVA = [
    ("eva_giant_patch14_224", {"use_rot_pos_emb": True}, True),
    ("eva_giant_patch14_224", {"use_rot_pos_emb": True, "ref_feat_shape": 5}, True),
    ("eva_giant_patch14_224", {"swiglu_mlp": True}, True),
    ("eva_giant_patch14_224", {"swiglu_mlp": True, "scale_mlp": True}, True),
    ("eva_giant_patch14_224", {"scale_mlp": True}, True),
    ("eva_giant_patch14_224", {"scale_attn_inner": True, "attn_type": "rope"}, True),
    ("eva_giant_patch14_224", {"use_post_norm": True}, True),
    ("eva_giant_patch14_224", {"use_pre_transformer_norm": True}, True),
    ("eva_giant_patch14_224", {"use_post_transformer_norm": True}, False),
    ("eva_giant_patch14_224", {"use_fc_norm": False}, True),
    ("eva_giant_patch14_224", {"use_abs_pos_emb": False}, True),
    ("eva_giant_patch14_224", {"qk_norm": True}, True),
    ("eva_giant_patch14_224", {"global_pool": "max"}, True),
    ("eva_giant_patch14_224", {"global_pool": "map"}, True),
    ("eva_giant_patch14_224", {"global_pool": "map", "attn_pool_num_heads": 4}, True),
    ("eva_giant_patch14_224", {"global_pool": "map", "attn_pool_mlp_ratio": 2}, False),
    ("eva_giant_patch14_224", {"num_reg_tokens": 3, "no_embed_class": True}, True),
    ("eva_giant_patch14_224", {"init_values": 0.1, "qkv_bias": False}, True),
    (
        "eva_giant_patch14_224",
        {"init_values": 0.1, "attn_only_layer_scale": True},
        False,
    ),
    ("eva02_tiny_patch14_224", {"global_pool": "map"}, False),
    ("eva02_tiny_patch14_224", {"use_rot_pos_emb": False}, True),
    ("eva02_tiny_patch14_224", {"swiglu_mlp": False}, True),
    ("eva02_tiny_patch14_224", {"rope_temperature": 50.0}, True),
    ("eva02_tiny_patch14_224", {"rope_grid_indexing": "xy"}, True),
    ("eva02_tiny_patch14_224", {"rope_grid_offset": 1.0}, False),
    ("eva02_tiny_patch14_224", {"rope_rotate_half": True}, False),
    ("eva02_tiny_patch14_224", {"rope_type": "mixed"}, False),
    (
        "eva02_tiny_patch14_224",
        {"rope_type": "dinov3", "rope_rotate_half": True},
        True,
    ),
    ("vit_tiny_patch16_dinov3_qkvb", {"rope_rescale_coords": 2.0}, True),
    ("vit_tiny_patch16_dinov3_qkvb", {"rope_rotate_half": False}, False),
    ("vit_tiny_patch16_dinov3_qkvb", {"global_pool": "token"}, True),
    ("vit_tiny_patch16_dinov3_qkvb", {"global_pool": "map"}, True),
    ("vit_tiny_patch16_dinov3_qkvb", {"swiglu_mlp": True}, True),
    ("vit_pe_core_tiny_patch16_384", {"global_pool": "token"}, True),
    ("vit_pe_core_tiny_patch16_384", {"ref_feat_shape": [4, 4]}, True),
]


@pytest.mark.parametrize(("name", "arguments", "loaded"), OF_EVA, ids=str)
def test_arguments_of_eva(name, arguments, loaded, timm, monkeypatch, tmp_path):
    module = small(timm, monkeypatch, name, **arguments)
    result, why = outcome(module, tmp_path, named=False)
    assert result == ("equal" if loaded else "refused"), why

"""Whatever is loaded from timm computes as there, or is refused."""

import pytest

from tests.vit_keras.weights import against_timm
from tests.vit_keras.weights.against_timm import (
    arguments_of,
    is_plain,
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
    plain = {n for n in names if is_plain(*arguments_of(timm, monkeypatch, n))}
    assert plain == {name for name, (result, _) in found.items() if result == "equal"}


def test_a_name_of_each_network(timm, monkeypatch, tmp_path):
    names = one_of_each(timm, monkeypatch)
    assert len(names) > 60
    check(timm, monkeypatch, names, tmp_path)


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
    ({"global_pool": "avgmax"}, False),
    ({"global_pool": "prr"}, False),
    ({"global_pool": "avg", "pool_include_prefix": True}, False),
    ({"global_pool": "map", "pool_include_prefix": True}, False),
    ({"pos_embed": "none"}, False),
    ({"pos_embed": ""}, False),
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
    ({"scale_attn_norm": True}, False),
    ({"scale_mlp_norm": True}, False),
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

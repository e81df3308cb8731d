"""Settings that are understood, refused or missing, and what the user states."""

import json
import warnings

import numpy as np
import pytest

from tests.vit_keras.weights.golden_files import (
    GOLDEN,
    arrays_of,
    blank,
    config_of,
    file_of,
    hf_folder,
    refused,
    saved,
    sizes_of,
)
from vit_keras import (
    CheckpointError,
    Preprocessing,
    create_model,
    from_checkpoint,
    load_weights,
)
from vit_keras.weights.describe import describe
from vit_keras.weights.loader import find
from vit_keras.weights.recognise import recognise
from vit_keras.weights.timm_names import read_name


def timm_folder(folder, model=None, images=None, gone=(), **settings):
    """A copy of a golden folder with other settings, or without some."""
    saved(folder, arrays_of("timm-folder"))
    data = json.loads((GOLDEN / "timm-folder" / "config.json").read_text())
    data["model_args"] |= model or {}
    data["pretrained_cfg"] |= images or {}
    data = {name: value for name, value in data.items() if name not in gone}
    (folder / "config.json").write_text(json.dumps(data | settings))
    return folder


def told(path):
    return recognise(find(path)).told


# --- Every setting is understood, or refused by name --------------------------------


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"global_pool": "prr"}, "`global_pool` must be one of 'token', 'avg', 'map'"),
        ({"pos_embed": "none"}, "the network has no positions, the file pos_embed"),
        ({"pos_embed": "rope"}, "`pos_embed` must be one of 'learn'"),
        (
            {"global_pool": "avg", "pool_include_prefix": True},
            "`pool_include_prefix` must be False",
        ),
        ({"rope_type": "cat"}, "`rope_type` is no known setting"),
        ({"embed_dim": 16}, "`embed_dim` must be 8, as in the arrays.*16"),
        ({"depth": 3}, "`depth` must be 2, as in the arrays"),
        ({"patch_size": [4, 8]}, "`patch_size` must be 4, as in the arrays"),
        ({"pre_norm": True}, "`pre_norm` must fit the arrays, which have no such"),
        ({"qkv_bias": False}, "`qkv_bias` must fit the arrays, which have such"),
    ],
)
def test_arguments_of_timm_that_are_refused(tmp_path, model, words):
    path = timm_folder(tmp_path, model)
    with pytest.raises(CheckpointError, match=words) as caught:
        from_checkpoint(path)
    assert str(path) in str(caught.value)
    with refused(blank("timm-folder"), str(path)):
        load_weights(blank("timm-folder"), path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hub_note": "rotary"}, "`hub_note` is no known setting"),
        ({"images": {"crop_mode": "random"}}, "`crop_mode` must be one of 'center'"),
        ({"images": {"first_conv": "stem.conv"}}, "`first_conv` must be"),
        ({"architecture": "vit_base_patch16_xp_224"}, "side by side"),
        ({"architecture": "vit_base_patch16_rope_mixed_224.in1k"}, "are learned"),
        ({"architecture": "vit_base_patch16_dinov3.lvd"}, "has no positions"),
        ({"architecture": "vit_base_patch16_new_224"}, "'new' is not known"),
    ],
)
def test_settings_of_timm_that_are_refused(tmp_path, settings, words):
    with pytest.raises(CheckpointError, match=words):
        from_checkpoint(timm_folder(tmp_path, **settings))


@pytest.mark.parametrize(
    "settings", [{"note": None}, {"model": {"new": False}}, {"images": {"new": []}}]
)
def test_unknown_settings_that_are_off_are_taken(tmp_path, settings):
    assert from_checkpoint(timm_folder(tmp_path, **settings)).config.num_heads == 2


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"rope_theta": 100.0}, "`rope_theta` is no known setting"),
        ({"model_type": "vit_new"}, "`model_type` must be one of 'vit', 'deit'"),
        ({"model_type": "yolos"}, "YOLOS"),
        ({"architectures": ["ViTForPose"]}, "`architectures` must be one of"),
        ({"pooler_act": "relu"}, "`pooler_act` must be 'tanh'"),
        ({"hidden_size": 16}, "`hidden_size` must be 8, as in the arrays"),
        ({"num_channels": 1}, "`num_channels` must be 3, as in the arrays"),
        ({"qkv_bias": False}, "`qkv_bias` must fit the arrays"),
    ],
)
def test_settings_of_transformers_that_are_refused(tmp_path, config, words):
    path = hf_folder(tmp_path, config)
    with pytest.raises(CheckpointError, match=words):
        from_checkpoint(path)
    with refused(model := blank("hf-vit"), []):
        load_weights(model, path)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("quick_gelu", "quick_gelu"), ("relu", "relu"), ("silu", "silu"), ("tanh", "tanh")]
    + [("swish", "silu"), ("gelu_new", "gelu_tanh")],
)
def test_activations(tmp_path, theirs, ours):
    assert told(hf_folder(tmp_path, {"hidden_act": theirs}))["mlp_activation"] == ours
    path = timm_folder(tmp_path / "timm", {"act_layer": theirs})
    assert told(path)["mlp_activation"] == ours


def test_names_of_architectures():
    plain = {"mlp_activation": "gelu", "norm_epsilon": 1e-6, "pooling": "token"}
    assert read_name("vit_tiny_patch16_224.augreg_in21k") == {**plain, "num_heads": 3}
    clip = {"num_heads": 12, "norm_epsilon": 1e-5, "mlp_activation": "quick_gelu"}
    assert read_name("vit_base_patch32_clip_quickgelu_224") == plain | clip
    # Its heads are none of a width of 768 elsewhere.
    gap = {"num_heads": 16, "pooling": "gap"}
    assert read_name("vit_base_patch16_gap_224") == plain | gap
    assert read_name("vit_new_patch16_224", accept=True) == {}
    with pytest.raises(CheckpointError, match="RMS norms"):
        read_name("vit_giant_patch16_sapiens2", accept=True)


def test_a_name_tells_the_heads(tmp_path):
    data = json.loads((GOLDEN / "timm-folder" / "config.json").read_text())
    path = timm_folder(tmp_path, gone=["model_args"])
    with pytest.raises(ValueError, match="multiple of `num_heads`"):  # 3, of 8
        from_checkpoint(path)
    data |= {"architecture": "vit_medium_patch16_gap_256", "global_pool": "token"}
    assert "model_args" in data
    data.pop("model_args")
    (path / "config.json").write_text(json.dumps(data))
    assert from_checkpoint(path).config.num_heads == 8


def test_pixels_that_timm_does_not_tell(tmp_path):
    """As `timm.data.resolve_data_config` has them."""
    found = told(timm_folder(tmp_path, pretrained_cfg={"input_size": [3, 16, 16]}))
    assert found["preprocessing"] == Preprocessing(
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop=0.875
    )


def test_settings_of_old_releases_of_timm(tmp_path):
    data = json.loads((GOLDEN / "timm-folder" / "config.json").read_text())
    saved(tmp_path, arrays_of("timm-folder"))
    old = {"architecture": "vit_tiny_patch16_224", "mean": [0.1] * 3, "std": [1] * 3}
    old |= {"num_features": 8, "input_size": data["pretrained_cfg"]["input_size"]}
    (tmp_path / "config.json").write_text(json.dumps(old))
    config = from_checkpoint(tmp_path, num_heads=2).config
    assert config.preprocessing.mean == (0.1,) * 3 and config.pooling == "token"


def test_grey_pictures(tmp_path):
    """timm takes the mean of three means; transformers refuses them, and so do we."""
    name = "patch_embed.proj.weight"
    arrays = arrays_of("timm-folder")
    path = timm_folder(tmp_path, {"in_chans": 1}, {"mean": [0.3, 0.4, 0.8]})
    saved(path, arrays | {name: arrays[name].sum(1, keepdims=True)})
    config = from_checkpoint(path).config
    assert config.preprocessing.mean == pytest.approx((0.5,))
    name = "vit.embeddings.patch_embeddings.projection.weight"
    arrays, images = (
        arrays_of("hf-vit"),
        {"image_mean": [0.5] * 3, "image_std": [1] * 3},
    )
    path = hf_folder(tmp_path / "hf", {"num_channels": 1}, images)
    saved(path, arrays | {name: arrays[name].sum(1, keepdims=True)})
    with pytest.raises(CheckpointError, match="1 channels.*3 means.*`preprocessing`"):
        from_checkpoint(path)
    grey = Preprocessing(mean=(0.5,), std=(0.5,))
    assert from_checkpoint(path, preprocessing=grey).config.preprocessing == grey


def test_the_pooler_of_i_jepa(tmp_path):
    """It reads the first patch, not the mean of them."""
    gone = {"embeddings.cls_token"}
    arrays = {n: a for n, a in arrays_of("hf-vit-base").items() if n not in gone}
    arrays["embeddings.position_embeddings"] = np.ones((1, 16, 8), "f4")
    changes = {"model_type": "ijepa", "architectures": ["IJepaModel"]}
    path = hf_folder(tmp_path, changes, name="hf-vit-base")
    saved(path, arrays)
    with pytest.raises(CheckpointError, match="pooler and no class token"):
        from_checkpoint(path)
    arrays = {n: a for n, a in arrays.items() if not n.startswith("pooler")}
    saved(path, arrays)
    assert from_checkpoint(path).config.pooling == "gap"


# --- A classifier that is none of ours ----------------------------------------------


@pytest.mark.parametrize("name", ["hf-dinov2", "hf-dinov2-registers"])
def test_the_classifier_of_dinov2(tmp_path, name):
    width = config_of(name).hidden_size
    arrays = {f"dinov2.{n}": a for n, a in arrays_of(name).items()}
    arrays["classifier.weight"] = np.ones((5, 2 * width), "f4")
    arrays["classifier.bias"] = np.ones(5, "f4")
    kind = config_of(name).num_register_tokens and "WithRegisters" or ""
    names = [f"Dinov2{kind}ForImageClassification"]
    path = hf_folder(tmp_path, {"architectures": names}, name=name)
    saved(path, arrays)
    for given in ({}, {"classes": 3}, {"include_top": True}):
        with pytest.raises(CheckpointError, match="reads 16 values.*task='features'"):
            from_checkpoint(path, **given)
    assert from_checkpoint(path, include_top=False).output_shape == (None, width)
    tokens = from_checkpoint(path, task="features")
    assert tokens.output_shape[1:] == (tokens.config.num_tokens, width)
    with pytest.warns(UserWarning, match="left fresh: head/kernel"):
        new = from_checkpoint(path, include_top=True, classes=3)
    assert new.output_shape == (None, 3)


# --- What nothing tells -------------------------------------------------------------

BARE = file_of("timm-token")


def said(path, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from_checkpoint(path, num_heads=2, **options)
    return [str(w.message) for w in caught]


def test_a_bare_file_says_what_was_assumed():
    (line,) = said(BARE)
    assert str(BARE) in line and "mlp_activation='gelu'" in line
    assert "pooling='token'" in line and "norm_epsilon=1e-06" in line
    assert "num_heads" not in line  # it was given
    (line,) = said(BARE, assume={"mlp_activation": "quick_gelu"}, norm_epsilon=1e-5)
    assert "mlp_activation" not in line and "norm_epsilon" not in line
    assert "pooling='token'" in line
    assert said(BARE, assume={}) == []


def test_pooling_is_not_assumed_where_there_is_none():
    (line,) = said(BARE, task="features")
    assert "pooling" not in line


def test_what_is_stated_is_taken():
    stated = {"mlp_activation": "quick_gelu", "pooling": "gap", "norm_epsilon": 1e-5}
    stated |= {"preprocessing": Preprocessing(), "num_heads": 4}
    stated |= {"post_norm": True, "rotary": None}
    config = from_checkpoint(BARE, assume=stated).config  # and no warning
    assert {name: getattr(config, name) for name in stated} == stated
    sizes = {**sizes_of("timm-token"), "num_heads": 2}
    stated.pop("num_heads")
    model = create_model("vit_ti16", weights=BARE, assume={**stated}, **sizes)
    assert {name: getattr(model.config, name) for name in stated} == stated


@pytest.mark.parametrize("field", ["hidden_size", "image_sise", "qkv_bias"])
def test_what_the_file_tells_is_not_assumed(field):
    with pytest.raises(ValueError, match="does not decide: mlp_activation") as caught:
        from_checkpoint(BARE, assume={field: 8})
    assert f"Received: {field}" in str(caught.value)
    with pytest.raises(ValueError, match="none, it decides all"):
        from_checkpoint(file_of("augreg-token"), assume={"pooling": "gap"})
    with pytest.raises(ValueError, match="a ViTConfig states everything"):
        create_model(config_of("timm-token"), weights=BARE, assume={})


@pytest.mark.parametrize("name", ["augreg-token", "bv-gap", "vk-h5"])
def test_libraries_that_decide_all(name):
    match = recognise(find(file_of(name)))
    assert "mlp_activation" not in match.undecided and "pooling" not in match.undecided


def test_unknown_names_are_taken_with_assumptions(tmp_path):
    path = timm_folder(tmp_path, architecture="vit_tiny_patch16_new_224", new=3)
    assert from_checkpoint(path, assume={}).config.mlp_activation == "gelu"
    assume = {"mlp_activation": "silu", "post_norm": False, "rotary": None}
    model = from_checkpoint(path, assume=assume, norm_epsilon=1e-5)
    assert model.config.mlp_activation == "silu"
    with pytest.raises(ValueError, match="does not decide: mlp_activation, norm"):
        from_checkpoint(path, assume={"num_heads": 4})  # the settings tell it


def test_a_file_without_positions(tmp_path):
    arrays = {n: a for n, a in arrays_of("timm-token").items() if n != "pos_embed"}
    path = saved(tmp_path, arrays)
    given = {"num_heads": 2, "image_size": config_of("timm-token").image_size}
    with pytest.raises(CheckpointError, match=r"no positions \(pos_embed\).*rotary"):
        from_checkpoint(path, assume={}, **given)
    assume = {"positions": "sincos2d"}
    with pytest.warns(UserWarning, match="nothing in the file tells"):
        model = from_checkpoint(path, assume=assume, **given)
    assert model.config.positions == "sincos2d"
    assert describe(recognise(find(path)), **given, **assume).positions == "sincos2d"


def test_rotary_positions_of_a_bare_file(tmp_path):
    """EVA-02 has learned ones, too; DINOv3 has no others."""
    eva02, dinov3 = file_of("timm-eva02"), file_of("timm-dinov3")
    assert any("rotary=None" in line for line in said(eva02))
    lines = said(eva02, assume={"rotary": "eva02"}, rotary_grid=3)
    assert not any("rotary" in line for line in lines)
    size = {"image_size": (16, 8)}
    with pytest.raises(CheckpointError, match="'rotary': 'dinov3'"):
        said(dinov3, **size)
    rotary = {"positions": "none", "rotary": "dinov3"}
    assert not any("rotary" in line for line in said(dinov3, assume=rotary, **size))
    with warnings.catch_warnings(action="ignore"):
        notes = load_weights(blank("timm-dinov3"), dinov3).notes
        others = load_weights(blank("timm-eva02"), eva02).notes
    assert notes and not any("rotary" in note for note in notes)
    assert any("implies rotary=None" in note for note in others)


def test_buffers_of_rotary_positions_are_not_skipped(tmp_path):
    """Other frequencies than ours may be in them."""
    buffers = {"rope.freqs_cos": np.ones((16, 4), "f4")}
    path = saved(tmp_path, arrays_of("timm-eva02") | buffers)
    with pytest.raises(CheckpointError, match="rope.freqs_cos"):
        from_checkpoint(path, num_heads=2, assume={})


def test_a_matrix_with_gates_is_told_by_its_rows(tmp_path):
    """Twice as many as the second layer has columns; others fit nothing."""
    path = file_of("timm-dinov2-swiglu")
    match = recognise(find(path))
    assert match.sizes["M"] == 12 and not match.misfits
    arrays = arrays_of("timm-dinov2-swiglu")
    arrays["blocks.1.mlp.fc1.weight"] = np.ones((36, 8), "f4")
    wrong = recognise(find(saved(tmp_path, arrays))).misfits
    assert list(wrong) == ["encoderblock_1/mlp/dense1/kernel"]

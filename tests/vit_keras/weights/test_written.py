"""What `save_checkpoint` writes, what it refuses, and that it writes all or nothing."""

import errno
import os
import pathlib

import keras
import numpy as np
import pytest

import vit_keras
from tests.models import randomise, run, tiny
from tests.vit_keras.weights.compared import (
    NOT_OURS,
    TANH,
    close,
    golden_model,
    model_of,
    save_quietly,
    written,
)
from tests.vit_keras.weights.golden_files import file_of, golden
from vit_keras import CheckpointError, create_model
from vit_keras.weights import writer
from vit_keras.weights.loader import find

# Bare files of timm: what they leave open has tests of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*nothing in the file tells")

# --- golden file -> model -> file --------------------------------------------------

# case: layout
EXACT = {
    "augreg-token": "augreg",
    "augreg-gap": "augreg",
    "augreg-2020": "augreg",
    "timm-token": "timm",
    "timm-gap": "timm",
    "timm-gap-norm": "timm",
    "timm-map": "timm",
    "timm-distilled": "timm",
    "timm-registers": "timm",
    "timm-layerscale": "timm",
    "timm-dinov2": "timm",
    "timm-clip": "timm",
    "timm-qknorm": "timm",
    "timm-noqkvbias": "timm",
    "timm-rect": "timm",
    "timm-pth": "timm",
    "timm-folder": "timm",
    "hf-vit": "huggingface",
    "hf-vit-base": "huggingface",
    "hf-sharded": "huggingface",
    "hf-bf16": "huggingface",
    "hf-rect": "huggingface",
    "hf-deit": "huggingface",
    "hf-dinov2": "huggingface",
    "hf-dinov3": "huggingface",
    "hf-dinov3-gated": "huggingface",
}


@pytest.mark.parametrize("name", EXACT)
def test_a_golden_file_is_written_again(name, tmp_path):
    layout = EXACT[name]
    suffix = ".npz" if layout == "augreg" else ".safetensors"
    path = save_quietly(golden_model(name), tmp_path / f"model{suffix}", layout)
    ours = written(path)
    entries = find(file_of(name)).entries
    theirs = {
        n.removeprefix("opt/target/"): e.read()
        for n, e in entries.items()
        if n not in NOT_OURS
    }
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key].dtype == "float32"
        np.testing.assert_array_equal(ours[key], value.astype("float32"), err_msg=key)


def test_golden_registers_of_dinov2_are_written_with_a_folded_position(tmp_path):
    """The position of the class token is part of the token then; the sum is theirs."""
    name = "hf-dinov2-registers"
    path = tmp_path / "model.safetensors"
    ours = written(vit_keras.save_checkpoint(golden_model(name), path, "huggingface"))
    entries = find(file_of(name)).entries
    theirs = {n: e.read() for n, e in entries.items() if n not in NOT_OURS}
    assert ours.keys() == theirs.keys()
    cls, places = "embeddings.cls_token", "embeddings.position_embeddings"
    for key, value in theirs.items():
        if key not in (cls, places):
            np.testing.assert_array_equal(ours[key], value, err_msg=key)
    np.testing.assert_array_equal(ours[places][:, 1:], theirs[places][:, 1:])
    np.testing.assert_array_equal(
        ours[cls] + ours[places][:, :1], theirs[cls] + theirs[places][:, :1]
    )


# From the layout of one library into that of another, and what that cannot tell.
CONVERTED = [
    ("augreg-token", "timm", "folder", {}),
    ("augreg-token", "huggingface", "folder", {}),
    ("bv-gap", "augreg", "model.npz", {}),
    ("bv-gap", "timm", "folder", {}),
    ("bv-rep", "augreg", "model.npz", {}),
    ("bv-map", "timm", "folder", {}),
    ("bv-tok", "augreg", "model.npz", {}),
    ("bv-tok", "huggingface", "folder", {}),
    ("hf-deit", "timm", "folder", {"norm_epsilon": 1e-12}),
    ("hf-dinov2", "timm", "folder", {}),
    ("hf-dinov2-registers", "timm", "folder", {}),
    ("hf-dinov3-gated", "huggingface", "folder", {}),
    ("hf-siglip", "huggingface", "folder", {}),
    ("hf-siglip", "timm", "folder", {}),
    ("hf-siglip2-naflex", "huggingface", "folder", {}),
    ("hf-clip", "huggingface", "folder", {}),
    ("kh-gap", "timm", "folder", {}),
    ("kh-token", "huggingface", "folder", {}),
    # Its MLP is no multiple of its width, which only the settings must be able to say.
    ("timm-dinov2", "huggingface_dinov2", "model.safetensors", {"num_heads": 2}),
    ("timm-distilled", "huggingface", "folder", {}),
    ("vk-h5", "huggingface", "folder", {}),
    ("vk-keras2", "timm", "folder", {}),
]


@pytest.mark.parametrize("name,layout,file,needs", CONVERTED)
def test_converted_files_compute_what_the_package_did(
    name, layout, file, needs, tmp_path
):
    x, outputs = golden(name)
    task = "features" if outputs.ndim == 3 else "classify"
    path = save_quietly(golden_model(name), tmp_path / file, layout)
    close(run(vit_keras.from_checkpoint(path, task=task, **needs), x), outputs)


# A tanh layer with the exact GELU, layer norms around the patch projection.
@pytest.mark.parametrize("name", ["vk-legacy", "vp-cls", "vp-mean", "vp-headdim"])
@pytest.mark.parametrize("layout", ["timm", "huggingface", "augreg"])
def test_what_no_other_library_has_is_not_converted(name, layout, tmp_path):
    with pytest.raises(CheckpointError, match="cannot express"):
        vit_keras.save_checkpoint(golden_model(name), tmp_path / "model", layout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["timm", "huggingface"])
def test_crop_and_interpolation_come_back(layout, tmp_path):
    prep = vit_keras.Preprocessing(crop=0.875, interpolation="bilinear")
    config = tiny(image_size=56, preprocessing=prep)  # 56 / 0.875 is a whole number
    folder = vit_keras.save_checkpoint(create_model(config), tmp_path / "m", layout)
    assert vit_keras.from_checkpoint(folder).config.preprocessing == prep


# --- refusals ------------------------------------------------------------------------

PADDED = {"preprocessing": vit_keras.Preprocessing(resize="contain")}
MAP = {"pooling": "map", "include_top": False}
REFUSED = [
    ("huggingface", PADDED, "`resize` must not be contain"),
    ("huggingface", {"pooling": "map"}, "siglip cannot express.*include_top="),
    ("huggingface_vit", {"pooling": "map"}, "pooling="),
    ("huggingface", {"pooling": "max"}, "pooling="),
    ("huggingface", {"unit_norm": True}, "unit_norm="),
    ("huggingface", {"post_norm": True}, "post_norm="),
    ("huggingface", {"key_bias": False}, "key_bias="),
    ("huggingface", {"mlp_gated": True}, "mlp_gated="),
    ("huggingface", {"rotary": "eva02"}, "rotary="),
    ("timm", {"rotary": "eva02"}, "rotary="),
    ("timm", {"pooling": "map", "pool_heads": 1}, "pool_heads="),
    (
        "huggingface_vit",
        {
            "include_top": False,
            "representation_size": 8,
            "representation_activation": "linear",
        },
        "representation_activation=",
    ),
    ("huggingface_siglip", {**MAP, "image_size": (8, 16)}, "`image_size` must be"),
    ("huggingface_clip", {**MAP, "pooling": "token"}, "pre_norm="),
    (
        "huggingface_clip",  # its bias is random, and CLIP's projection has none
        {**MAP, "pooling": "token", "pre_norm": True, "representation_size": 8}
        | {"representation_activation": "linear"},
        "pre_logits/bias",
    ),
    ("huggingface", {"pooling": "gap"}, "pooling="),
    ("huggingface", {"num_register_tokens": 2}, "num_register_tokens="),
    ("huggingface", {"patch_norm": True}, "patch_norm="),
    ("huggingface", {"positions": "sincos2d"}, "positions="),
    ("huggingface", {"representation_size": 8}, "representation_size="),
    ("huggingface", {"head_dim": 5}, "head_dim="),
    ("huggingface", {"qk_norm": True}, "query_norm"),
    ("huggingface", {"pre_norm": True}, "clip cannot express.*include_top="),
    ("huggingface_vit", {"pre_norm": True}, "pre_norm"),
    ("huggingface", {"fc_norm": True}, "fc_norm"),
    ("huggingface", {"layer_scale_init_value": 0.1}, "include_top="),
    ("huggingface_vit", {"layer_scale_init_value": 0.1}, "layer_scale1"),
    ("huggingface_vit", {"distillation_token": True}, "distillation_token="),
    ("huggingface_deit", {}, "distillation_token="),
    (
        "huggingface_deit",
        {"distillation_token": True, "representation_size": 8},
        "representation_size=",
    ),
    ("augreg", {}, "mlp_activation="),
    ("augreg", {"pooling": "map", **TANH}, "pooling="),
    ("augreg", {"pooling": "gap", "class_token": True, **TANH}, "pooling="),
    ("augreg", {"num_register_tokens": 2, **TANH}, "register_tokens"),
    ("augreg", {"distillation_token": True, **TANH}, "distillation_token"),
    ("augreg", {"positions": "sincos2d", **TANH}, "positions="),
    ("augreg", {"qkv_bias": False, **TANH}, "qkv_bias="),
    ("augreg", {"head_dim": 5, **TANH}, "head_dim="),
    ("augreg", {"patch_norm": True, **TANH}, "norm_before"),
    ("timm", {"patch_norm": True}, "patch_norm="),
    ("timm", {"mlp_activation": "quick_gelu"}, "mlp_activation="),
    ("huggingface", {"mlp_out_activation": "gelu"}, "mlp_out_activation="),
    ("timm", {"head_dim": 5}, "head_dim="),
    ("timm", {"representation_size": 8}, "representation_size="),
    ("timm", {"positions": "sincos2d"}, "positions="),
    (
        "timm",
        {"distillation_token": True, "num_register_tokens": 2},
        "num_register_tokens=",
    ),
    (
        "timm",
        {"distillation_token": True, "position_prefix": False},
        "position_prefix=",
    ),
]


@pytest.mark.parametrize("layout,changes,field", REFUSED)
def test_what_a_layout_can_not_express(layout, changes, field, tmp_path):
    model = randomise(create_model(tiny(**changes)))
    with pytest.raises(CheckpointError, match=field):
        vit_keras.save_checkpoint(model, tmp_path / "model", layout)
    assert not list(tmp_path.iterdir())


def test_mlp_of_dinov2_is_a_multiple(tmp_path):
    config = tiny(layer_scale_init_value=1.0, include_top=False, mlp_dim=24)
    with pytest.raises(CheckpointError, match="mlp_dim"):
        vit_keras.save_checkpoint(
            create_model(config), tmp_path / "model", "huggingface"
        )
    assert not list(tmp_path.iterdir())


def test_features_of_another_norm_are_refused(tmp_path):
    """Nobody else leaves both norms out."""
    model = create_model(tiny(pooling="gap", fc_norm=True), task="features")
    with pytest.raises(CheckpointError, match="lacks.*fc_norm"):
        vit_keras.save_checkpoint(model, tmp_path / "model", "timm")


def test_another_epsilon_is_said(tmp_path):
    model = create_model(tiny(norm_epsilon=1e-3))
    with pytest.warns(UserWarning, match="norm_epsilon=1e-06, the model with 0.001"):
        vit_keras.save_checkpoint(model, tmp_path / "model", "timm")


def test_unknown_layout_lists_the_known(tmp_path):
    model = create_model(tiny())
    for layout in ("tim", "big_vision", "keras_hub", "", None):  # some are only read
        with pytest.raises(ValueError) as error:
            vit_keras.save_checkpoint(model, tmp_path / "model", layout)
        assert f"{layout!r}" in str(error.value)
        for name in ("'huggingface'", "augreg", "timm", "huggingface_vit"):
            assert name in str(error.value)
    assert "augreg" in writer.WRITABLE and "big_vision" not in writer.WRITABLE


@pytest.mark.parametrize(
    "layout,file",
    [
        ("timm", "model.npz"),
        ("timm", "model.pth"),
        ("huggingface", "pytorch_model.bin"),
        ("augreg", "model.safetensors"),
        ("augreg", "model.h5"),
    ],
)
def test_wrong_suffix(layout, file, tmp_path):
    model = create_model(tiny(**TANH))
    with pytest.raises(ValueError, match="`path` must end in"):
        vit_keras.save_checkpoint(model, tmp_path / file, layout)
    assert not list(tmp_path.iterdir())


def test_wrong_model(tmp_path):
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    for wrong in (None, "vit_ti16", plain, tiny()):
        with pytest.raises(ValueError, match="`model` must come from"):
            vit_keras.save_checkpoint(wrong, tmp_path / "model", "timm")
    assert not list(tmp_path.iterdir())


def test_a_layer_of_the_user_has_no_place(tmp_path):
    model = create_model(tiny())
    extra = keras.layers.Dense(3, name="mine")(model.output)
    grown = vit_keras.VisionTransformer(
        model.inputs, extra, "grown", config=model.config, task="classify"
    )
    with pytest.raises(CheckpointError, match="no name for 2 weights.*mine/kernel"):
        vit_keras.save_checkpoint(grown, tmp_path / "model", "timm")


# --- all or nothing ------------------------------------------------------------------


def contents(folder):
    files = pathlib.Path(folder).rglob("*")
    return {p.name: p.read_bytes() for p in files if p.is_file()}


@pytest.mark.parametrize("failing", [".safetensors", ".json"])
def test_a_full_disk_leaves_the_earlier_files(failing, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    vit_keras.save_checkpoint(model_of(tiny()), folder, "timm")
    before = contents(folder)
    assert before.keys() == {"model.safetensors", "config.json"}
    write = writer._write

    def full(file, suffix, content):
        if suffix == failing:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, suffix, content)

    monkeypatch.setattr(writer, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        vit_keras.save_checkpoint(
            randomise(create_model(tiny(mlp_dim=32)), seed=9), folder, "timm"
        )
    assert contents(folder) == before


def test_a_full_disk_leaves_no_first_file(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        vit_keras.save_checkpoint(
            create_model(tiny(**TANH)), tmp_path / "model.npz", "augreg"
        )
    assert contents(tmp_path) == {}


def test_an_earlier_model_is_replaced(tmp_path):
    folder = tmp_path / "model"
    vit_keras.save_checkpoint(create_model(tiny()), folder, "timm")
    model = model_of(tiny(), mlp_dim=32)
    assert vit_keras.save_checkpoint(model, str(folder), "timm") == folder
    assert contents(folder).keys() == {"model.safetensors", "config.json"}
    again = vit_keras.from_checkpoint(folder)
    assert again.config.mlp_dim == 32


def test_a_path_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        vit_keras.save_checkpoint(
            create_model(tiny()), tmp_path / "file" / "model", "timm"
        )
    assert contents(tmp_path) == {"file": b"in the way"}

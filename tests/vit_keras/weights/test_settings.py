"""Settings beside the weights, and an index of shards."""

import json
import re

import pytest

from tests.vit_keras.weights.golden_files import (
    GOLDEN,
    arrays_of,
    blank,
    config_of,
    equal,
    hf_folder,
    refused,
    saved,
    values,
)
from vit_keras import CheckpointError, Preprocessing, from_checkpoint, load_weights
from vit_keras.weights.describe import describe
from vit_keras.weights.loader import find
from vit_keras.weights.recognise import recognise

# --- Settings beside the weights --------------------------------------------------


def test_hugging_face_settings(tmp_path):
    p, q = config_of("hf-vit").patch_size
    path = hf_folder(
        tmp_path,
        {
            "num_attention_heads": 4,
            "layer_norm_eps": 1e-3,
            "hidden_act": "gelu_new",
            "image_size": [2 * p, 8 * q],
        },
        {
            "image_mean": [0.1, 0.2, 0.3],
            "image_std": [0.4, 0.5, 0.6],
            "resample": 2,
            "do_center_crop": True,
            "size": {"shortest_edge": 256},
            "crop_size": {"height": 224, "width": 224},
        },
    )
    for file in (path, path / "model.safetensors"):  # beside is beside
        config = describe(recognise(find(file)))
        assert config.num_heads == 4
        assert config.norm_epsilon == 1e-3
        assert config.mlp_activation == "gelu_tanh"
        assert config.image_size == (2 * p, 8 * q)
        assert config.preprocessing == Preprocessing(
            (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 0.875
        )
    assert from_checkpoint(path).config.num_heads == 4


ONES = {"image_mean": [1, 1, 1], "image_std": [1, 1, 1]}


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}, {"mean": (0, 0, 0)}),
        ({"do_normalize": False, "image_mean": [0.5] * 3}, {"mean": (0, 0, 0)}),
        (
            {"rescale_factor": 1 / 127.5, **ONES},
            {"mean": (0.5,) * 3, "std": (0.5,) * 3},
        ),
        (
            {"do_rescale": False, **ONES},
            {"mean": (1 / 255,) * 3, "std": (1 / 255,) * 3},
        ),
        ({"resample": 0}, {"interpolation": "nearest"}),
        ({"resample": 1}, {"interpolation": "lanczos"}),
        ({"resample": 3}, {"interpolation": "bicubic"}),
        ({"do_center_crop": True, "size": 256, "crop_size": 192}, {"crop": 0.75}),
        ({"do_center_crop": False, "size": 256, "crop_size": 192}, {"crop": 1.0}),
        ({"do_center_crop": True, "size": 200, "crop_size": 224}, {"crop": 1.0}),
    ],
)
def test_hugging_face_images(tmp_path, images, expected):
    path = hf_folder(tmp_path, images=images)
    found = describe(recognise(find(path))).preprocessing
    for field, value in expected.items():
        assert getattr(found, field) == value


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_act": "mish"},
        {"hidden_act": ["gelu"]},
        {"num_attention_heads": None},
        {"num_attention_heads": [2]},
        {"num_attention_heads": 3},
        {"layer_norm_eps": "small"},
        {"layer_norm_eps": -1},
        {"image_size": "large"},
        {"image_size": 0},
        {"image_size": 17},
        {"image_size": {"height": 16}},
        {"patch_size": 0},
    ],
)
def test_hugging_face_settings_that_can_not_be(tmp_path, settings):
    path = hf_folder(tmp_path, settings)
    with pytest.raises(CheckpointError, match="settings") as caught:
        from_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "images",
    [
        {"resample": 5},
        {"image_mean": 3, "image_std": 3},
        {"image_mean": [0.5, 0.5, 0.5]},
        {"image_mean": [0.5], "image_std": [0.5]},
        {"image_mean": [0.5] * 3, "image_std": [0] * 3},
        {"do_center_crop": True, "size": 256, "crop_size": -1},
        {"do_center_crop": True, "size": {"a": "b"}, "crop_size": 1},
    ],
)
def test_hugging_face_images_that_can_not_be(tmp_path, images):
    path = hf_folder(tmp_path, images=images)
    with pytest.raises(CheckpointError, match="settings") as caught:
        from_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "nul", '{"a": ' + "[" * 99_999])
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_broken_json_is_refused(tmp_path, file, text):
    path = hf_folder(tmp_path)
    (path / file).write_text(text)
    with pytest.raises(CheckpointError, match="JSON") as caught:
        from_checkpoint(path)
    assert str(path / file) in str(caught.value)
    with refused(model := blank("hf-vit"), str(path / file)):
        load_weights(model, path)


def timm_folder(folder, model=None, images=None, **settings):
    saved(folder, arrays_of("timm-folder"))
    data = json.loads((GOLDEN / "timm-folder" / "config.json").read_text())
    data["model_args"] |= model or {}
    data["pretrained_cfg"] |= images or {}
    (folder / "config.json").write_text(json.dumps(data | settings))
    return folder


def test_timm_settings(tmp_path):
    p, q = config_of("timm-folder").patch_size
    path = timm_folder(
        tmp_path,
        {"num_heads": 4, "act_layer": "gelu_tanh", "img_size": [2 * p, 8 * q]},
        {
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "crop_pct": 0.75,
            "interpolation": "bilinear",
        },
    )
    config = from_checkpoint(path).config
    assert config.num_heads == 4 and config.mlp_activation == "gelu_tanh"
    assert config.image_size == (2 * p, 8 * q)
    assert config.preprocessing == Preprocessing(
        (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 0.75
    )


@pytest.mark.parametrize(
    ("pool", "expected"), [("token", "token"), ("avg", "gap"), ("", None)]
)
def test_timm_pooling(tmp_path, pool, expected):
    path = timm_folder(tmp_path, {"global_pool": pool})
    config = describe(recognise(find(path)))
    assert config.pooling == expected
    assert config.include_top == (pool != "")


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"act_layer": "mish"}},
        {"model": {"num_heads": "many"}},
        {"model": {"global_pool": ["avg"]}},
        {"images": {"interpolation": "random"}},
        {"images": {"crop_pct": 0}},
        {"images": {"mean": "grey"}},
        {"model_args": [1]},
        {"pretrained_cfg": 3},
    ],
)
def test_timm_settings_that_can_not_be(tmp_path, settings):
    path = timm_folder(tmp_path, **settings)
    with pytest.raises(CheckpointError, match="settings") as caught:
        from_checkpoint(path)
    assert str(path) in str(caught.value)


# --- An index of shards -----------------------------------------------------------


def index(folder, changes=None, data=None):
    """The golden shards with another index."""
    for file in (GOLDEN / "hf-sharded").glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    path = folder / "model.safetensors.index.json"
    if data is None:
        data = json.loads(path.read_text())
        data["weight_map"] |= changes or {}
    path.write_text(json.dumps(data))
    return path


def test_shards_are_one_file(tmp_path):
    path = index(tmp_path)
    expected = values(from_checkpoint(GOLDEN / "hf-sharded"))
    equal(values(from_checkpoint(path)), expected)
    whole = tmp_path / "whole"
    saved(whole, arrays_of("hf-sharded"))
    (whole / "config.json").write_bytes((tmp_path / "config.json").read_bytes())
    equal(values(from_checkpoint(whole)), expected)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("model-00009-of-00009.safetensors", "names a missing shard 'model-00009"),
        ("../x.safetensors", "'../x.safetensors' is no file name"),
        ("sub/x.safetensors", "is no file name"),
        ("/etc/passwd", "'/etc/passwd' is no file name"),
        ("", "'' is no file name"),
        (".", "'.' is no file name"),
        ("..", "missing shard"),
        ("x" * 5000, "missing shard"),
        ("a\0b", "missing shard"),
        (3, "3 is no file name"),
        (None, "None is no file name"),
        ("model.safetensors.index.json", "must end in one of"),
        ("model-00001-of-00003.safetensors", "does not hold 'other.weight'"),
    ],
)
def test_an_index_leads_only_to_its_shards(tmp_path, file, words):
    (tmp_path / "x.safetensors").write_bytes(b"never read")
    folder = tmp_path / "folder"
    folder.mkdir()
    path = index(folder, {"other.weight": file})
    for start in (path, folder):
        with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
            open_whole(start)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 600


def open_whole(path):
    if path.is_dir():  # else the folder would be read by its `model.safetensors`
        assert not (path / "model.safetensors").exists()
    return from_checkpoint(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "must have a `weight_map`"),
        ({"weight_map": []}, "must have a `weight_map`"),
        ({"weight_map": {}}, "holds no arrays"),
        ([], "must hold a JSON object"),
    ],
)
def test_an_index_of_nothing(tmp_path, data, words):
    with pytest.raises(CheckpointError, match=words):
        from_checkpoint(index(tmp_path, data=data))


def test_a_damaged_shard_changes_nothing(tmp_path):
    path = index(tmp_path)
    shard = tmp_path / "model-00003-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-5])
    with refused(model := blank("hf-sharded"), str(shard)):
        load_weights(model, path)

"""Image encoders of open_clip: settings, and what is refused."""

import json
import shutil

import pytest

from tests.vit_keras.weights.golden_files import GOLDEN, arrays_of, file_of, saved
from vit_keras import CheckpointError, from_checkpoint
from vit_keras.weights.loader import find
from vit_keras.weights.recognise import recognise

FILE = "open_clip_config.json"


def folder(path, vision=None, images=None, **model):
    """A copy of the golden folder with other settings."""
    shutil.copytree(GOLDEN / "open-clip", path, dirs_exist_ok=True)
    data = json.loads((path / FILE).read_text())
    data["model_cfg"] |= model
    data["model_cfg"]["vision_cfg"] |= vision or {}
    data["preprocess_cfg"] |= images or {}
    (path / FILE).write_text(json.dumps(data))
    return path


def test_settings(tmp_path):
    config = from_checkpoint(folder(tmp_path)).config
    assert (config.mlp_activation, config.num_heads) == ("quick_gelu", 2)
    images = config.preprocessing
    assert images.mean == (0.4, 0.5, 0.6) and images.interpolation == "bicubic"
    assert (images.resize, images.crop) == ("cover", 1.0)


@pytest.mark.parametrize(
    ("vision", "model", "activation"),
    [
        ({}, {"quick_gelu": False}, "gelu"),
        ({"act_kwargs": {"approximate": "tanh"}}, {"quick_gelu": False}, "gelu_tanh"),
        ({}, {"quick_gelu": True}, "quick_gelu"),
    ],
)
def test_activations(vision, model, activation, tmp_path):
    config = from_checkpoint(folder(tmp_path, vision, **model)).config
    assert config.mlp_activation == activation


def test_other_values(tmp_path):
    vision = {"norm_kwargs": {"eps": 1e-6}, "pool_type": "avg", "head_width": 2}
    path = folder(tmp_path, vision, {"resize_mode": "squash"})
    config = from_checkpoint(path).config
    assert (config.norm_epsilon, config.pooling) == (1e-6, "gap")
    assert config.num_heads == 4 and config.preprocessing.resize == "stretch"


@pytest.mark.parametrize(
    ("vision", "words"),
    [
        ({"width": 16}, "`width` must be 8, as in the arrays"),
        ({"layers": 3}, "`layers` must be 2, as in the arrays"),
        ({"ls_init_value": 0.1}, "`ls_init_value` must fit the arrays"),
        ({"pool_type": "none"}, "`pool_type` must be one of 'tok', 'avg'"),
        ({"final_ln_after_pool": True}, "`final_ln_after_pool` must be False"),
        ({"attentional_pool": True}, "`attentional_pool` must be False"),
        ({"scale_heads": True}, "`scale_heads` is no known setting"),
        ({"timm_model_name": "vit_new"}, "`timm_model_name` is no known setting"),
        ({"act_kwargs": {"approximate": "sin"}}, "`act_kwargs` must be"),
    ],
)
def test_settings_that_are_refused(vision, words, tmp_path):
    with pytest.raises(CheckpointError, match=words):
        from_checkpoint(folder(tmp_path, vision))


@pytest.mark.parametrize(
    ("images", "model", "words"),
    [
        ({"resize_mode": "longest"}, {}, "`resize_mode` must be one of 'shortest'"),
        ({"interpolation": "random"}, {}, "`interpolation`"),
        ({}, {"embed_dim": 5}, "`embed_dim` must be 6, as in the arrays"),
        ({}, {"multimodal_cfg": {"heads": 2}}, "`multimodal_cfg` is no known setting"),
    ],
)
def test_other_settings_that_are_refused(images, model, words, tmp_path):
    with pytest.raises(CheckpointError, match=words):
        from_checkpoint(folder(tmp_path, None, images, **model))


def test_a_bare_file_does_not_tell_the_activation(tmp_path):
    match = recognise(find(file_of("open-clip-bare")))
    assert {"mlp_activation", "pooling", "num_heads"} <= set(match.undecided)
    with pytest.warns(UserWarning, match="assumed is: mlp_activation='gelu'"):
        from_checkpoint(file_of("open-clip-bare"), num_heads=2)


def test_a_text_encoder_is_no_image_encoder(tmp_path):
    arrays = arrays_of("open-clip")
    text = {n: a for n, a in arrays.items() if not n.startswith("visual.")}
    with pytest.raises(CheckpointError, match="fits no known layout"):
        recognise(find(saved(tmp_path, text)))


def test_settings_of_transformers_beside_are_not_its_own(tmp_path):
    """Folders on a hub may hold the same model in the files of both."""
    path = folder(tmp_path)
    (path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    assert from_checkpoint(path).config.mlp_activation == "quick_gelu"
    file = path / "open_clip_model.safetensors"
    assert from_checkpoint(file).config.num_heads == 2


def test_a_pooling_of_its_own_is_refused(tmp_path):
    """CoCa's, and Perception Encoder's in Meta's names."""
    arrays = arrays_of("open-clip")
    arrays["visual.attn_pool.probe"] = arrays["visual.proj"][None, :1]
    with pytest.raises(CheckpointError, match="in the file, but not in the model"):
        from_checkpoint(saved(tmp_path, arrays), num_heads=2, assume={})

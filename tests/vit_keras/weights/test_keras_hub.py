"""keras-hub's presets and `.keras` files: settings read, refused, and left open."""

import json
import shutil
import zipfile

import h5py
import numpy as np
import pytest

from tests.models import run
from tests.vit_keras.weights.golden_files import GOLDEN, TOLERANCE, golden
from vit_keras import CheckpointError, from_checkpoint
from vit_keras.weights.loader import find
from vit_keras.weights.recognise import recognise


def preset(folder, case, file="config.json", **settings):
    """A copy of a golden preset with other settings of its model."""
    shutil.copytree(GOLDEN / case, folder / case)
    path = folder / case / file
    data = json.loads(path.read_text())
    data["config"] |= settings
    path.write_text(json.dumps(data))
    return folder / case


def unpacked(folder):
    """The golden `.keras`, as a folder."""
    with zipfile.ZipFile(GOLDEN / "kh-siglip" / "model.keras") as archive:
        archive.extractall(folder)
    return folder


def packed(folder, config, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(folder / "model.keras", "w", compression) as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.write(folder / "model.weights.h5", "model.weights.h5")
    return folder / "model.keras"


@pytest.mark.parametrize(
    ("case", "settings", "words"),
    [
        ("kh-dinov3", {"hidden_dim": 16}, "`hidden_dim` must be 8, as in the arrays"),
        ("kh-dinov3", {"use_gated_mlp": True}, "`use_gated_mlp` must fit the arrays"),
        ("kh-dinov3", {"use_key_bias": True}, "`use_key_bias` must fit the arrays"),
        ("kh-dinov3", {"num_register_tokens": 0}, "`num_register_tokens` must fit"),
        ("kh-dinov3", {"hidden_activation": "elu"}, "the activation must be one of"),
        ("kh-dinov3", {"use_window": True}, "`use_window` is no known setting"),
        ("kh-dinov2-gated", {"use_swiglu_ffn": False}, "`use_swiglu_ffn` must fit"),
        ("kh-deit", {"patch_size": [4, 8]}, "`patch_size` must be 4"),
    ],
)
def test_settings_that_are_not_those_of_the_arrays_are_refused(
    tmp_path, case, settings, words
):
    with pytest.raises(CheckpointError, match=words):
        from_checkpoint(preset(tmp_path, case, **settings))


def test_means_of_all_tokens_are_refused(tmp_path):
    folder = preset(tmp_path, "kh-deit", "task.json", pooling="gap")
    with pytest.raises(CheckpointError, match="`pooling` must be 'token'"):
        from_checkpoint(folder)


def test_other_models_are_refused_by_their_class(tmp_path):
    path = preset(tmp_path, "kh-dinov3") / "config.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "class_name": "MobileNetBackbone"}))
    with pytest.raises(CheckpointError, match="`class_name`.*'MobileNetBackbone'"):
        from_checkpoint(path.parent)
    path.write_text(json.dumps({**data, "class_name": "DeiTBackbone"}))
    with pytest.raises(CheckpointError, match="`class_name`.*'DeiTBackbone'"):
        from_checkpoint(path.parent)


def test_an_epsilon_that_the_last_norm_has_not_is_refused(tmp_path):
    config = json.loads((unpacked(tmp_path) / "config.json").read_text())
    config["config"]["vision_encoder"]["config"]["layer_norm_epsilon"] = 1e-5
    with pytest.raises(CheckpointError, match="`layer_norm_epsilon` must be 1e-06"):
        from_checkpoint(packed(tmp_path, config))


def test_what_weights_alone_leave_open_is_said(tmp_path):
    folder = unpacked(tmp_path)
    (folder / "config.json").unlink()
    with pytest.warns(match="mlp_activation='gelu_tanh', norm_epsilon=1e-06"):
        model = from_checkpoint(folder / "model.weights.h5")
    images, outputs = golden("kh-siglip")
    np.testing.assert_allclose(run(model, images), outputs, rtol=0, atol=TOLERANCE)


def test_what_weights_alone_of_a_classifier_and_of_dinov3_leave_open(tmp_path):
    def left(case):
        file = tmp_path / f"{case}.weights.h5"
        shutil.copy(GOLDEN / case / "model.weights.h5", file)
        return recognise(find(file)).undecided

    assert left("kh-token") == ("norm_epsilon", "pooling", "activation")
    assert left("kh-deit") == ("norm_epsilon", "pooling")  # the head is elsewhere
    assert left("kh-dinov2") == ()
    rotary = ("mlp_activation", "norm_epsilon", "rotary_temperature", "num_heads")
    assert left("kh-dinov3") == rotary


def test_the_activation_of_the_head_is_told(tmp_path):
    folder = preset(tmp_path, "kh-deit", "task.json", activation="softmax")
    outputs = run(from_checkpoint(folder), golden("kh-deit")[0])
    expected = np.exp(golden("kh-deit")[1])
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=TOLERANCE)


def test_the_image_converter_is_the_preprocessing(tmp_path):
    folder = preset(tmp_path, "kh-dinov3")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    settings = {
        "scale": [1 / 255 / s for s in std],
        "offset": [-m / s for m, s in zip(mean, std, strict=True)],
        "interpolation": "bicubic",
        "crop_to_aspect_ratio": False,
    }
    text = json.dumps({"class_name": "DINOV3ImageConverter", "config": settings})
    (folder / "image_converter.json").write_text(text)
    found = from_checkpoint(folder).config.preprocessing
    np.testing.assert_allclose(found.mean, mean)
    np.testing.assert_allclose(found.std, std)
    assert (found.interpolation, found.resize) == ("bicubic", "stretch")


@pytest.mark.parametrize("settings", [None, True, False])
def test_one_token_is_the_mask_or_a_register_as_the_settings_say(tmp_path, settings):
    number = 0 if settings else 1
    options = {"use_mask_token": settings, "num_register_tokens": number}
    folder = preset(tmp_path, "kh-dinov3", **options)
    with h5py.File(folder / "model.weights.h5", "a") as file:
        del file["layers/dinov3_embedding/vars/2"]  # the registers; the mask is left
    if settings is None:
        with pytest.raises(CheckpointError, match="the mask or a register"):
            from_checkpoint(folder)
    else:
        assert from_checkpoint(folder).config.num_register_tokens == number


def test_a_compressed_or_cut_archive_is_refused(tmp_path):
    config = json.loads((unpacked(tmp_path) / "config.json").read_text())
    file = packed(tmp_path, config, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="is compressed"):
        from_checkpoint(file)
    file = packed(tmp_path, config)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(CheckpointError, match="cannot be opened"):
        from_checkpoint(file)

"""Models with outputs at each pixel: shapes, decoders, taps, resizing, errors."""

import keras
import numpy as np
import pytest

from tests.models import MAP_IMAGES as IMAGES
from tests.models import MAP_SIZES as SIZES
from tests.models import run, slow_but
from vit_keras import ViTConfig, create_model
from vit_keras.config import DECODERS
from vit_keras.decoders import DECODERS as FUNCTIONS
from vit_keras.layers import Resize, Unpatchify

# Decoders that read another number of blocks than one.
TAPS = {"dpt": 4}


def small(decoder="linear", task="segment", **options):
    options = {**SIZES, "classes": 5, "taps": TAPS.get(decoder, 1), **options}
    return create_model("vit_ti16", task=task, decoder=decoder, **options)


def test_the_names_are_those_of_the_functions():
    assert tuple(FUNCTIONS) == DECODERS


@pytest.mark.parametrize(
    "decoder, taps",
    slow_but(
        [("linear", 1), ("upconv", (0, 3)), ("mask", 2), ("dpt", 4), ("eomt", 1)],
        [
            *((name, taps) for name in DECODERS[:3] for taps in (1, 2, (0, 3))),
            *(("dpt", 4), ("dpt", (0, 1, 2, 3)), ("eomt", 1)),
        ],
    ),
)
def test_logits_have_the_size_of_the_image(decoder, taps, tmp_path):
    model = small(decoder, taps=taps, num_register_tokens=2)
    outputs = run(model, IMAGES)
    assert outputs.shape == (2, 32, 48, 5) and outputs.dtype == "float32"
    assert model.config.head == "segmentation"
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(run(again, IMAGES), outputs)
    assert again.config == model.config


def test_prefix_tokens_take_part_but_are_not_decoded():
    """Logits depend on a class token through attention; there are none of its own."""
    model = small()
    before = run(model, IMAGES)
    token = np.random.default_rng(0).normal(size=(1, 1, 32))
    model.get_layer("class_token").token.assign(token)
    assert np.abs(run(model, IMAGES) - before).max() > 1e-3
    assert model.get_layer("decoder_patches").output.shape == (None, 24, 32)


def test_depth_is_one_channel():
    model = small(task="depth", classes=1, activation="softplus")
    outputs = run(model, IMAGES)
    assert outputs.shape == (2, 32, 48, 1) and (outputs > 0).all()
    assert create_model("vit_ti16", task="depth", **SIZES).config.classes == 1


def test_features_of_several_blocks_are_side_by_side():
    model = small(task="features", taps=2)
    both = run(model, IMAGES)
    assert both.shape == (2, 25, 64)
    last = small(task="features")
    last.set_weights(model.get_weights())
    assert np.array_equal(run(last, IMAGES), both[..., 32:])


@pytest.mark.parametrize(
    "count, blocks", [(1, (3,)), (2, (1, 3)), (4, (0, 1, 2, 3)), ((1, 3), (1, 3))]
)
def test_taps_are_at_equal_distances(count, blocks):
    assert ViTConfig(num_layers=4, taps=count).tap_blocks == blocks


@pytest.mark.parametrize("taps", [0, 5, (), (0, 2), (3, 1), (3, 3), "4", (1.0, 3)])
def test_taps_that_are_none(taps):
    with pytest.raises(ValueError, match="`taps` must be"):
        ViTConfig(num_layers=4, taps=taps)


def test_a_head_of_another_task_is_refused():
    with pytest.raises(ValueError, match="`head` must be one of segmentation"):
        small(head="softmax")
    with pytest.raises(ValueError, match="`decoder` must be one of"):
        small("unet")


@pytest.mark.parametrize(
    ("task", "classes", "valid"),
    [("depth", 3, "1 for"), ("segment", 1, "2 to 255"), ("segment", 256, "2 to 255")],
)
def test_outputs_that_no_map_has(task, classes, valid):
    """Of a depth only the first would be trained; a mask of uint8 ends at 255."""
    with pytest.raises(ValueError, match=f"`classes` must be {valid}"):
        small(task=task, classes=classes)


@pytest.mark.parametrize(
    ("task", "given", "words"),
    [
        ("classify", {"decoder": "dpt"}, "`decoder` .* it is for segment, depth. "),
        ("classify", {"taps": 2}, "`taps` .* it is for features, segment, depth. "),
        ("classify", {"depth_type": "inverse"}, "`depth_type` .*segment, depth. "),
        ("features", {"decoder_width": 8}, "`decoder_width` .* for segment, depth. "),
        (
            "segment",
            {"representation_size": 8},
            "`representation_size` .* for classify. ",
        ),
        ("depth", {"include_top": False}, "`include_top` .* classify, features. "),
    ],
)
def test_options_of_other_tasks_are_refused(task, given, words):
    with pytest.raises(ValueError, match=words):
        create_model("vit_ti16", task=task, **SIZES, **given)


def test_a_decoder_on_the_weights_of_a_classifier(tmp_path):
    classifier = create_model("vit_ti16", **SIZES, classes=5)
    path = tmp_path / "model.keras"
    classifier.save(path)
    with pytest.warns(UserWarning, match="left fresh: decoder_head/kernel"):
        model = create_model(
            "vit_ti16", task="segment", **{**SIZES, "classes": 7}, weights=path
        )
    kept = classifier.get_layer("encoderblock_2").get_weights()
    for ours, theirs in zip(
        model.get_layer("encoderblock_2").get_weights(), kept, strict=True
    ):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("size", [(42, 30), (3, 4), (7, 9), (2, 3)])
def test_resizing_is_a_product_with_two_matrices(size, aligned):
    layer = Resize(size, align_corners=aligned)
    maps = np.random.default_rng(0).normal(size=(1, 3, 4, 2)).astype("float32")
    rows, columns = layer.matrix(3, size[0]), layer.matrix(4, size[1])
    expected = np.einsum("Hh,nhwc,Ww->nHWc", rows, maps, columns)
    # Rounding of float32 alone.
    assert np.abs(np.asarray(layer(maps)) - expected).max() < 1e-6


def test_unpatchify_is_the_inverse_of_cutting_patches():
    image = np.arange(2 * 6 * 9 * 2, dtype="float32").reshape(2, 6, 9, 2)
    patches = image.reshape(2, 2, 3, 3, 3, 2).transpose(0, 1, 3, 2, 4, 5)
    found = Unpatchify(3)(patches.reshape(2, 2, 3, 18))
    assert np.array_equal(np.asarray(found), image)

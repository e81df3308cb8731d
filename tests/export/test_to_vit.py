"""A plain ViT of another library becomes a `VisionTransformer`."""

import keras
import numpy as np
import pytest

import export
from export.graph.find_vit import find_vit
from tests.export.recognition import builders
from tests.models import slow_but
from vit_keras import VisionTransformer
from vit_keras.preprocessing import normalize

EQUAL = 1e-5  # of the outputs' range


def class_token():
    """A ViT as in the paper, of stock layers, with a sigmoid for each label."""
    images = keras.Input((builders.SIZE, builders.SIZE, 3))
    x = builders.encode(builders.embed(images, token=True), 2)
    x = builders.pool(builders.norm(x), "token")
    outputs = keras.layers.Dense(builders.CLASSES, activation="sigmoid")(x)
    return keras.Model(images, outputs)


# name -> (builder, preprocessing that must be given, whether all of it is a ViT)
PLAIN = {
    "keras.io, Rescaling, softmax": (builders.keras_io, None, True),
    "class token": (class_token, "imagenet", True),
    "tutorial": (builders.tutorial, None, False),
    "all tokens pooled": (builders.all_tokens_pooled, "0..1", False),
}
HUB = {"vit": True, "deit": True, "dinov2": True, "siglip": True, "clip": True}


def check(model, preprocessing, whole, tmp_path):
    """Convert, compare, save, open and train."""
    vit = export.to_vit(model, preprocessing=preprocessing)
    inside = find_vit(vit)
    assert isinstance(inside, VisionTransformer)
    assert (inside is vit) == whole
    pixels = np.random.default_rng(3).uniform(0, 255, (4, *model.input_shape[1:]))
    normalised = normalize(pixels, inside.config.preprocessing)
    fed = pixels if preprocessing is None else normalised
    expected = np.asarray(model(fed, training=False))
    actual = np.asarray(vit(normalised, training=False))
    assert np.abs(actual - expected).max() < EQUAL * np.ptp(expected)
    vit.save(tmp_path / "vit.keras")
    again = keras.models.load_model(tmp_path / "vit.keras")
    np.testing.assert_array_equal(np.asarray(again(normalised)), actual)
    vit.compile("sgd", "mse", jit_compile=False, run_eagerly=True)
    vit.fit(normalised, np.zeros_like(actual), epochs=1, verbose=0)
    assert np.abs(np.asarray(vit(normalised)) - actual).max() > 0
    return vit


@pytest.mark.parametrize("name", slow_but(("class token", "tutorial"), PLAIN))
def test_a_vit_of_stock_layers(name, tmp_path):
    builder, preprocessing, whole = PLAIN[name]
    keras.utils.set_random_seed(0)
    model = builders.randomise(builder())
    vit = check(model, preprocessing, whole, tmp_path)
    if name == "class token":  # what only our ViTs have
        config = vit.config
        assert config.class_token and config.num_layers == 2
        assert (config.head, config.activation) == ("multi_label", "sigmoid")
        report = export.to_tflite(vit, tmp_path / "m.tflite")
        assert report.parity.sqnr_db > 100


# `recognition` has the others, too.
@pytest.mark.parametrize("kind", slow_but(("vit", "dinov2"), HUB))
def test_a_vit_of_keras_hub(kind, tmp_path):
    pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    model = builders.randomise(builders.hub(kind))
    check(model, "-1..1", HUB[kind], tmp_path)


def test_layers_in_front_stay_in_front(tmp_path):
    keras.utils.set_random_seed(0)
    model = builders.randomise(builders.hybrid())
    result = export.to_vit(model)
    assert find_vit(result) is not None and result.layers[1] is model.layers[1]
    pixels = np.random.default_rng(3).uniform(0, 255, (4, *model.input_shape[1:]))
    expected = np.asarray(model(pixels, training=False))
    actual = np.asarray(result(pixels, training=False))
    assert np.abs(actual - expected).max() < EQUAL * np.ptp(expected)


def test_what_an_input_means_is_never_guessed():
    model = class_token()
    with pytest.raises(ValueError, match="give `preprocessing`, such as '0..1'"):
        export.to_vit(model)


@pytest.mark.parametrize(
    "builder, reason",
    [
        (builders.rms_normed, "RMS norm"),
        (builders.without_attention, "plain ViT of the kind of vit_keras: "),
    ],
)
def test_what_is_no_such_vit_is_refused_with_the_reason(builder, reason):
    with pytest.raises(ValueError, match=reason):
        export.to_vit(builders.randomise(builder()), preprocessing="-1..1")


def test_a_vit_of_this_package_is_returned_as_it_is(model):
    assert export.to_vit(model) is model

"""The drop-in module has the signatures and the behaviour of vit-keras 0.2."""

import inspect

import keras
import numpy as np
import pytest

from tests.models import JIT, SAME, randomise, run, weights_of, without_memory
from vit_keras import PRESETS, ViTConfig, create_model, save_checkpoint, vit

EMPTY = inspect.Parameter.empty
WEIGHTS = "imagenet21k+imagenet2012"
SIZES = {
    "image_size": 16,
    "patch_size": 8,
    "num_layers": 2,
    "hidden_size": 16,
    "num_heads": 2,
    "name": "small",
    "mlp_dim": 24,
    "classes": 5,
}
# Each is one of our presets, whose number of weights is tested, with other defaults.
VARIANTS = {
    "vit_b16": ("vit-b16", (224, 224), "vit_b16"),
    "vit_b32": ("vit-b32", (224, 224), "vit_b32"),
    "vit_l16": ("vit-l16", (384, 384), "vit_l16"),
    "vit_l32": ("vit-l32", (384, 384), "vit_l32"),
}


def signature(function):
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.default) for p in parameters]


def images(number=2):
    values = np.random.default_rng(0).uniform(-1, 1, (number, 16, 16, 3))
    return values.astype("float32")


@pytest.mark.parametrize("name", VARIANTS)
def test_signature_of_a_variant(name):
    function = getattr(vit, name)
    assert signature(function) == [
        ("image_size", VARIANTS[name][1]),
        ("classes", 1000),
        ("activation", "linear"),
        ("include_top", True),
        ("pretrained", False),
        ("pretrained_top", False),
        ("weights", "imagenet21k+imagenet2012"),
    ]
    assert function.__name__ == name
    assert "image_size" in function.__doc__


def test_signature_of_build_model():
    required = [(name, EMPTY) for name in SIZES]
    assert signature(vit.build_model) == [
        *required,
        ("dropout", 0.1),
        ("activation", "linear"),
        ("include_top", True),
        ("representation_size", None),
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_variant_is_the_preset_with_dropout(name, monkeypatch):
    """Without building it: only what is asked of `create_model`."""
    monkeypatch.setattr(vit, "create_model", lambda config, name: (config, name))
    model_name, image_size, preset = VARIANTS[name]
    expected = PRESETS[preset].config.replace(image_size=image_size, dropout=0.1)
    assert getattr(vit, name)() == (expected, model_name)


def test_imagenet21k_adds_pre_logits():
    with without_memory():
        model = vit.vit_b16(weights="imagenet21k", classes=21_843)
    layer = model.get_layer("pre_logits")
    assert layer.units == 768
    assert layer.activation is keras.activations.tanh
    assert isinstance(model, keras.Model)
    assert model.name == "vit-b16"
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 21_843)


def test_variant_passes_its_arguments_on(monkeypatch):
    monkeypatch.setattr(vit, "create_model", lambda config, name: config)
    config = vit.vit_b32((64, 96), 7, "softmax", include_top=False)
    assert config.image_size == (64, 96)
    assert config.classes == 7
    assert config.activation == "softmax"
    assert not config.include_top


def test_build_model_activation_and_representation():
    model = vit.build_model(**SIZES, activation="softmax", representation_size=7)
    assert model.get_layer("pre_logits").units == 7
    # A float32 sum of five probabilities.
    np.testing.assert_allclose(run(model, images()).sum(axis=-1), 1.0, atol=1e-6)
    assert model.name == "small"


@pytest.mark.parametrize("way", ["sequential", "functional"])
def test_nests_in_another_model(way, tmp_path):
    """What users of the package do: a frozen ViT under a head of their own."""
    base = vit.build_model(**{**SIZES, "num_layers": 1}, include_top=False)
    if way == "sequential":
        layers = [base, keras.layers.Dense(8, "gelu"), keras.layers.Dense(3)]
        model = keras.Sequential(layers)
    else:
        inputs = keras.Input((16, 16, 3))
        x = keras.layers.Dense(3)(keras.layers.Dense(8, "gelu")(base(inputs)))
        model = keras.Model(inputs, x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=JIT)
    kernel = base.get_layer("embedding").kernel
    before = keras.ops.convert_to_numpy(kernel)
    history = model.fit(images(4), np.array([0, 1, 2, 0]), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert (keras.ops.convert_to_numpy(kernel) != before).any()

    model.save(tmp_path / "nested.keras")
    loaded = keras.models.load_model(tmp_path / "nested.keras")
    np.testing.assert_allclose(run(loaded, images()), run(model, images()), **SAME)
    nested = [layer for layer in loaded.layers if isinstance(layer, keras.Model)]
    assert [layer.config for layer in nested] == [base.config]


def test_frozen_base_does_not_train():
    base = vit.build_model(**SIZES, include_top=False)
    base.trainable = False
    model = keras.Sequential([base, keras.layers.Dense(3)])
    model.build((None, 16, 16, 3))
    assert len(model.trainable_weights) == 2


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
def test_preprocess_inputs(dtype):
    pixels = np.array([0, 51, 255], dtype).reshape(1, 1, 3)
    output = vit.preprocess_inputs(pixels)
    assert output.dtype == "float32"
    # Two float32 roundings of values up to 1.
    np.testing.assert_allclose(output.ravel(), [-1.0, -0.6, 1.0], atol=1e-6)


def test_preprocess_inputs_takes_lists_and_batches():
    assert vit.preprocess_inputs([[[0, 0, 0]]]).tolist() == [[[-1.0, -1.0, -1.0]]]
    assert vit.preprocess_inputs(np.zeros((2, 4, 5, 3))).shape == (2, 4, 5, 3)


SMALL = {
    "dropout": 0.1,
    "mlp_dim": 24,
    "num_heads": 2,
    "num_layers": 2,
    "hidden_size": 16,
}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A small variant, and its published files, whose classes are 7 and 5."""
    monkeypatch.setattr(
        vit, "WEIGHTS", {"imagenet21k": (7, "in21k"), WEIGHTS: (5, "384")}
    )
    fetched = []

    def fetch(name):
        fetched.append(name)
        classes, size = (7, 16) if name == "vit_b16_in21k" else (5, None)
        model = create_model(
            ViTConfig(
                image_size=32,
                patch_size=8,
                classes=classes,
                representation_size=size,
                mlp_activation="gelu_tanh",
                **{k: v for k, v in SMALL.items() if k != "dropout"},
            )
        )
        randomise(model, seed=len(name))
        path = tmp_path / f"{name}.npz"
        fetch.weights = weights_of(model)
        return save_checkpoint(model, path, "augreg")

    monkeypatch.setattr(vit.download, "fetch", fetch)
    build = vit._variant(SMALL, "vit-b16", 8, 32)
    return build, fetched, fetch


def test_nothing_is_downloaded_unless_asked(small):
    build, fetched, _ = small
    build(classes=3)
    assert fetched == []


@pytest.mark.parametrize("weights", ["imagenet21k", WEIGHTS])
def test_pretrained_with_its_top(small, weights):
    build, fetched, fetch = small
    classes = 7 if weights == "imagenet21k" else 5
    model = build(
        classes=classes, pretrained=True, pretrained_top=True, weights=weights
    )
    assert fetched == ["vit_b16_" + ("in21k" if classes == 7 else "384")]
    for path, value in weights_of(model).items():
        if "seed" not in path:
            np.testing.assert_array_equal(value, fetch.weights[path], err_msg=path)


def test_pretrained_without_its_top(small):
    build, _, fetch = small
    model = build(classes=5, pretrained=True)  # of the same number of classes
    weights = weights_of(model)
    np.testing.assert_array_equal(
        weights["encoder_norm/beta"], fetch.weights["encoder_norm/beta"]
    )
    assert (weights["head/bias"] == 0).all()


def test_classes_are_those_of_a_pretrained_top(small):
    build, _, _ = small
    with pytest.warns(UserWarning, match="classes=5.*not 3"):
        model = build(classes=3, pretrained=True, pretrained_top=True)
    assert model.output_shape == (None, 5)


@pytest.mark.parametrize(
    "options", [{"pretrained": False}, {"pretrained": True, "include_top": False}]
)
def test_a_top_needs_the_rest(small, options):
    build, _, _ = small
    with pytest.raises(ValueError, match="`pretrained_top` must be False"):
        build(pretrained_top=True, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "imagenet"}, "`weights`.*imagenet21k.*weights='imagenet'"),
        ({"weights": None}, "`weights`.*weights=None"),
        ({"image_size": 100}, r"`image_size`.*\(100, 100\)"),
        ({"classes": 0}, "`classes`.*classes=0"),
    ],
)
def test_bad_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        vit.vit_b16(**arguments)

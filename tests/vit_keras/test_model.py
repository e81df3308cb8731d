"""The built model: its graph, training, saving, mixed precision and errors."""

import re

import keras
import numpy as np
import pytest

from tests.models import JIT, SAME, TINY, images_for, randomise, run
from vit_keras import VisionTransformer, create_model

# Of one step, a graph of TensorFlow would take longest.
WITHOUT_GRAPHS = {"jit_compile": JIT, "run_eagerly": not JIT}
MIXED = ["mixed_bfloat16", "mixed_float16"]


def names(model):
    return [layer.name for layer in model.layers]


def test_layer_names_are_those_of_the_paper_code():
    assert names(create_model(TINY, representation_size=7)) == [
        *("images", "embedding", "class_token", "posembed_input", "posembed_dropout"),
        *("encoderblock_0", "encoderblock_1", "encoder_norm"),
        *("pooling", "pre_logits", "head"),
    ]


def test_norms_stand_where_they_work():
    """`fc_norm` takes the place of `encoder_norm`, which is not built."""
    options = {"pre_norm": True, "fc_norm": True, "representation_size": 7}
    assert names(create_model(TINY, **options)) == [
        *("images", "embedding", "class_token", "posembed_input", "posembed_dropout"),
        *("pre_norm", "encoderblock_0", "encoderblock_1"),
        *("pooling", "fc_norm", "pre_logits", "head"),
    ]


def test_features_with_fc_norm_are_those_of_the_last_block():
    """The tokens that pooling reads: no norm comes before it."""
    model = randomise(create_model(TINY, task="features", fc_norm=True))
    assert names(model)[-1] == "encoderblock_1"
    whole = randomise(create_model(TINY, fc_norm=True))
    part = keras.Model(whole.input, whole.get_layer("encoderblock_1").output)
    images = images_for(TINY)
    np.testing.assert_allclose(run(model, images), run(part, images), **SAME)


def test_extra_tokens_are_prepended_in_order():
    """The last one prepended is the first in the sequence."""
    model = create_model(TINY, distillation_token=True, num_register_tokens=2)
    added = ["register_tokens", "distillation_token", "class_token"]
    assert [name for name in names(model) if name in added] == added


def test_positions_before_the_prefix_come_first():
    found = names(create_model(TINY, position_prefix=False))
    assert found.index("posembed_input") < found.index("class_token")


def test_model_is_flat_and_functional():
    model = create_model(TINY)
    assert isinstance(model, VisionTransformer)
    assert isinstance(model, keras.Model)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    block = model.get_layer("encoderblock_1")
    part = keras.Model(model.inputs, block.output)
    assert part.output_shape == (None, TINY.num_tokens, TINY.hidden_size)


def test_default_name_is_the_presets():
    small = {"image_size": 16, "num_layers": 1, "classes": 2}
    assert create_model("vit_ti16", **small).name == "vit_ti16"
    assert create_model("vit_ti16", name="mine", **small).name == "mine"
    assert create_model(TINY).name == "vit"


@pytest.mark.parametrize(
    ("options", "task", "expected"),
    [
        ({}, "classify", (5,)),
        ({"classes": 1}, "classify", (1,)),
        ({"include_top": False}, "classify", (16,)),
        ({"include_top": False, "representation_size": 7}, "classify", (7,)),
        ({}, "features", (5, 16)),
        ({"num_register_tokens": 3}, "features", (8, 16)),
        ({"pooling": None, "include_top": False}, "classify", (4, 16)),
        ({"image_size": (15, 21), "patch_size": (5, 3)}, "features", (22, 16)),
        ({"pooling": "gap", "image_size": (7, 35), "patch_size": 7}, "classify", (5,)),
        ({"pooling": "map", "hidden_size": 9, "num_heads": 3}, "classify", (5,)),
    ],
)
def test_output_shape(options, task, expected):
    model = create_model(TINY, task=task, **options)
    assert model.output_shape == (None, *expected)
    images = images_for(model.config, number=3)
    assert run(model, images).shape == (3, *expected)


def test_depth_drops_linearly():
    model = create_model(TINY, num_layers=5, drop_path_rate=0.2)
    rates = [model.get_layer(f"encoderblock_{i}").drop_path for i in range(5)]
    # Five float64 products.
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2], rel=1e-12)


OPTIONS = {
    "default": {},
    "layer_scale": {"layer_scale_init_value": 0.1},
    "dropout": {"dropout": 0.1, "attention_dropout": 0.1, "drop_path_rate": 0.1},
    "deit": {"distillation_token": True, "num_register_tokens": 2},
    "sincos2d": {"positions": "sincos2d", "position_prefix": False},
    "patch_norm": {"patch_norm": True, "qkv_bias": False},
    "gap": {"pooling": "gap", "class_token": True, "mlp_activation": "gelu_tanh"},
    "clip": {"mlp_activation": "quick_gelu"},
    "tutorial": {"mlp_activation": "silu", "mlp_out_activation": "gelu"},
    "map": {"pooling": "map", "representation_size": 7},
    "head_dim": {"hidden_size": 18, "num_heads": 4, "head_dim": 5},
    "norms": {"qk_norm": True, "pre_norm": True, "fc_norm": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gradients_reach_every_weight(options):
    """One step of plain SGD moves a weight if and only if it has a gradient."""
    model = randomise(create_model(TINY, **options))
    # A rate so high that a small gradient moves a weight of order 1 in float32.
    model.compile(
        keras.optimizers.SGD(100.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **WITHOUT_GRAPHS,
    )
    before = {w.path: keras.ops.convert_to_numpy(w) for w in model.trainable_weights}
    # Eight images, for drop path not to drop one block for all of them.
    model.train_on_batch(images_for(model.config, 8), np.arange(8) % 5)
    still = [
        w.path
        for w in model.trainable_weights
        # What is added to all keys alike adds the same number to all scores of a
        # query, which the softmax does not see: a gradient of zero, or rounding noise.
        if not w.path.endswith(("key/bias", "key_norm/beta"))
        and (before[w.path] == keras.ops.convert_to_numpy(w)).all()
    ]
    assert not still
    assert len(before) > 30


def test_a_model_learns_sixteen_images():
    keras.utils.set_random_seed(1)
    model = create_model(TINY, num_layers=1, dropout=0.05, drop_path_rate=0.05)
    model.compile(
        keras.optimizers.AdamW(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=JIT,
    )
    images, labels = images_for(TINY, 16), np.arange(16) % 5
    # Guessing scores log(5) = 1.6. Seeds 0 to 4 end below 0.02 on every backend.
    before = model.evaluate(images, labels, verbose=0)
    assert before > 1.3
    model.fit(images, labels, batch_size=16, epochs=40, verbose=0)
    assert model.evaluate(images, labels, verbose=0) < 0.2


@pytest.mark.parametrize(
    ("options", "task"),
    [
        *((options, "classify") for options in OPTIONS.values()),
        ({}, "features"),
        ({"fc_norm": True}, "features"),
        ({"pooling": None, "include_top": False}, "classify"),
    ],
    ids=[*OPTIONS, "features", "features of the last block", "tokens"],
)
def test_save_and_load(options, task, tmp_path):
    """Keras' default safe mode, no custom objects."""
    model = randomise(create_model(TINY, task=task, name="mine", **options))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, VisionTransformer)
    assert loaded.config == model.config
    assert loaded.task == task
    assert loaded.name == "mine"
    assert names(loaded) == names(model)
    images = images_for(model.config)
    np.testing.assert_allclose(run(loaded, images), run(model, images), **SAME)


def test_saved_model_keeps_what_the_user_changed(tmp_path):
    model = create_model(TINY)
    model.get_layer("embedding").trainable = False
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not loaded.get_layer("embedding").trainable
    assert loaded.get_layer("encoder_norm").trainable


def test_trained_model_saves_and_resumes(tmp_path):
    model = create_model(TINY, num_layers=1, drop_path_rate=0.1)
    momentum = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(momentum, "mse", jit_compile=JIT)
    images, targets = images_for(TINY), np.zeros((2, 5), "float32")
    model.train_on_batch(images, targets)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer.iterations) == 1
    loaded.train_on_batch(images, targets)
    assert int(loaded.optimizer.iterations) == 2


def test_clone(tmp_path):
    """Keras hands only the graph and the name on to a clone."""
    model = randomise(create_model(TINY, distillation_token=True))
    copy = keras.models.clone_model(model)
    assert isinstance(copy, VisionTransformer)
    assert names(copy) == names(model)
    copy.set_weights(model.get_weights())
    images = images_for(model.config)
    np.testing.assert_allclose(run(copy, images), run(model, images), **SAME)
    copy.config, copy.task = model.config, model.task
    copy.save(tmp_path / "copy.keras")
    assert keras.models.load_model(tmp_path / "copy.keras").config == model.config


@pytest.fixture(params=MIXED)
def mixed_policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", ["default", "deit", "map", "patch_norm", "norms"])
def test_mixed_precision(mixed_policy, name):
    """Computes in half precision, ends and trains in float32."""
    model = create_model(TINY, num_layers=1, activation="softmax", **OPTIONS[name])
    block = model.get_layer("encoderblock_0")
    assert block.output.dtype == mixed_policy.removeprefix("mixed_")
    images = images_for(model.config)
    output = run(model, images)
    assert output.dtype == "float32"
    # A float32 sum of five probabilities.
    np.testing.assert_allclose(output.sum(axis=-1), 1.0, atol=1e-6)
    model.compile("sgd", "sparse_categorical_crossentropy", **WITHOUT_GRAPHS)
    loss = model.train_on_batch(images, np.array([0, 1]))
    assert np.isfinite(loss)
    assert all(weight.dtype == "float32" for weight in model.trainable_weights)


@pytest.mark.parametrize("policy", MIXED)
def test_mixed_precision_is_close_to_float32(policy):
    exact = randomise(create_model(TINY))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        half = randomise(create_model(TINY))
    finally:
        keras.config.set_dtype_policy(before)
    images = images_for(TINY)
    # Some 40 roundings of relative size 2^-9 (bfloat16) or 2^-12 on values of order 3.
    tolerance = {"mixed_bfloat16": 0.15, "mixed_float16": 0.02}[policy]
    difference = np.abs(run(half, images) - run(exact, images)).max()
    assert 0 < difference < tolerance


def test_weights_load_after_save_weights(tmp_path):
    model = randomise(create_model(TINY, pooling="map"))
    path = tmp_path / "mine.weights.h5"
    model.save_weights(path)
    copy = create_model(TINY, pooling="map", weights=path)
    images = images_for(TINY)
    np.testing.assert_allclose(run(copy, images), run(model, images), **SAME)


def test_weights_load_from_a_saved_model(tmp_path):
    """Also one that was trained, whose file holds the optimizer's state too."""
    model = randomise(create_model(TINY, num_layers=1))
    momentum = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(momentum, "mse", jit_compile=JIT)
    model.train_on_batch(images_for(TINY), np.zeros((2, 5), "float32"))
    model.save(tmp_path / "mine.keras")
    copy = create_model(TINY, num_layers=1, weights=str(tmp_path / "mine.keras"))
    images = images_for(TINY)
    np.testing.assert_allclose(run(copy, images), run(model, images), **SAME)


def test_weights_do_not_depend_on_dropout(tmp_path):
    """Pre-trained without stochastic depth, fine-tuned with it, and back."""
    rates = {"dropout": 0.1, "attention_dropout": 0.1, "drop_path_rate": 0.1}
    plain, dropping = create_model(TINY), create_model(TINY, **rates)
    images = images_for(TINY)
    for i, (source, options) in enumerate([(plain, rates), (dropping, {})]):
        path = tmp_path / f"{i}.weights.h5"
        source.save_weights(path)
        copy = create_model(TINY, weights=path, **options)
        np.testing.assert_allclose(run(copy, images), run(source, images), **SAME)


OTHERS = [
    {"num_layers": 3},
    {"num_layers": 1},
    {"hidden_size": 32},
    {"mlp_dim": 25},
    {"patch_norm": True},
    {"qkv_bias": False},
    {"qk_norm": True},
    {"pre_norm": True},
    {"layer_scale_init_value": 0.1},
    {"num_register_tokens": 1},
    {"pooling": "map"},
    {"fc_norm": True},
]


# Keras first warns of every container that it does not find.
@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
@pytest.mark.parametrize(
    "options",
    [*OTHERS, {"classes": 6}, {"image_size": 24}, {"representation_size": 16}],
    ids=str,
)
def test_weights_alone_must_be_of_the_same_architecture(options, tmp_path):
    path = tmp_path / "other.weights.h5"
    create_model(TINY, **options).save_weights(path)
    with pytest.raises(ValueError) as error:
        create_model(TINY, weights=path)
    assert "`weights` must hold the weights of this architecture" in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_a_saved_model_of_another_architecture_is_refused(options, tmp_path):
    path = tmp_path / "other.keras"
    create_model(TINY, **options).save(path)
    with pytest.raises(ValueError, match="does not fit the model") as error:
        create_model(TINY, weights=path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5", ".npz"])
@pytest.mark.parametrize("content", [b"", b"no weights at all" * 100])
def test_weights_file_without_weights_is_refused(content, suffix, tmp_path):
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        create_model(TINY, weights=path)


def test_weights_with_another_suffix_are_refused(tmp_path):
    path = tmp_path / "model.weights"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"`weights`.*\.safetensors.*model\.weights"):
        create_model(TINY, weights=path)


def test_missing_weights_file(tmp_path):
    path = str(tmp_path / "none.weights.h5")
    with pytest.raises(FileNotFoundError, match=re.escape(repr(path))):
        create_model(TINY, weights=path)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`weights`.*model\.safetensors"):
        create_model(TINY, weights=tmp_path)


@pytest.mark.parametrize(
    ("preset", "arguments", "message"),
    [
        (TINY, {"task": "detect"}, "`task`.*classify.*features.*task='detect'"),
        ("vit_b61", {}, "`preset`.*vit_b16.*Did you mean.*preset='vit_b61'"),
        ("resnet", {}, "`preset`.*vit_b16.*preset='resnet'"),
        (None, {}, "`preset`.*vit_b16.*preset=None"),
        (TINY, {"num_layer": 3}, "`num_layer`.*Did you mean `num_layers`"),
        (TINY, {"hidden_size": -1}, "`hidden_size`.*hidden_size=-1"),
        (TINY, {"activation": "nope"}, "nope"),
    ],
)
def test_bad_argument_is_named(preset, arguments, message):
    with pytest.raises(ValueError, match=message):
        create_model(preset, **arguments)


def test_unknown_activation_is_named():
    with pytest.raises(ValueError, match="`activation` .* activation='sotfmax'"):
        create_model(TINY, activation="sotfmax")

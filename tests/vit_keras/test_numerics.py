"""Every option of `ViTConfig` against the NumPy reference, with random weights."""

import dataclasses

import keras
import numpy as np
import pytest

from tests import reference
from tests.models import TINY, images_for, randomise, run, tiny, weights_of
from vit_keras import create_model, layers
from vit_keras.decoder_sizes import FIELDS

# Values are of order 1 to 10 and pass about 60 roundings of relative size 6e-8 in two
# blocks; the largest difference seen on any backend is 5e-6.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}
# TensorFlow rounds the constants in its GELU to float32; the largest difference seen
# is 2e-8. The fixed positions are a float32 table as well.
FLOAT64_MODEL = {"rtol": 1e-6, "atol": 2e-7}
# Without GELU, about 20 roundings of relative size 1e-16.
FLOAT64 = {"rtol": 1e-12, "atol": 1e-12}

CONFIGS = {
    "default": tiny(),
    "gelu_tanh": tiny(mlp_activation="gelu_tanh"),
    "quick_gelu, silu": tiny(mlp_activation="quick_gelu", mlp_out_activation="silu"),
    "relu, tanh": tiny(mlp_activation="relu", mlp_out_activation="tanh"),
    "no_qkv_bias": tiny(qkv_bias=False),
    "head_dim": tiny(hidden_size=18, num_heads=4, head_dim=5),
    "epsilon": tiny(norm_epsilon=0.1),
    "layer_scale": tiny(layer_scale_init_value=0.1),
    "registers": tiny(num_register_tokens=3),
    "deit": tiny(distillation_token=True, num_register_tokens=1, activation="sigmoid"),
    "sincos2d": tiny(positions="sincos2d", image_size=(16, 24), num_register_tokens=1),
    "positions_before_prefix": tiny(position_prefix=False, distillation_token=True),
    "sincos2d_before_prefix": tiny(positions="sincos2d", position_prefix=False),
    "patch_norm": tiny(patch_norm=True, image_size=(12, 8), patch_size=(3, 4)),
    "gap": tiny(pooling="gap"),
    "gap_class_token": tiny(pooling="gap", class_token=True, num_register_tokens=2),
    "map": tiny(pooling="map", mlp_activation="gelu_tanh"),
    "map_class_token": tiny(pooling="map", class_token=True, norm_epsilon=0.1),
    "map_head_dim": tiny(pooling="map", hidden_size=18, num_heads=4, head_dim=5),
    "representation": tiny(representation_size=7),
    "no_top": tiny(include_top=False, representation_size=7),
    "rectangle": tiny(image_size=(10, 21), patch_size=(5, 3), num_layers=3),
    "all_tokens": tiny(pooling=None, include_top=False, class_token=True),
    "softmax": tiny(activation="softmax"),
    "token_merging": tiny(
        image_size=(24, 40), token_merging=((1, 2),), num_register_tokens=1
    ),
    "token_merging_twice": tiny(
        image_size=(40, 48), token_merging=((0, 2), (1, 2)), pooling="gap"
    ),
    "token_merging_by_3": tiny(
        image_size=(24, 48), token_merging=((1, 3),), pooling=None, include_top=False
    ),
    "tome": tiny(image_size=(24, 40), tome=(5, 3), num_register_tokens=2),
    "tome_gap": tiny(
        image_size=(24, 40), tome=(0, 7), pooling="gap", class_token=False, qk_norm=True
    ),
    "qk_norm": tiny(qk_norm=True, norm_epsilon=0.1),
    "qk_norm_head_dim": tiny(qk_norm=True, hidden_size=18, num_heads=4, head_dim=5),
    "pre_norm": tiny(pre_norm=True, num_register_tokens=2, norm_epsilon=0.1),
    "fc_norm": tiny(fc_norm=True, representation_size=7, norm_epsilon=0.1),
    "fc_norm_gap": tiny(fc_norm=True, pooling="gap", class_token=True),
    "all_norms_map": tiny(qk_norm=True, pre_norm=True, fc_norm=True, pooling="map"),
    "dinov3": tiny(
        image_size=(16, 24),
        head_dim=8,
        rotary="dinov3",
        rotary_temperature=50.0,
        positions="none",
        num_register_tokens=2,
        key_bias=False,
    ),
    "eva02": tiny(
        image_size=(16, 24),
        head_dim=8,
        rotary="eva02",
        rotary_grid=(5, 7),
        mlp_gated=True,
        mlp_activation="silu",
        mlp_norm=True,
        attention_norm=True,
        norm_epsilon=0.1,
    ),
    "rope_vit": tiny(image_size=(16, 24), head_dim=8, rotary="rope_vit", qk_norm=True),
    "pe": tiny(
        image_size=(16, 24),
        head_dim=8,
        rotary="pe",
        rotary_grid=(5, 7),
        pooling="map",
        class_token=True,
        pool_heads=1,
        pool_prefix=True,
    ),
    "post_norm": tiny(post_norm=True, norm_epsilon=0.1),
    "max": tiny(pooling="max", class_token=True),
    "projection": tiny(
        representation_size=7, representation_activation="linear", unit_norm=True
    ),
    "grey": tiny(
        channels=1, preprocessing={"mean": (0.5,), "std": (0.5,)}, num_layers=1
    ),
}
# What changes no value at inference, or is not part of the arithmetic.
NO_ARITHMETIC = {"dropout", "attention_dropout", "drop_path_rate", "preprocessing"}
NO_ARITHMETIC |= {"head", "labels"}
# Of outputs at each pixel: `test_decoders` has their formulas.
NO_ARITHMETIC |= {"decoder", "taps", "tap_norm", "max_depth", "depth_type", *FIELDS}


def test_the_configurations_vary_every_option():
    fields = {field.name for field in dataclasses.fields(TINY)}
    varied = {
        name
        for name in fields
        if any(getattr(c, name) != getattr(TINY, name) for c in CONFIGS.values())
    }
    # Sizes without a branch in the code; `rectangle` and `head_dim` vary the others.
    assert varied == fields - NO_ARITHMETIC - {"mlp_dim", "classes"} | {"preprocessing"}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_model_equals_reference(config):
    model = randomise(create_model(config))
    images = images_for(config)
    expected = reference.forward(weights_of(model), config, images)
    np.testing.assert_allclose(run(model, images), expected, **FLOAT32)


float64_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="Keras computes float64 operations in float32 on the other backends",
)


@pytest.fixture
def float64_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


@float64_only
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_features_equal_reference_in_float64(config, float64_policy):
    """Tokens, because the head computes in float32 whatever the policy."""
    if config.tome:  # has none that are of a place in the image
        config, task = config.replace(include_top=False), "classify"
    else:
        task = "features"
    model = randomise(create_model(config, task=task))
    images = images_for(config)
    expected = reference.forward(weights_of(model), config, images, task=task)
    actual = run(model, images)
    assert actual.dtype == "float64"
    np.testing.assert_allclose(actual, expected, **FLOAT64_MODEL)


@float64_only
def test_attention_and_norm_equal_reference_in_float64():
    x = _tokens(7, 12).astype("float64")
    for qk_norm in (False, True):
        layer = layers.MultiHeadAttention(3, qk_norm=qk_norm, dtype="float64")
        layer.build(x.shape)
        weights = _weights_under(randomise(layer), "a")
        expected, _ = reference.attention(weights, "a", x, x, 3)
        actual = keras.ops.convert_to_numpy(layer(x))
        np.testing.assert_allclose(actual, expected, **FLOAT64)

    layer = layers.LayerNormalization(dtype="float64")
    layer.build(x.shape)
    weights = _weights_under(randomise(layer), "n")
    expected = reference.norm(weights, "n", x, epsilon=1e-6)
    actual = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(actual, expected, **FLOAT64)


def _tokens(length, width, seed=1):
    values = np.random.default_rng(seed).standard_normal((2, length, width))
    return values.astype("float32")


def _weights_under(layer, path):
    """A layer's weights under the path that the reference looks for."""
    return {
        f"{path}/{weight_path.removeprefix(layer.name + '/')}": value
        for weight_path, value in weights_of(layer).items()
    }


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"head_dim": 5},
        {"qkv_bias": False},
        {"qk_norm": True},
        {"qk_norm": True, "head_dim": 5, "norm_epsilon": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("keys", [None, 3], ids=["self", "cross"])
def test_attention_equals_reference(fused, options, keys):
    layer = layers.MultiHeadAttention(4, fused=fused, **options)
    query = _tokens(7, 12)
    value = query if keys is None else _tokens(keys, 12, seed=2)
    layer.build(query.shape, value.shape)
    randomise(layer)
    epsilon = options.get("norm_epsilon", 1e-6)
    expected, scores = reference.attention(
        _weights_under(layer, "a"), "a", query, value, 4, epsilon
    )
    actual = keras.ops.convert_to_numpy(layer(query, value))
    np.testing.assert_allclose(actual, expected, **FLOAT32)
    _, actual = layer(query, value, return_attention_scores=True)
    actual = keras.ops.convert_to_numpy(actual)
    np.testing.assert_allclose(actual, scores, **FLOAT32)


@pytest.mark.parametrize("qk_norm", [False, True], ids=["", "qk_norm"])
@pytest.mark.parametrize("scale", [None, 0.1], ids=["plain", "layer_scale"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_block_equals_reference(scale, activation, qk_norm):
    block = layers.EncoderBlock(
        3,
        20,
        mlp_activation=activation,
        layer_scale_init_value=scale,
        qk_norm=qk_norm,
    )
    x = _tokens(5, 12)
    block.build(x.shape)
    randomise(block)
    expected, _ = reference.block(
        _weights_under(block, "b"), "b", x, num_heads=3, activation=activation
    )
    actual = keras.ops.convert_to_numpy(block(x))
    np.testing.assert_allclose(actual, expected, **FLOAT32)


def test_the_two_gelus_differ_measurably():
    """Else a swapped activation would pass the tests above."""
    x = np.linspace(-4, 4, 101)
    difference = np.abs(reference.gelu(x) - reference.gelu_tanh(x)).max()
    assert 10 * FLOAT32["atol"] < difference < 1e-3

"""Every public layer: configuration, saving, shapes, dtypes and behaviour."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from tests import reference
from tests.models import randomise
from tests.vit_keras.layer_cases import CASES, ELSEWHERE, SMALLEST
from vit_keras import layers


def make(layer_name, options=None, **more):
    options = CASES[layer_name][0] if options is None else options
    return getattr(layers, layer_name)(**options, **more)


def values(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def numpy(x):
    return ops.convert_to_numpy(x)


def arguments(name):
    parameters = inspect.signature(getattr(layers, name).__init__).parameters
    return set(parameters) - {"self", "kwargs"}


def test_tables_cover_every_public_layer_and_argument():
    assert sorted(CASES) == sorted(SMALLEST)
    assert sorted([*CASES, *ELSEWHERE]) == sorted(layers.__all__)
    for name, (options, _, _) in CASES.items():
        assert set(options) == arguments(name), name


@pytest.mark.parametrize("name", CASES)
def test_config_holds_the_constructor_arguments(name):
    options, shape, _ = CASES[name]
    layer = make(name, name="mine")
    layer.build(shape)
    config = layer.get_config()
    assert {key: config[key] for key in arguments(name)} == options
    # What Keras itself adds.
    assert set(config) - arguments(name) == {"name", "trainable", "dtype"}
    assert config["name"] == "mine"


@pytest.mark.parametrize("name", CASES)
def test_config_round_trip(name):
    _, shape, _ = CASES[name]
    x = values(shape)
    layer = make(name)
    layer.build(shape)
    randomise(layer)
    copy = type(layer).from_config(layer.get_config())
    copy.build(shape)
    assert copy.get_config() == layer.get_config()
    copy.set_weights(layer.get_weights())
    # The same operations on the same numbers.
    np.testing.assert_array_equal(numpy(copy(x)), numpy(layer(x)))


@pytest.mark.parametrize("name", CASES)
def test_saved_model_round_trip(name, tmp_path):
    """Keras' default safe mode, no custom objects."""
    _, shape, _ = CASES[name]
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, make(name)(inputs))
    randomise(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[1]) is getattr(layers, name)
    assert loaded.layers[1].get_config() == model.layers[1].get_config()
    x = values(shape)
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))


@pytest.mark.parametrize("table", [CASES, SMALLEST], ids=["odd", "smallest"])
@pytest.mark.parametrize("name", CASES)
def test_output_shape(name, table):
    options, shape, expected = table[name]
    layer = make(name, options)
    symbolic = layer(keras.KerasTensor((None, *shape[1:])))
    assert tuple(symbolic.shape) == (None, *expected[1:])
    assert tuple(layer(values(shape)).shape) == expected


@pytest.mark.parametrize("table", [CASES, SMALLEST], ids=["odd", "smallest"])
@pytest.mark.parametrize("name", CASES)
def test_compute_output_shape(name, table):
    options, shape, expected = table[name]
    layer = make(name, options)
    for batch in (shape[0], None):
        computed = layer.compute_output_shape((batch, *shape[1:]))
        assert tuple(computed) == (batch, *expected[1:])


@pytest.mark.parametrize("name", ["MultiHeadAttention", "EncoderBlock"])
def test_symbolic_call_with_scores(name):
    options, shape, _ = CASES[name]
    output, scores = make(name)(keras.KerasTensor(shape), return_attention_scores=True)
    assert tuple(output.shape) == shape
    assert tuple(scores.shape) == (shape[0], options["num_heads"], shape[1], shape[1])


# Unit roundoff of each compute dtype. Ten roundings in a row on values of order 3,
# seen: at most 20 of them.
POLICIES = {"mixed_bfloat16": 2**-8, "mixed_float16": 2**-11, "float64": 2**-24}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", CASES)
def test_dtype_policy(name, policy):
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless the process enables x64")
    _, shape, _ = CASES[name]
    x = values(shape)
    layer, exact = make(name, dtype=policy), make(name)
    for one in (layer, exact):
        one.build(shape)
        randomise(one)
    output = layer(x)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    assert layer.compute_dtype == policy.removeprefix("mixed_")
    for weight in layer.weights:
        assert weight.dtype == layer.variable_dtype
    tolerance = 40 * POLICIES[policy]
    np.testing.assert_allclose(
        numpy(ops.cast(output, "float32")), numpy(exact(x)), tolerance, tolerance
    )


def test_norm_statistics_do_not_overflow_in_half_precision():
    """The square of 1000 is above the largest float16, 65504."""
    x = values((2, 3, 8)) * 1000
    half = layers.LayerNormalization(dtype="mixed_float16")(x.astype("float16"))
    # Inputs and output each rounded to 11 bits, output of order 1 to 2.
    np.testing.assert_allclose(
        numpy(half), numpy(layers.LayerNormalization()(x)), atol=4e-3
    )


RANDOM = {
    "DropPath": "rate",
    "EncoderBlock": "drop_path",
    "MlpBlock": "dropout",
    "MultiHeadAttention": "dropout",
}


@pytest.mark.parametrize("training", [False, None])
@pytest.mark.parametrize("name", RANDOM)
def test_random_layer_does_nothing_at_inference(name, training):
    options, shape, _ = CASES[name]
    rates = {"rate", "drop_path", "dropout", "attention_dropout"}
    still = {k: 0.0 if k in rates else v for k, v in options.items()}
    random, calm = make(name), make(name, still)
    for layer in (random, calm):
        layer.build(shape)
        randomise(layer)
    x = values(shape)
    np.testing.assert_array_equal(numpy(random(x, training=training)), numpy(calm(x)))


@pytest.mark.parametrize(("name", "argument"), RANDOM.items())
def test_random_layer_differs_in_training(name, argument):
    options, shape, _ = CASES[name]
    x = values((64, *shape[1:]))
    layer = make(name, {**options, argument: 0.5})
    first = numpy(layer(x, training=True))
    assert np.abs(first - numpy(layer(x, training=True))).max() > 0.01
    assert np.abs(first - numpy(layer(x, training=False))).max() > 0.01


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DropPath", {"rate": 0.3, "seed": 1}),
        ("MlpBlock", {"mlp_dim": 16, "dropout": 0.3}),
        ("MultiHeadAttention", {"num_heads": 2, "dropout": 0.3}),
    ],
)
def test_training_keeps_the_expectation(name, options):
    """Not EncoderBlock: its second branch is not linear in what the first drops."""
    keras.utils.set_random_seed(0)
    draws = 4000
    x = np.repeat(values((1, 3, 4)), draws, axis=0)
    layer = make(name, options)
    layer.build(x.shape)
    randomise(layer)
    random = numpy(layer(x, training=True)).astype("float64")
    expected = numpy(layer(x[:1], training=False))[0]
    # Five standard errors of the mean: 1 in 10^6 for each of 12 values, fixed seed.
    error = 5 * random.std(axis=0) / np.sqrt(draws)
    assert error.min() > 0
    assert (np.abs(random.mean(axis=0) - expected) < error).all()


def test_drop_path_drops_whole_images():
    output = numpy(
        layers.DropPath(0.25, seed=0)(np.ones((1000, 3, 4), "float32"), training=True)
    )
    flat = output.reshape(1000, 12)
    assert (flat == flat[:, :1]).all()
    # 1 / (1 - 0.25) in float32.
    assert set(np.unique(flat[:, 0])) == {np.float32(0), np.float32(1 / 0.75)}
    # Binomial: standard deviation sqrt(1000 * 0.25 * 0.75) = 13.7; five of them.
    assert abs((flat[:, 0] == 0).sum() - 250) < 69


def test_drop_path_seed_repeats_the_draws():
    x = np.ones((64, 2), "float32")
    first = numpy(layers.DropPath(0.5, seed=7)(x, training=True))
    again = numpy(layers.DropPath(0.5, seed=7)(x, training=True))
    other = numpy(layers.DropPath(0.5, seed=8)(x, training=True))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan")])
def test_drop_path_refuses_a_rate(rate):
    with pytest.raises(ValueError, match=rf"`rate`.*rate={rate}"):
        layers.DropPath(rate)


def test_mlp_refuses_an_activation():
    with pytest.raises(ValueError, match="`activation`.*gelu_tanh.*'mish'"):
        layers.MlpBlock(4, activation="mish")


def test_positions_refuse_a_kind():
    with pytest.raises(ValueError, match="`kind`.*learned.*kind='rotary'"):
        layers.AddPositionEmbs((2, 2), kind="rotary")


@pytest.mark.parametrize("kind", ["learned", "sincos2d"])
def test_positions_refuse_another_number_of_tokens(kind):
    layer = layers.AddPositionEmbs((2, 3), 1, kind=kind)
    with pytest.raises(ValueError, match=r"Expected 7 tokens.*\(2, 3\).*6, 8"):
        layer(values((1, 6, 8)))


def test_attention_refuses_a_width_that_heads_do_not_share():
    layer = layers.MultiHeadAttention(3)
    with pytest.raises(ValueError, match="`num_heads`.*width=8, num_heads=3"):
        layer(values((1, 2, 8)))


@pytest.mark.parametrize("index", [3, -4])
def test_token_pooling_refuses_a_token_that_is_not_there(index):
    with pytest.raises(ValueError, match="index"):
        layers.TokenPooling(index)(values((2, 3, 4)))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_token_pooling_takes_the_token(index):
    x = values((2, 3, 4))
    np.testing.assert_array_equal(numpy(layers.TokenPooling(index)(x)), x[:, index])


@pytest.mark.parametrize("prefix", [0, 2])
def test_average_pooling_leaves_the_prefix_out(prefix):
    x = values((2, 5, 4))
    # A mean of up to 5 float32 values of order 1.
    np.testing.assert_allclose(
        numpy(layers.AveragePooling(prefix)(x)), x[:, prefix:].mean(axis=1), atol=1e-6
    )


def test_class_tokens_come_first_and_differ():
    layer, x = layers.ClassToken(3), values((2, 5, 4))
    output = numpy(layer(x))
    np.testing.assert_array_equal(output[:, 3:], x)
    np.testing.assert_array_equal(output[0, :3], numpy(layer.token)[0])
    np.testing.assert_array_equal(output[1, :3], numpy(layer.token)[0])
    assert len(np.unique(output[0, :3], axis=0)) == 3


def test_layer_scale_starts_at_its_value():
    x = values((2, 5, 4))
    # One float32 product.
    np.testing.assert_allclose(numpy(layers.LayerScale(0.25)(x)), 0.25 * x, rtol=1e-6)


@pytest.mark.parametrize(("grid", "width"), [((2, 3), 16), ((1, 5), 4), ((4, 1), 8)])
def test_fixed_positions_equal_the_reference(grid, width):
    tokens = grid[0] * grid[1]
    layer = layers.AddPositionEmbs(grid, 2, kind="sincos2d")
    output = numpy(layer(np.zeros((1, 2 + tokens, width), "float32")))[0]
    np.testing.assert_array_equal(output[:2], 0)
    # Values up to 1 in float32.
    np.testing.assert_allclose(output[2:], reference.sincos2d(*grid, width), atol=1e-7)
    assert not layer.weights


@pytest.mark.parametrize("qk_norm", [False, True], ids=["plain", "qk_norm"])
@pytest.mark.parametrize("keys", [None, 3], ids=["self", "cross"])
def test_fused_attention_equals_plain(keys, qk_norm):
    query = values((2, 7, 12))
    value = query if keys is None else values((2, keys, 12), seed=1)
    plain = layers.MultiHeadAttention(3, qk_norm=qk_norm, fused=False)
    fused = layers.MultiHeadAttention(3, qk_norm=qk_norm, fused=True)
    for layer in (plain, fused):
        layer.build(query.shape, value.shape)
        randomise(layer)
    # Two orders of the same float32 sums of at most 12 terms of order 1.
    np.testing.assert_allclose(
        numpy(fused(query, value)), numpy(plain(query, value)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("qk_norm", [False, True], ids=["plain", "qk_norm"])
@pytest.mark.parametrize("fused", [None, False, True])
def test_attention_scores_are_distributions(fused, qk_norm):
    layer = layers.MultiHeadAttention(3, qk_norm=qk_norm, fused=fused)
    query, value = values((2, 7, 12)), values((2, 5, 12), seed=1)
    output, scores = layer(query, value, return_attention_scores=True)
    scores = numpy(scores)
    assert scores.shape == (2, 3, 7, 5)
    assert (scores >= 0).all()
    # A float32 sum of 5 values below 1.
    np.testing.assert_allclose(scores.sum(axis=-1), 1.0, atol=1e-6)
    # Asking for scores takes the plain path; see the tolerance above.
    np.testing.assert_allclose(
        numpy(output), numpy(layer(query, value)), rtol=1e-5, atol=1e-5
    )


def test_normed_scores_do_not_see_the_size_of_the_input():
    """What qk_norm is for: scores cannot grow without bound in training."""
    layer = layers.MultiHeadAttention(3, qk_norm=True, qkv_bias=False)
    x = values((2, 7, 12))
    _, small = layer(x, return_attention_scores=True)
    _, large = layer(100 * x, return_attention_scores=True)
    # Epsilon, 1e-6 of variances of order 0.1, and float32 rounding.
    np.testing.assert_allclose(numpy(large), numpy(small), atol=1e-4)


def test_attention_drops_weights_also_when_fused():
    """The fused kernels have no dropout; training has to take the plain path."""
    layer = layers.MultiHeadAttention(2, dropout=0.5, fused=True)
    x = values((8, 5, 4))
    assert np.abs(numpy(layer(x, training=True)) - numpy(layer(x))).max() > 0.01


@pytest.mark.parametrize(
    "name, function",
    {
        "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
        "silu": lambda x: x / (1 + np.exp(-x)),
        "relu": lambda x: np.maximum(x, 0),
        "tanh": np.tanh,
    }.items(),
)
def test_activations_of_an_mlp(name, function):
    layer = layers.MlpBlock(6, "relu", out_activation=name)
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    layer.build(x.shape)
    randomise(layer)
    first, second = (
        [ops.convert_to_numpy(w) for w in dense.weights]
        for dense in (layer.dense1, layer.dense2)
    )
    hidden = np.maximum(x @ first[0] + first[1], 0)
    expected = function(hidden @ second[0] + second[1])
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-6
    )

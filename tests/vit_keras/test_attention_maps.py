"""Attention scores against the reference, rollout against sums done by hand."""

import keras
import numpy as np
import pytest

from tests import reference
from tests.models import TINY, images_for, randomise, tiny, weights_of
from vit_keras import attention_rollout, attention_scores, create_model

CONFIGS = {
    "default": TINY,
    "one_block": tiny(num_layers=1),
    "rectangle": tiny(image_size=(16, 24), distillation_token=True, num_layers=3),
    "gap": tiny(pooling="gap", class_token=True, num_register_tokens=2),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_scores_equal_the_reference(config):
    model = randomise(create_model(config))
    images = images_for(config, number=3)
    scores = attention_scores(model, images)
    tokens = config.num_tokens
    assert scores.dtype == "float32"
    assert scores.shape == (config.num_layers, 3, config.num_heads, tokens, tokens)
    expected = reference.attention_scores(weights_of(model), config, images)
    # Probabilities in float32, of arguments that are exact to about 1e-5.
    np.testing.assert_allclose(scores, expected, atol=2e-5)
    # A float32 sum of at most ten probabilities.
    np.testing.assert_allclose(scores.sum(axis=-1), 1.0, atol=1e-6)


def test_scores_are_those_of_inference():
    rates = {"dropout": 0.5, "attention_dropout": 0.5, "drop_path_rate": 0.5}
    model = randomise(create_model(TINY, **rates))
    images = images_for(TINY)
    first, second = attention_scores(model, images), attention_scores(model, images)
    np.testing.assert_array_equal(first, second)


def test_scores_of_a_model_in_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = create_model(TINY)
    finally:
        keras.config.set_dtype_policy(before)
    scores = attention_scores(model, images_for(TINY))
    assert scores.dtype == "float32"
    # Five probabilities, each rounded to 8 bits.
    np.testing.assert_allclose(scores.sum(axis=-1), 1.0, atol=0.02)


def test_scores_need_encoder_blocks():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="only")(inputs), name="mlp")
    with pytest.raises(ValueError, match="`model`.*EncoderBlock.*'mlp'.*'only'"):
        attention_scores(model, np.zeros((1, 4)))


def test_scores_of_a_nested_model_say_where_to_look():
    model = keras.Sequential([create_model(TINY, name="inner")], name="outer")
    with pytest.raises(ValueError, match="top level.*'outer'.*'inner'"):
        attention_scores(model, images_for(TINY))


def test_rollout_by_hand():
    """One class token and a 1 x 2 grid; two blocks, two heads."""
    heads = np.array(
        [
            [[[0.2, 0.4, 0.4], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]] * 2,
            [
                [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
                [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            ],
        ]
    )[:, None]
    # Block 1, half itself: rows (.6 .2 .2), (.5 .5 0), (0 0 1).
    # Block 2, heads averaged, half itself: its first row is (.5 .25 .25).
    # Their product's first row: .5 (.6 .2 .2) + .25 (.5 .5 0) + .25 (0 0 1)
    # = (.425 .225 .35); of the patches' .575 the shares are:
    expected = [[[0.225 / 0.575, 0.35 / 0.575]]]
    rollout = attention_rollout(heads, num_prefix_tokens=1, grid=(1, 2))
    assert rollout.dtype == "float32"
    assert rollout.shape == (1, 1, 2)
    # Computed in float64, returned in float32.
    np.testing.assert_allclose(rollout, expected, rtol=1e-6)


def test_rollout_goes_row_by_row_over_a_rectangle():
    """A class token that looks at one patch only, number 4: row 1, column 1 of 3."""
    scores = np.eye(8)[None, None, None].copy()
    scores[..., 0, :] = np.eye(8)[2 + 4]
    rollout = attention_rollout(scores, num_prefix_tokens=2, grid=(2, 3))
    np.testing.assert_array_equal(rollout, [[[0, 0, 0], [0, 1, 0]]])


def test_rollout_of_a_model():
    config = CONFIGS["rectangle"]
    scores = attention_scores(create_model(config), images_for(config, number=3))
    rollout = attention_rollout(scores, config.num_prefix_tokens, config.grid)
    assert rollout.shape == (3, 2, 3)
    assert (rollout > 0).all()
    # A float32 sum of six shares.
    np.testing.assert_allclose(rollout.sum(axis=(1, 2)), 1.0, atol=1e-6)


@pytest.mark.parametrize(("prefix", "grid"), [(0, (1, 5)), (1, (1, 5)), (1, (1, 3))])
def test_rollout_refuses_another_number_of_tokens(prefix, grid):
    """Zero prefix tokens fit the count, but there is no first token to start from."""
    with pytest.raises(ValueError) as error:
        attention_rollout(np.ones((1, 1, 1, 5, 5)) / 5, prefix, grid)
    for part in ("`scores`", "5 tokens", f"num_prefix_tokens={prefix}", f"grid={grid}"):
        assert part in str(error.value)

"""The optimizers: schedule, decay, rates by layer, average, accumulation."""

import keras
import numpy as np
import pytest

from tests.models import JIT, images_for, tiny, weights_of
from vit_keras import create_model
from vit_keras.training import Recipe
from vit_keras.training.optimizers import layer_scales, make_optimizer, make_schedule

# No warm-up, no limit, a rate that hardly falls in the first of many steps.
PLAIN = Recipe(learning_rate=0.01, warmup=0.0, clip_norm=None, weight_decay=0.1)
MANY = 10**6


def model_with(recipe, seed=0, **changes):
    """A compiled tiny model, the same for the same seed."""
    keras.utils.set_random_seed(seed)
    model = create_model(tiny(activation="linear", **changes))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    optimizer = make_optimizer(recipe, MANY, model)
    # A graph of TensorFlow takes longer to build than a few steps take without.
    model.compile(optimizer, loss, jit_compile=JIT, run_eagerly=not JIT)
    return model


def labelled(number=8):
    images = images_for(tiny(), number)
    return images, np.eye(5, dtype="float32")[np.arange(number) % 5]


def changes_of(model, *batch):
    """{path: change} of one step."""
    before = weights_of(model)
    model.train_on_batch(*batch)
    return {path: value - before[path] for path, value in weights_of(model).items()}


def test_schedule_rises_and_falls():
    schedule = make_schedule(Recipe(learning_rate=0.5, warmup=0.1), 100)
    rates = [float(schedule(step)) for step in (0, 5, 10, 55, 100)]
    assert rates[0] == 0
    np.testing.assert_allclose(rates[1:], [0.25, 0.5, 0.25, 0], atol=1e-6)
    steady = make_schedule(Recipe(learning_rate=0.5, warmup=0.0), 100)
    assert float(steady(0)) == 0.5


@pytest.mark.parametrize(
    ("optimizer", "layer_decay"),
    [("adamw", 1.0), ("adamw", 0.999999), ("lamb", 1.0), ("muon", 1.0), ("sgd", 1.0)],
)
def test_weight_decay_spares_vectors_and_embeddings(optimizer, layer_decay):
    recipe = PLAIN.replace(optimizer=optimizer, layer_decay=layer_decay)
    sizes = {"num_register_tokens": 1, "layer_scale_init_value": 0.1}
    decayed = model_with(recipe, **sizes)
    free = model_with(recipe.replace(weight_decay=0.0), **sizes)
    # What a step really does: asked by name, a variable of TensorFlow may answer
    # another way than one of Keras.
    with_decay, without = (
        changes_of(decayed, *labelled()),
        changes_of(free, *labelled()),
    )
    differ = {p for p in without if not np.array_equal(with_decay[p], without[p])}
    assert differ == {p for p in without if p.endswith("kernel")}


def test_layer_scales():
    paths = [
        *("embedding/kernel", "class_token/token", "posembed_input/embedding"),
        *("encoderblock_0/mlp/kernel", "encoderblock_1/norm/gamma"),
        *("encoderblock_10/norm/gamma", "encoder_norm/gamma", "head/kernel"),
    ]
    scales = layer_scales(paths, 11, 0.5)
    assert list(scales) == paths
    assert list(scales.values()) == [0.5**n for n in (12, 12, 12, 11, 10, 1, 0, 0)]


def test_layer_decay_scales_each_step():
    sizes = {"num_register_tokens": 1, "pre_norm": True}
    scaled = model_with(PLAIN.replace(layer_decay=0.5), **sizes)
    paths = [w.path for w in scaled.trainable_weights]
    scales = layer_scales(paths, 2, 0.5)
    assert set(scales.values()) == {1.0, 0.5, 0.25, 0.125}
    assert {p for p, s in scales.items() if s == 1.0} == {
        *("encoder_norm/gamma", "encoder_norm/beta", "head/kernel", "head/bias")
    }
    plain = changes_of(model_with(PLAIN, **sizes), *labelled())
    changes = changes_of(scaled, *labelled())
    for path in paths:
        # Weights of order 1, so a change is known to some 1e-7.
        np.testing.assert_allclose(
            changes[path], plain[path] * scales[path], rtol=1e-5, atol=3e-7
        )
        assert np.abs(plain[path]).max() > 1e-3 or path.endswith("key/bias"), path


@pytest.mark.parametrize("accumulate", [1, 2])
def test_average_is_that_of_the_formula(accumulate):
    model = model_with(PLAIN.replace(ema=0.8, accumulate=accumulate))
    images, labels = labelled()
    seen = []
    # With parts, the average has a whole step's share of the weights just before the
    # next step.
    for step in range(4 * accumulate + accumulate - 1):
        model.train_on_batch(images, labels)
        if (step + 1) % accumulate == 0:
            seen.append(model.get_layer("head").get_weights()[0])
    expected = seen[0]
    for value in seen[1:]:
        expected = 0.8 * expected + 0.2 * value
    optimizer = model.optimizer
    index = [w.path for w in model.trainable_weights].index("head/kernel")
    average = keras.ops.convert_to_numpy(
        optimizer._model_variables_moving_average[index].value
    )
    # Float32 sums of four values of order 1.
    np.testing.assert_allclose(average, expected, atol=1e-6)
    assert np.abs(average - seen[-1]).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", keras.optimizers.AdamW),
        ("sgd", keras.optimizers.SGD),
        ("lamb", keras.optimizers.Lamb),
        ("muon", keras.optimizers.Muon),
    ],
)
def test_each_optimizer_moves_all_weights(name, kind):
    recipe = PLAIN.replace(optimizer=name, beta2=0.99, clip_norm=0.5)
    model = model_with(recipe)
    assert isinstance(model.optimizer, kind)  # PyTorch's is a subclass
    assert model.optimizer.global_clipnorm == 0.5
    if name == "sgd":
        assert model.optimizer.momentum == 0.9
    elif name == "muon":
        assert model.optimizer.adam_beta_2 == 0.99
    else:
        assert model.optimizer.beta_2 == 0.99
    first = model.evaluate(*labelled(), verbose=0)
    for _ in range(5):
        model.train_on_batch(*labelled())
    assert model.evaluate(*labelled(), verbose=0) < first


def test_the_rate_counts_optimizer_steps():
    recipe = PLAIN.replace(accumulate=2)
    model = model_with(recipe)
    for _ in range(6):
        model.train_on_batch(*labelled())
    assert int(model.optimizer.iterations) == 3


@pytest.mark.parametrize(
    ("optimizer", "layer_decay"),
    [("adamw", 1.0), ("adamw", 0.7), ("muon", 1.0), ("sgd", 1.0)],
)
def test_two_halves_equal_a_whole(optimizer, layer_decay):
    # Adam divides by the root of the gradient's square: where the gradient is zero but
    # for rounding (the keys' bias), its sign decides. A large epsilon is not a field
    # of the recipe, so those are left out.
    recipe = PLAIN.replace(optimizer=optimizer, layer_decay=layer_decay, clip_norm=1.0)
    images, labels = labelled()
    whole = model_with(recipe)
    parts = model_with(recipe.replace(accumulate=2))
    start = weights_of(whole)
    whole.train_on_batch(images, labels)
    parts.train_on_batch(images[:4], labels[:4])
    assert all(np.array_equal(start[p], v) for p, v in weights_of(parts).items())
    parts.train_on_batch(images[4:], labels[4:])
    a, b = weights_of(whole), weights_of(parts)
    for path in a:
        if not path.endswith("key/bias"):
            # The first step of Adam is the rate, 0.01, times the sign of a gradient.
            np.testing.assert_allclose(a[path], b[path], atol=1e-4, err_msg=path)

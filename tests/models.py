"""Small models and what the tests do with them."""

import contextlib

import keras
import numpy as np
import pytest
from keras.src.backend.common import global_state

from vit_keras import ViTConfig, create_model

# For `compile`. A few steps of a tiny model are over before XLA has compiled them; but
# without it JAX would compile every single operation.
JIT = keras.backend.backend() == "jax"

# For one model built twice with the same weights: compiled apart, two sums of a dozen
# float32 values of order 1 may be taken in another order.
SAME = {"rtol": 2e-6, "atol": 2e-6}

TINY = ViTConfig(
    image_size=16,
    patch_size=8,
    num_layers=2,
    hidden_size=16,
    num_heads=2,
    mlp_dim=24,
    classes=5,
)


# Of models with outputs at each pixel, and images for them.
MAP_SIZES = {
    "image_size": (32, 48),
    "patch_size": 8,
    "num_layers": 4,
    "hidden_size": 32,
    "num_heads": 2,
    "mlp_dim": 64,
}
MAP_IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 32, 48, 3)).astype("float32")


def tiny(**changes):
    """A configuration that builds in a blink."""
    return TINY.replace(**changes)


EXPORTED = tiny(
    image_size=32, hidden_size=32, mlp_dim=64, classes=10
)  # large enough for int8 to be judged


def exported(seed=0, **changes):
    """A small ViT for export, a little away from its fresh weights."""
    task = changes.pop("task", "classify")
    keras.utils.set_random_seed(seed)  # the fresh weights, too
    model = create_model(EXPORTED.replace(**changes), task=task)
    rng = np.random.default_rng(seed)
    model.set_weights([w + rng.normal(0, 0.1, w.shape) for w in model.get_weights()])
    return model


def images_for(config, number=2, seed=0):
    """Normalised images that fit a configuration."""
    shape = (number, *config.image_size, config.channels)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def randomise(model, seed=0):
    """Give every weight a value that is neither 0 nor 1; returns the model.

    Fresh biases are 0 and fresh gammas 1, which would hide a forgotten or swapped one.
    """
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = 0.2 * rng.standard_normal(weight.shape)
        weight.assign(value + 1.0 if weight.path.endswith("gamma") else value)
    return model


def weights_of(model):
    """{path: float64 array}"""
    return {
        w.path: keras.ops.convert_to_numpy(w.value).astype("float64")
        for w in model.weights
    }


def run(model, images):
    """Inference by the call that is cheapest on each backend."""
    if keras.backend.backend() == "jax":  # would compile each eager operation alone
        return model.predict(images, verbose=0)
    return keras.ops.convert_to_numpy(model(images, training=False))


@contextlib.contextmanager
def eagerly():
    """TensorFlow's functions run step by step in here, as those of PyTorch do.

    A graph takes longer to build than a few steps of a tiny model take without.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@contextlib.contextmanager
def without_memory():
    """Models built in here have weights with shapes but no values."""
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        # Keras would allocate and fill them all when its next scope ends.
        global_state.set_global_attribute("uninitialized_variables", [])


def covering(first, second):
    """Pairs for two parameters of a test, of which `make test` takes so many that each
    value is there, and `make test-all` every one."""
    first, second = list(first), list(second)
    size, number = len(first), len(second)
    return [
        pytest.param(
            *(a, b),
            id=f"{a}-{b}",
            marks=() if (i - k) % min(size, number) == 0 else pytest.mark.slow,
        )
        for i, a in enumerate(first)
        for k, b in enumerate(second)
    ]


def slow_but(quick, values):
    """Parameters of a test, a tuple for several, of which `make test` takes some."""
    rows = ((v, v if isinstance(v, tuple) else (v,)) for v in values)
    slow = pytest.mark.slow
    return [pytest.param(*row, marks=() if v in quick else slow) for v, row in rows]

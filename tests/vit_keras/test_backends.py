"""TensorFlow, JAX and PyTorch give the same numbers."""

import json

import numpy as np
import pytest

from tests import reference
from tests.models import images_for, randomise, slow_but, tiny, weights_of
from tests.vit_keras.backends import FAST, python, require
from vit_keras import create_model

BACKENDS = ("tensorflow", "jax", "torch")

# As many options as go together.
CONFIGS = {
    "deit": tiny(
        image_size=(16, 24),
        patch_norm=True,
        mlp_activation="gelu_tanh",
        layer_scale_init_value=0.1,
        distillation_token=True,
        num_register_tokens=2,
        head_dim=5,
        representation_size=7,
        dropout=0.1,
        drop_path_rate=0.1,
        activation="softmax",
    ),
    "map": tiny(
        num_layers=1,
        image_size=(16, 24),
        positions="sincos2d",
        position_prefix=False,
        pooling="map",
        class_token=True,
        qkv_bias=False,
        qk_norm=True,
        pre_norm=True,
        fc_norm=True,
    ),
}
# Some 60 roundings of relative size 6e-8 on values of order 1 to 10, in an order that
# each backend chooses; the largest difference seen is 5e-6.
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}

SCRIPT = """
import json, os, sys
import numpy as np
import keras
before = set(sys.modules)
from vit_keras import create_model
added = {name.partition(".")[0] for name in set(sys.modules) - before}
assert not added & {"tensorflow", "torch", "jax", "export"}, added
folder, = sys.argv[1:]
assert keras.backend.backend() == os.environ["KERAS_BACKEND"]
with open(f"{folder}/configs.json") as file:
    configs = json.load(file)
for name, config in configs.items():
    model = create_model("vit_ti16", **config)
    weights = np.load(f"{folder}/{name}.npz")
    assert set(weights) == {w.path for w in model.weights}
    for weight in model.weights:
        weight.assign(weights[weight.path])
    images = np.load(f"{folder}/{name}_images.npy")
    output = model.predict(images, verbose=0)
    np.save(f"{folder}/{name}_{keras.backend.backend()}.npy", output)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Configurations, weights and images on disk, and what the reference makes of it.

    The folder's `NAME_reference.npy` are computed by NumPy alone.
    """
    path = tmp_path_factory.mktemp("backends")
    configs = {name: config.to_dict() for name, config in CONFIGS.items()}
    (path / "configs.json").write_text(json.dumps(configs))
    for seed, (name, config) in enumerate(CONFIGS.items()):
        weights = weights_of(randomise(create_model(config), seed))
        weights = {k: w.astype("float32") for k, w in weights.items()}
        images = images_for(config, number=3, seed=seed)
        np.savez(path / f"{name}.npz", **weights)
        np.save(path / f"{name}_images.npy", images)
        expected = reference.forward(weights, config, images)
        np.save(path / f"{name}_reference.npy", expected)
    return path


# `test_numerics.py` compares many more with TensorFlow, and `test_backend_torch.py` has
# it do so with PyTorch.
@pytest.mark.parametrize("backend", slow_but(("jax",), BACKENDS))
def test_backend_equals_reference(backend, folder):
    """All agree with one reference, so with each other to twice the tolerance.

    The script also checks that the package imports no framework beyond what Keras has
    imported for its backend.
    """
    require(backend)
    done = python(backend, "-c", SCRIPT, str(folder), **FAST)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in CONFIGS:
        actual = np.load(folder / f"{name}_{backend}.npy")
        expected = np.load(folder / f"{name}_reference.npy")
        assert actual.shape == (3, 5)
        np.testing.assert_allclose(actual, expected, **TOLERANCE)


def test_import_on_jax_loads_no_other_framework_and_no_exporter():
    require("jax")
    code = (
        "import vit_keras, sys; "
        "print(sorted({'tensorflow', 'torch', 'export'} & set(sys.modules)))"
    )
    done = python("jax", "-c", code)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "[]"

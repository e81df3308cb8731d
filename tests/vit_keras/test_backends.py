"""TensorFlow, JAX and PyTorch give the same numbers, and pass the same tests."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests import reference
from tests.models import images_for, randomise, tiny, weights_of
from vit_keras import create_model

ROOT = pathlib.Path(__file__).parents[2]
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


def require(backend):
    """JAX is a dependency of the tests; PyTorch, large, is the developer's choice."""
    found = importlib.util.find_spec(backend) is not None
    if backend == "torch" and not found:
        pytest.skip("PyTorch is not installed")
    assert found, f"the tests need {backend}: install the `dev` dependency group"


# Tiny tensors: PyTorch's threads would wait for each other most of the time, and JAX
# would spend its own on optimising what runs once.
FAST = {
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0"
    " --xla_llvm_disable_expensive_passes=true",
}


def python(backend, *arguments, timeout=900, **variables):
    """Run this interpreter in the project's root under another backend."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


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


@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_equals_reference(backend, folder):
    """All agree with one reference, so with each other to twice the tolerance.

    The script also checks that the package imports no framework beyond what Keras has
    imported for its backend.
    """
    require(backend)
    done = python(backend, "-c", SCRIPT, str(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    for name in CONFIGS:
        actual = np.load(folder / f"{name}_{backend}.npy")
        expected = np.load(folder / f"{name}_reference.npy")
        assert actual.shape == (3, 5)
        np.testing.assert_allclose(actual, expected, **TOLERANCE)


REPEATED = ("corrupt_file", "nan_loss", "full_disk", "no_room", "patience")
REPEATED += ("overwrite", "best_weights")


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="started once, by the run under TensorFlow",
)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_tests_pass_on(backend):
    """Every test of this folder that a backend can change the outcome of."""
    require(backend)
    here = pathlib.Path(__file__).relative_to(ROOT)
    # NumPy and Pillow only; or the same code again, in further processes.
    same = ("config", "preprocessing", "data", "sources", "cli", "weights_cli")
    left_out = [here, *(here.with_name(f"test_{name}.py") for name in same)]
    # Of the folders the tests that compute most: from files to outputs, and `fit`.
    kept = ["test_golden.py", "test_fit.py", "test_optimizers.py"]
    if backend == "jax":  # what is trained on goes on to the last bit after a kill
        kept.append("test_resume.py")
    for folder in ("weights", "training"):
        files = (ROOT / here.parent / folder).glob("test_*.py")
        left_out += [path for path in files if path.name not in kept]
    done = python(
        backend,
        *("-m", "pytest", str(here.parent), "-q", "--tb=short"),
        *("-p", "no:cacheprovider", "-m", "not slow"),
        *(f"--ignore={path}" for path in left_out),
        # One training run shows that training works; these are several more.
        *("-k", " and ".join(f"not {name}" for name in REPEATED)),
        **FAST,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]


def test_import_on_jax_loads_no_other_framework_and_no_exporter():
    require("jax")
    code = (
        "import vit_keras, sys; "
        "print(sorted({'tensorflow', 'torch', 'export'} & set(sys.modules)))"
    )
    done = python("jax", "-c", code)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "[]"

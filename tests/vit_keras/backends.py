"""Keras on another backend, in a process of its own."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def require(backend):
    """JAX is a dependency of the tests; PyTorch, large, is the developer's choice."""
    found = importlib.util.find_spec(backend) is not None
    if backend == "torch" and not found:
        pytest.skip("PyTorch is not installed")
    assert found, f"the tests need {backend}: install the `dev` dependency group"


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


# Tiny tensors: PyTorch's threads would wait for each other most of the time, and JAX
# would spend its own on optimising what runs once.
FAST = {
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0"
    " --xla_llvm_disable_expensive_passes=true",
}

# Several more training runs, where one shows that training works; and what no backend
# computes.
LEFT_OUT = ("corrupt_file", "nan_loss", "full_disk", "no_room", "patience")
LEFT_OUT += ("overwrite", "best_weights", "config_holds", "config_round_trip")
LEFT_OUT += ("another_architecture", "same_architecture")
LEFT_OUT += ("recognised_and_described", "(test_model and output_shape)")
# Of the options of a model, some that together have every layer are enough for these.
FEWER = ("default", "layer_scale", "sincos2d", "patch_norm", "gap", "head_dim")
FEWER += ("clip", "tutorial")
LEFT_OUT += (f"((gradients or save_and_load) and ({' or '.join(FEWER)}))",)


def pass_on(
    backend,
    *more,
    kept=("test_golden.py", "test_fit.py", "test_optimizers.py")
    + ("test_class_weights.py", "test_dense_parts.py"),
    only=None,
):
    """Every test of this folder that a backend can change the outcome of passes on it.

    `kept` are the files in the folders below that are run, `more` those that only this
    backend takes; `only` names those to run in place of all.
    """
    require(backend)
    here = pathlib.Path(__file__).parent.relative_to(ROOT)
    # NumPy and Pillow only; or the same code again, in further processes.
    same = ("config", "preprocessing", "data", "sources", "cli", "weights_cli")
    same += ("data_folders", "tables", "attention_cli", "map_geometry")
    same += ("mask_coco", "mask_data", "mask_files", "mask_folders")
    left_out = [here / f"test_{name}.py" for name in same]
    left_out += [path.relative_to(ROOT) for path in (ROOT / here).glob("test_backend*")]
    chosen = [here]
    if only is not None:
        found = sorted((ROOT / here).rglob("test_*.py"))
        chosen = [path.relative_to(ROOT) for path in found if path.name in only]
        assert len(chosen) == len(only), chosen
    # Of the folders the tests that compute most: from files to outputs, and `fit`.
    kept = [*kept, *more]
    for folder in ("weights", "training"):
        files = (ROOT / here / folder).glob("test_*.py")
        left_out += [path for path in files if path.name not in kept]
    done = python(
        backend,
        *("-m", "pytest", *map(str, chosen), "-q", "--tb=short"),
        *("-p", "no:cacheprovider", "-m", "not slow"),
        *(f"--ignore={path}" for path in left_out),
        *("-k", " and ".join(f"not {name}" for name in LEFT_OUT)),
        **FAST,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]

"""What the code promises about itself: who imports whom, and what it never does."""

import ast
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest

import export
import vit_keras

ROOT = pathlib.Path(__file__).parents[1]
FILES = [
    str(path.relative_to(ROOT))
    for package in ("vit_keras", "export")
    for path in sorted((ROOT / package).rglob("*.py"))
]
MODELS = [name for name in FILES if name.startswith("vit_keras/")]

# A part may import from parts of its package with a lower number, and from itself.
RANKS = {
    "vit_keras": {
        "atomic": 0,
        "preprocessing": 0,
        "layers": 0,
        "config": 1,
        "presets": 2,
        "weights": 3,
        "model": 4,
        "attention_maps": 5,
        "vit": 5,
        "data": 6,
        "training": 7,
        "cli": 8,
    },
    "export": {
        "errors": 0,
        "progress": 0,
        "memory": 0,
        "backend": 1,
        "flatbuffer": 1,
        "schemes": 2,
        "forms": 2,
        "targets": 3,
        "graph": 4,
        "evaluation": 5,
        "report": 6,
        "quantization": 7,
        "inputs": 8,
        "child": 8,
        "compression": 8,
        "tflite": 9,
        "serving": 9,
        "cli": 10,
        "__main__": 11,
    },
}

# The one file that may know Keras 2.
KERAS_2 = "export/compression/keras2/layers.py"


def tree_of(name):
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


def imports_of(name):
    """Absolute names of the modules that a file imports, wherever in the file.

    `from a import b` gives `a.b`, because b may be a module.
    """
    path = pathlib.PurePosixPath(name)
    package = path.parent.parts  # of a module and of an __init__.py alike
    found = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level + 1], *base]
            found.update(".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func)
            argument = node.args[0]
            if called in ("__import__", "importlib.import_module", "import_module"):
                assert isinstance(argument, ast.Constant), f"{name}: {called}(...)"
                found.add(str(argument.value))
    return found


def part_of(name):
    """vit_keras/layers/mlp.py -> layers; vit_keras/model.py -> model"""
    return pathlib.PurePosixPath(name).with_suffix("").parts[1]


def test_the_files_are_found():
    assert "vit_keras/layers/attention.py" in FILES
    assert "vit_keras/model.py" in FILES


def test_imports_are_read_right():
    found = imports_of("vit_keras/layers/encoder.py")
    assert "keras" in found
    assert "vit_keras.layers.attention.MultiHeadAttention" in found
    assert "vit_keras.layers" in imports_of("vit_keras/__init__.py")


@pytest.mark.parametrize("name", MODELS)
def test_models_know_no_backend_and_no_exporter(name):
    top = {module.partition(".")[0] for module in imports_of(name)}
    if name == "vit_keras/training/devices.py":  # inside a function, on that backend
        top -= {"tensorflow"}
    assert not top & {"export", "tensorflow", "torch", "jax", "flax", "tf_keras"}


@pytest.mark.parametrize("name", FILES)
def test_imports_point_one_way(name):
    part, package = part_of(name), name.partition("/")[0]
    if part == "__init__":  # the front door gathers everything
        return
    ranks = RANKS[package]
    assert part in ranks, f"{name}: give the new part a place in RANKS"
    for module in imports_of(name):
        parts = module.split(".")
        if parts[0] != package or len(parts) == 1 or parts[1].startswith("__"):
            continue
        if parts[1] not in ranks:
            # A name of the front door, which has imported all but the command line.
            assert part == "cli" or ranks[part] > ranks.get("vit", 5), name
        elif parts[1] != part:
            assert ranks[parts[1]] < ranks[part], f"{name} imports {module}"


def test_layers_stand_alone_and_configuration_needs_no_keras():
    for name in MODELS:
        inside = {m for m in imports_of(name) if m.startswith("vit_keras")}
        if part_of(name) == "layers":
            assert all(m.startswith("vit_keras.layers") for m in inside), name
        if part_of(name) in ("config", "preprocessing"):
            assert all(m.startswith("vit_keras.preprocessing") for m in inside), name
            assert not any(m.startswith("keras") for m in imports_of(name)), name


@pytest.mark.parametrize("package", [vit_keras, export])
def test_public_names(package):
    names = package.__all__
    assert names == sorted(names)
    public = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_")
        # A submodule becomes an attribute when anything imports it.
        and (name in names or not isinstance(value, types.ModuleType))
    }
    assert public == set(names) - {"__version__"}
    for name in names:
        assert hasattr(package, name)


@pytest.mark.parametrize("name", FILES)
def test_module_has_a_docstring(name):
    assert ast.get_docstring(tree_of(name))


@pytest.mark.parametrize("name", FILES)
def test_library_code_never(name):
    """`python -O` strips asserts; the others make a saved file unsafe to open."""
    for node in ast.walk(tree_of(name)):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Assert), f"{where}: assert"
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            assert not re.search(r"\blayers\.Lambda$", text), f"{where}: {text}"
            assert text not in ("tf.keras", "tensorflow.keras"), f"{where}: {text}"
            unsafe = "enable_unsafe_deserialization"
            assert node.attr != unsafe, f"{where}: {text}"
        if isinstance(node, ast.keyword) and node.arg == "safe_mode":
            value = ast.unparse(node.value)
            assert value == "True", f"{where}: safe_mode={value}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            value = ast.unparse(node.value)
            assert value == "False", f"{where}: allow_pickle={value}"
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    modules = imports_of(name)
    assert not {module.partition(".")[0] for module in modules} & unsafe
    banned = ("keras.layers.Lambda", "tensorflow.keras")
    banned += () if name == KERAS_2 else ("tf_keras",)
    assert not [module for module in modules if module.startswith(banned)]


def test_import_of_export_is_cheap():
    """Frameworks load when something is exported, not when the package is named."""
    code = (
        "import export, sys; print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_missing_backend_is_named():
    code = (
        "import sys; sys.modules['jax'] = None\n"
        "try:\n    import vit_keras\n"
        "except ImportError as error:\n    print(error)"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert "pip install tensorflow, jax or torch" in done.stdout, done.stderr

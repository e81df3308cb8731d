"""What the code promises about itself: who imports whom, and what it never does."""

import ast
import functools
import importlib
import inspect
import os
import pathlib
import re
import subprocess
import sys

import keras
import pytest
import typer

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
        "text_files": -1,
        "atomic": 0,
        "missing": 0,
        "gradients": 0,
        "decoder_sizes": 0,
        "heads": 0,
        "labels": 0,
        "preprocessing": 0,
        "rotary_positions": 0,
        "layers": 1,
        "config_checks": 1,
        "mask_pictures": 1,
        "config": 2,
        "presets": 3,
        "weights": 4,
        "decoders": 4,
        "instrument": 5,
        "network": 5,
        "model_file": 5,
        "text_tower": 5,
        "zero_shot_model": 6,
        "model": 6,
        "attention_maps": 7,
        "token_groups": 7,
        "utils": 7,
        "vit": 7,
        "data": 8,
        "visualize": 8,
        "training": 9,
        "cli": 10,
    },
    "export": {
        "child_process": 0,
        "errors": 0,
        "progress": 0,
        "flatbuffer": 1,
        "schemes": 2,
        "targets": 2,
        "plan": 3,
        "resolve": 4,
        "graph": 5,
        "evaluation": 6,
        "backend": 7,
        "inputs": 7,
        "report": 7,
        "quantization": 8,
        "compilers": 8,
        "compression": 9,
        "tflite": 10,
        "serving": 10,
        "web": 10,
        "comparison_report": 11,
        "cli": 12,
        "__main__": 13,
    },
}
LANDING = 12  # files at the top of `export`; a subject of its own gets a folder
MOST_LINES = 300
MOST_LINES_OF_TESTS = 500

# The one file that may know Keras 2.
KERAS_2 = "export/compression/keras2/layers.py"


def homes_of(package):
    """{public name: module in the package that has it}, by the stub."""
    stub = ast.parse((ROOT / package / "__init__.pyi").read_text(encoding="utf-8"))
    found = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname == alias.name, f"{alias.name}: not re-exported"
                found[alias.name] = node.module or alias.name
    return found


HOMES = {package: homes_of(package) for package in ("vit_keras", "export")}


@functools.cache
def tree_of(name):
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


@functools.cache
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
    assert "vit_keras.layers" in imports_of("vit_keras/network.py")


# Inside functions that run on this backend.
BACKENDS_OF = {
    "vit_keras/gradients.py": {"tensorflow", "torch", "jax"},
    "vit_keras/training/devices.py": {"tensorflow"},
}


def test_models_know_no_backend_and_no_exporter():
    for name in MODELS:
        top = {module.partition(".")[0] for module in imports_of(name)}
        top -= BACKENDS_OF.get(name, set())
        top &= {"export", "tensorflow", "torch", "jax", "flax", "tf_keras"}
        assert not top, f"{name} imports {top}"


def test_imports_point_one_way():
    for name in FILES:
        if part_of(name) != "__init__":  # the front door gathers everything
            check_imports(name)


def check_imports(name):
    part, package = part_of(name), name.partition("/")[0]
    ranks = RANKS[package]
    assert part in ranks, f"{name}: give the new part a place in RANKS"
    for module in imports_of(name):
        parts = module.split(".")
        if parts[0] != package or len(parts) == 1 or parts[1].startswith("__"):
            continue
        if parts[1] not in ranks:  # a public name, from the module that has it
            home = HOMES[package][parts[1]].split(".")[0]
            assert ranks[home] < ranks[part], f"{name} imports {module}"
        elif parts[1] != part:
            assert ranks[parts[1]] < ranks[part], f"{name} imports {module}"


def test_layers_stand_alone_and_configuration_needs_no_keras():
    for name in MODELS:
        inside = {m for m in imports_of(name) if m.startswith("vit_keras")}
        if part_of(name) == "layers":
            own = ("vit_keras.layers", "vit_keras.rotary_positions")
            assert all(m.startswith(own) for m in inside), name
        if part_of(name) in (
            *("config", "config_checks", "decoder_sizes", "heads", "preprocessing"),
            "rotary_positions",
        ):
            known = (
                "vit_keras.preprocessing",
                "vit_keras.heads",
                "vit_keras.config_checks",
                "vit_keras.decoder_sizes",
                "vit_keras.rotary_positions",
            )
            assert all(m.startswith(known) for m in inside), name
            assert not any(m.startswith("keras") for m in imports_of(name)), name


@pytest.mark.parametrize("package", [vit_keras, export])
def test_public_names(package):
    """They are those of `__init__.pyi`, and each is there."""
    homes = HOMES[package.__name__]
    assert set(package.__all__) == set(homes) == set(dir(package))
    for name, home in homes.items():
        value = getattr(package, name)
        module = importlib.import_module(f"{package.__name__}.{home}".rstrip("."))
        assert value is (module if module.__name__.endswith(name) else None) or (
            value is getattr(module, name)
        )


# Classes that public functions return, beside those that are public themselves.
RETURNED = (
    "vit_keras.text_tower.TextEmbeddings",
    "vit_keras.weights.load_plan.LoadReport",
    "export.compilers.CompileReport",
    "export.comparison_report.findings.ComparisonReport",
    "export.comparison_report.measure_file.MeasuredFile",
    "export.comparison_report.scores.FileScores",
    "export.compression.clustering.Clustering",
    "export.compression.compress.CompressionResult",
    "export.compression.pruning.Pruning",
    "export.evaluation.benchmark.Timing",
    "export.evaluation.check.CheckReport",
    "export.evaluation.comparison.Comparison",
    "export.evaluation.half_precision.HalfPrecision",
    "export.evaluation.half_precision.Peak",
    "export.evaluation.profile.CyclesShare",
    "export.evaluation.profile.LayerCycles",
    "export.evaluation.profile.Profile",
    "export.evaluation.runners.SavedModelRunner",
    "export.evaluation.runners.TFLiteRunner",
    "export.evaluation.tensor_errors.TensorError",
    "export.evaluation.parity.Parity",
    "export.quantization.aware.aware_model.QuantizedModel",
    "export.report.ExportReport",
    "export.report.OutputReport",
    "export.tflite.c_array.CArray",
)


def is_ours(value):
    return getattr(value, "__module__", "").partition(".")[0] in HOMES


def functions_of(name, value):
    """(name, function) of a function, of what a class defines, or a module has."""
    if inspect.ismodule(value):
        for inner, member in vars(value).items():
            home = getattr(member, "__module__", "")
            if not inner.startswith("_") and home.startswith(value.__name__):
                yield from functions_of(f"{name}.{inner}", member)
    elif inspect.isclass(value):
        for base in filter(is_ours, value.__mro__):
            for inner, member in vars(base).items():
                member = getattr(member, "fget", getattr(member, "__func__", member))
                public = not inner.startswith("_") or inner in ("__init__", "__call__")
                if public and inspect.isfunction(member) and is_ours(member):
                    yield f"{name}.{inner}", member
    elif inspect.isfunction(value):
        yield name, value


def untyped_of(function):
    """Names of a function's parameters without a type; "return" for its result."""
    signature = inspect.signature(function)
    for name, parameter in signature.parameters.items():
        if parameter.annotation is parameter.empty and name not in ("self", "cls"):
            yield name
    if function.__name__ != "__init__":  # whose result is None, always
        if signature.return_annotation is signature.empty:
            yield "return"


def test_untyped_parameters_are_seen():
    def function(self, a, b: int, *c, **d: int):
        pass

    assert [*untyped_of(function)] == ["a", "c", "return"]
    found = {name for name, _ in functions_of("layers", vit_keras.layers)}
    assert {"layers.MlpBlock.__init__", "layers.MlpBlock.call"} <= found
    assert "vit.vit_b16" in dict(functions_of("vit", vit_keras.vit))


def test_public_functions_are_typed():
    public = [
        (f"{package.__name__}.{name}", getattr(package, name))
        for package in (vit_keras, export)
        for name in package.__all__
    ]
    if keras.backend.backend() == "tensorflow":  # some are callbacks with tf.function
        for name in RETURNED:
            module, _, member = name.rpartition(".")
            public.append((name, getattr(importlib.import_module(module), member)))
    missing = {
        name: ", ".join(untyped_of(function))
        for public_name, value in public
        for name, function in functions_of(public_name, value)
    }
    assert len(missing) > 100
    assert not [f"{name}: {names}" for name, names in missing.items() if names]


def test_modules_have_a_docstring():
    assert [name for name in FILES if not ast.get_docstring(tree_of(name))] == []


def test_library_code_never():
    """`python -O` strips asserts; the others make a saved file unsafe to open."""
    for name in FILES:
        check_never(name)


def check_never(name):
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
    assert not {module.partition(".")[0] for module in modules} & unsafe, name
    banned = ("keras.layers.Lambda", "tensorflow.keras")
    banned += () if name == KERAS_2 else ("tf_keras",)
    assert not [module for module in modules if module.startswith(banned)], name


def test_few_files_on_the_landing_and_none_too_long():
    assert len(list((ROOT / "export").glob("*.py"))) <= LANDING
    for name in FILES:
        lines = len((ROOT / name).read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{name}: {lines} lines"


def test_no_test_file_is_too_long():
    paths = list((ROOT / "tests").rglob("*.py"))
    assert pathlib.Path(__file__) in paths
    for path in paths:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES_OF_TESTS, f"{path}: {lines} lines"


# The same thing on both sides of a protocol, told apart by their modules.
PROTOCOLS = {"main", "answer_request"}
# Their names are those of another package.
DROP_IN = ("vit_keras/utils.py", "vit_keras/visualize.py", "vit_keras/vit.py")


@pytest.mark.parametrize("package", ["vit_keras", "export"])
def test_no_two_modules_or_functions_of_one_name(package):
    modules, functions = {}, {}
    for name in (name for name in FILES if name.startswith(f"{package}/")):
        if (stem := pathlib.PurePosixPath(name).stem) != "__init__":
            assert stem not in modules, f"{name} and {modules[stem]}"
            modules[stem] = name
        if name in DROP_IN:
            continue
        for node in tree_of(name).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and (
                not node.name.startswith("_") and node.name not in PROTOCOLS
            ):
                where = functions.setdefault(node.name, name)
                assert where == name, f"{node.name}: {name} and {where}"


def commands_of(module):
    """{words of a command: its click command} of a program."""
    top = typer.main.get_command(importlib.import_module(module).app)
    waiting, found = [((), top)], {}
    while waiting:
        words, command = waiting.pop()
        for name, inner in getattr(command, "commands", {}).items():
            waiting.append(((*words, name), inner))
        if not hasattr(command, "commands"):
            found[words] = command
    return found


@pytest.mark.parametrize("module", ["vit_keras.cli", "export.cli"])
def test_every_option_has_a_help_text(module, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "tensorflow"))
    commands = commands_of(module)
    assert len(commands) >= 8
    for words, command in commands.items():
        assert command.help, words
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{words}: {parameter.name}"


LIGHT = {
    "vit_keras.cli": (
        ("--help", "train --help", "presets", "recipes", "weights list")
        + ("train --no-such-option", "zero-shot --help")
    ),
    "export.cli": (
        "--help",
        "tflite --help",
        "tflite",
        "schemes",
        "targets",
        "web --help",
    ),
}


@pytest.mark.parametrize("module", LIGHT)
def test_help_and_lists_load_no_backend(module):
    """One after the other in one process: what one loads would stay."""
    code = (
        f"import contextlib, sys; from {module} import main\n"
        "heavy = {'keras', 'tensorflow', 'jax', 'torch', 'pandas', 'scipy'}\n"
        "for words in sys.argv[1:]:\n"
        "    sys.argv[1:] = words.split()\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main()\n"
        "    print(words, sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *LIGHT[module]],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    for words in LIGHT[module]:
        assert f"{words} []" in done.stderr.splitlines(), done.stderr


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
        "try:\n    import vit_keras\n    vit_keras.create_model\n"
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

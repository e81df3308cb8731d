"""Every name of another package that it does not document and that this code uses all
the same. A release may take any of them away: here that is seen first."""

import ast
import functools
import importlib
import inspect
import pathlib
import re
import sys

import keras
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = [
    path
    for package in ("vit_keras", "export")
    for path in (ROOT / package).rglob("*.py")
]


def functional():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2, name="dense")(inputs))


def sequential():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


def averaging():
    model = functional()
    optimizer = keras.optimizers.SGD(use_ema=True)
    optimizer.build(model.trainable_variables)
    return optimizer, model


@functools.cache
def file_of_a_dense():
    import tensorflow as tf

    kernel = tf.constant(np.ones((4, 2), "float32"))
    call = tf.function(lambda x: x @ kernel).get_concrete_function(
        tf.TensorSpec((1, 4), "float32")
    )
    return tf.lite.TFLiteConverter.from_concrete_functions([call]).convert()


def history_names_the_operation():
    model = functional()
    history = model.outputs[0]._keras_history
    assert history.operation is model.get_layer("dense")
    assert history[0] is history.operation and history[1] == history.node_index == 0


def nodes_have_their_inputs():
    model = functional()
    (node,) = model.get_layer("dense")._inbound_nodes
    assert node.input_tensors == model.inputs


def layers_are_walked():
    outer = keras.Sequential([keras.Input((4,)), functional()])
    assert "dense" in [layer.name for layer in outer._flatten_layers()]


def sequential_has_a_functional():
    assert sequential()._functional._nodes_by_depth.keys() == {0, 1}


def averages_are_of_each_weight():
    optimizer, model = averaging()
    averages = optimizer._model_variables_moving_average
    assert [a.shape for a in averages] == [w.shape for w in model.trainable_variables]


def gradients_are_summed_in_a_method():
    optimizer = averaging()[0]
    assert callable(optimizer._backend_apply_gradients)
    if keras.backend.backend() == "tensorflow":
        assert callable(optimizer._all_reduce_sum_gradients)


def optimizers_know_their_variables():
    optimizer, (kernel, bias) = keras.optimizers.SGD(), functional().trainable_variables
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build([kernel, bias])
    assert optimizer._trainable_variables == [kernel, bias]
    assert optimizer._get_variable_index(bias) == 1
    assert optimizer._use_weight_decay(kernel)
    assert not optimizer._use_weight_decay(bias)


def predict_comes_from_a_trainer():
    model = functional()
    module = type(model).predict_step.__module__
    assert module.startswith("keras.src.trainers") or module.startswith(
        "keras.src.backend"
    )
    assert type(model).predict.__module__.startswith("keras.src.backend")


def interpreter_lists_operators():
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(model_content=file_of_a_dense())._get_ops_details()
    assert {"op_name", "inputs", "outputs"} <= set(found[0])


def flatbuffer_goes_there_and_back():
    from ai_edge_litert.tools import flatbuffer_utils as utils

    model = utils.read_model_from_bytearray(bytearray(file_of_a_dense()))
    assert utils.convert_object_to_bytearray(model)


def schema_has_mutable_objects():
    from ai_edge_litert import schema_py_generated as schema

    assert schema.ModelT and schema.BuiltinOperator.FULLY_CONNECTED == 9


def io_types_are_changed():
    from tensorflow.lite.python.util import modify_model_io_type

    taken = list(inspect.signature(modify_model_io_type).parameters)
    assert taken == ["model", "inference_input_type", "inference_output_type"]


def graphs_are_those_opened():
    """`tf.compat.v1.saved_model.load` opens what the reader before it returned."""
    from tensorflow.python.saved_model import loader_impl

    loader = inspect.getsource(loader_impl.SavedModelLoader)
    assert "self._saved_model = parse_saved_model(export_dir)" in loader


def sessions_call_by_a_method():
    import tensorflow as tf

    asked = []
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session._do_call = lambda function, *given: asked.append(1) or function(*given)
        assert session.run(tf.constant(3)) == 3
    assert asked


def tfmot_has_its_parts():
    from export.compression import tfmot_internals

    assert tfmot_internals.changes() == []


def micro_has_a_runtime():
    from tflite_micro.python.tflite_micro import runtime

    assert callable(runtime.Interpreter.from_bytes)


def vela_knows_its_accelerators():
    from ethosu.vela.architecture_features import CONFIG_FILES_PATH, Accelerator

    assert pathlib.Path(CONFIG_FILES_PATH).is_dir()
    assert "ethos-u55-128" in {member.value for member in Accelerator}


# (package, attribute or module, what it is used for, what must be so)
USED = [
    (
        "keras",
        "_keras_history",
        "which layer gave a tensor",
        history_names_the_operation,
    ),
    (
        "keras",
        "_inbound_nodes",
        "the inputs of a layer's calls",
        nodes_have_their_inputs,
    ),
    ("keras", "_flatten_layers", "layers inside layers", layers_are_walked),
    ("keras", "_functional", "graph of Sequential", sequential_has_a_functional),
    ("keras", "_nodes_by_depth", "calls in their order", sequential_has_a_functional),
    (
        "keras",
        "_model_variables_moving_average",
        "averaged weights, to the bit",
        averages_are_of_each_weight,
    ),
    (
        "keras",
        "_backend_apply_gradients",
        "the sum before clipping",
        gradients_are_summed_in_a_method,
    ),
    (
        "keras",
        "_all_reduce_sum_gradients",
        "the sum before clipping",
        gradients_are_summed_in_a_method,
    ),
    *(
        ("keras", name, "an optimizer's own rule", optimizers_know_their_variables)
        for name in ("_trainable_variables", "_get_variable_index", "_use_weight_decay")
    ),
    *(
        ("keras", name, "a `predict` of its own", predict_comes_from_a_trainer)
        for name in ("keras.src.trainers", "keras.src.backend")
    ),
    (
        "ai_edge_litert",
        "_get_ops_details",
        "operators run",
        interpreter_lists_operators,
    ),
    (
        "ai_edge_litert",
        "ai_edge_litert.tools.flatbuffer_utils",
        "files as objects",
        flatbuffer_goes_there_and_back,
    ),
    (
        "ai_edge_litert",
        "ai_edge_litert.schema_py_generated",
        "the format of files",
        schema_has_mutable_objects,
    ),
    (
        "tensorflow",
        "tensorflow.lite.python.util",
        "integer inputs",
        io_types_are_changed,
    ),
    (
        "tensorflow",
        "_do_call",
        "errors as they come, without a search for nodes in them",
        sessions_call_by_a_method,
    ),
    (
        "tensorflow",
        "tensorflow.python.saved_model.loader_impl",
        "the graphs that are to be opened",
        graphs_are_those_opened,
    ),
    (
        "tensorflow_model_optimization",
        "tensorflow_model_optimization.python.core.clustering.keras",
        "centroids by k-means",
        tfmot_has_its_parts,
    ),
    (
        "tensorflow_model_optimization",
        "tensorflow_model_optimization.python.core.sparsity.keras",
        "masks of pruning",
        tfmot_has_its_parts,
    ),
    (
        "tflite_micro",
        "tflite_micro.python.tflite_micro",
        "the interpreter of microcontrollers",
        micro_has_a_runtime,
    ),
    (
        "ethosu",
        "ethosu.vela.architecture_features",
        "names and folder of Vela",
        vela_knows_its_accelerators,
    ),
]
ATTRIBUTES = {name for _, name, *_ in USED if "." not in name}
MODULES = {name for _, name, *_ in USED if "." in name}
IN_FILES = "torch._utils."  # what checkpoints name: their format, not a package
PUBLIC_TOO = {"os._exit"}  # documented in spite of its name


def own_names(trees):
    """What this code itself calls by a name: functions, classes, attributes of self."""
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id == "self":
                    found.add(node.attr)
    return found


def private_attributes(tree, own):
    """Attributes with an underscore that are not this code's, also by getattr."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name, text = node.attr, ast.unparse(node)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("getattr", "hasattr")
            and isinstance(node.args[1], ast.Constant)
        ):
            name = text = node.args[1].value
        else:
            continue
        private = name.startswith("_") and not name.startswith("__")
        if private and name not in own and text not in PUBLIC_TOO:
            yield name


def imported_modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def spelled_modules(tree):
    """Names of modules in strings: who compares with one leans on it, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"[a-z]\w*(\.\w+)+", node.value):
                yield node.value


def looks_internal(module):
    """Whether a module's own package does not document it, by its name or by name."""
    parts = module.split(".")
    hidden = any(part.startswith("_") or part in ("src", "python") for part in parts)
    return hidden and parts[0] not in sys.stdlib_module_names


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(path.read_text()) for path in FILES}


def test_no_other_private_name_is_used(trees):
    own = own_names(trees.values())
    used = {name for tree in trees.values() for name in private_attributes(tree, own)}
    assert used == ATTRIBUTES


def test_no_other_internal_module_is_imported(trees):
    imported = {
        name
        for tree in trees.values()
        for name in (*imported_modules(tree), *spelled_modules(tree))
    }
    internal = {name for name in imported if looks_internal(name)}
    internal = {name for name in internal if not name.startswith(IN_FILES)}
    allowed = {name for name in internal if any(name.startswith(m) for m in MODULES)}
    assert internal == allowed
    assert {m for m in MODULES if m in imported or f"{m}." in str(imported)} == MODULES


def test_a_private_name_is_seen():
    tree = ast.parse(
        "model._graph; getattr(model, '_nodes', None); self._own; os._exit"
    )
    assert set(private_attributes(tree, {"_own"})) == {"_graph", "_nodes"}
    put = ast.parse("self._own = 1; self.session._call = 1")
    assert set(private_attributes(put, own_names([put]))) == {"_call"}
    assert looks_internal("keras.src.ops") and not looks_internal("keras.ops")


@pytest.mark.parametrize(
    "package, name, check",
    [(p, n, c) for p, n, _, c in USED],
    ids=[n for _, n, *_ in USED],
)
def test_name_is_there(package, name, check):
    pytest.importorskip(package)
    if "." in name:
        importlib.import_module(name)
    check()


def test_arrays_of_the_flatbuffer_are_numpy():
    from ai_edge_litert.tools import flatbuffer_utils as utils

    model = utils.read_model_from_bytearray(bytearray(file_of_a_dense()))
    assert any(isinstance(buffer.data, np.ndarray) for buffer in model.buffers)

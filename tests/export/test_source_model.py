"""Models are exported as they are, whatever they are made of."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import export
from export.graph.source_model import as_functional, float32_policies
from tests.export.own_layers import Doubled, Scale, Subclassed, small
from tests.models import exported, slow_but
from tests.program import run
from tests.vit_keras.backends import FAST

FLOAT_DB = 100  # float32 in another order of sums: 1e-5 of the values


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype("uint8")


def parity_on(model, images, path, **options):
    """SQNR in dB of a file beside `model.predict` on the same images."""
    export.to_tflite(model, path, calibration=images, **options)
    outputs = export.load(path)(images)
    expected = model.predict(images.astype("float32"), verbose=0)
    error = np.sum((outputs - expected) ** 2)
    return 10 * np.log10(np.sum(expected.astype("float64") ** 2) / max(error, 1e-30))


def adapted(images):
    """`Normalization` with statistics that no weight and no configuration holds."""
    layer = layers.Normalization()
    layer.adapt(images.astype("float32"))
    return layer


CASES = {
    "no get_config": lambda images: small(Scale(3.0)),
    "Lambda": lambda images: small(layers.Lambda(lambda x: x - 1)),
    "adapted Normalization": lambda images: small(Doubled(), adapted(images)),
    "augmentation": lambda images: small(
        layers.Pipeline([layers.RandomFlip(), layers.RandomContrast(0.5)])
    ),
    "nested, subclassed": lambda images: small(
        keras.Sequential([layers.Conv2D(4, 1), Doubled()])
    ),
    "tf.Variable": lambda images: small(WithVariable()),
}


class WithVariable(layers.Layer):
    """Holds a variable that Keras does not know."""

    def __init__(self):
        super().__init__()
        import tensorflow as tf

        self.factor = tf.Variable(2.5)

    def call(self, x):
        return x * self.factor


# The others are in the models of `test_foreign.py` and `test_model_input.py`, too.
@pytest.mark.parametrize(
    "name", slow_but(("no get_config", "Lambda", "tf.Variable"), CASES)
)
def test_a_functional_model_is_traced_as_it_is(name, images, tmp_path):
    keras.utils.set_random_seed(0)
    model = CASES[name](images)
    assert parity_on(model, images, tmp_path / "m.tflite") > FLOAT_DB


def test_a_subclassed_model_that_was_called(images, tmp_path):
    keras.utils.set_random_seed(0)
    model = Subclassed()
    model(images[:2].astype("float32"))
    assert parity_on(model, images, tmp_path / "m.tflite") > FLOAT_DB
    served = {"signatures": ("serving_default",), "calibration": images}
    report = export.to_saved_model(model, tmp_path / "saved", **served)
    assert report.parity.sqnr_db > FLOAT_DB


def test_a_subclassed_model_that_was_never_called(images, tmp_path):
    with pytest.raises(ValueError, match="`input_shape` must be given"):
        export.to_tflite(Subclassed(), tmp_path / "m.tflite")
    keras.utils.set_random_seed(0)
    model = Subclassed()
    shape = {"input_shape": (16, 16, 3)}
    assert parity_on(model, images, tmp_path / "m.tflite", **shape) > FLOAT_DB


def test_one_of_several_outputs_is_chosen_by_name(images, tmp_path):
    keras.utils.set_random_seed(0)
    inner = small(Doubled())
    both = {"scores": inner.output, "features": inner.layers[-2].output}
    model = keras.Model(inner.input, both)
    with pytest.raises(ValueError, match="2 outputs: 'scores', 'features'"):
        export.to_tflite(model, tmp_path / "m.tflite")
    report = export.to_tflite(model, tmp_path / "m.tflite", output="features")
    assert report.output == "float32 (1, 8)"
    for named in ({"output": "features"}, {}):  # else as the report says
        parity = export.verify(model, tmp_path / "m.tflite", images, **named)
        assert parity.sqnr_db > FLOAT_DB
    errors = export.verify_layers(model, tmp_path / "m.tflite", images)
    assert min(error.sqnr_db for error in errors) > FLOAT_DB
    indexed = keras.Model(inner.input, list(both.values()))
    report = export.to_tflite(indexed, tmp_path / "m.tflite", output=0)
    assert report.output == "float32 (1, 4)"
    with pytest.raises(ValueError, match="this has one"):
        export.to_tflite(inner, tmp_path / "m.tflite", output="scores")


def test_several_inputs_are_refused():
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    model = keras.Model(inputs, layers.Add()(inputs))
    with pytest.raises(ValueError, match="one input, the images. Received: 2"):
        as_functional(model)


def test_a_model_with_lora_is_exported_with_it(images, tmp_path):
    keras.utils.set_random_seed(0)
    model = small(layers.Conv2D(8, 1, name="inner"))
    plain = np.array(model(images.astype("float32")))
    layer = model.get_layer("inner")
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    changed = np.array(model(images.astype("float32")))
    assert np.abs(changed - plain).max() > 0.01  # else nothing is shown
    assert parity_on(model, images, tmp_path / "m.tflite") > FLOAT_DB


def test_a_quantised_model_is_refused_by_the_layer_s_name(tmp_path):
    model = small(layers.Dense(8, name="inner"))
    model.get_layer("inner").quantize("int8")
    with pytest.raises(ValueError, match="quantised to int8 by `model.quantize`"):
        export.to_tflite(model, tmp_path / "m.tflite")


@pytest.mark.parametrize(
    "policy",
    slow_but(
        ("mixed_float16", "bfloat16"), ("mixed_float16", "mixed_bfloat16", "bfloat16")
    ),
)
def test_half_precision_is_traced_in_float32_and_stays(policy, images, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        model = small(Doubled(), adapted(images))
    finally:
        keras.config.set_dtype_policy("float32")
    before = [layer.dtype_policy for layer in model.layers]
    report = export.to_tflite(model, tmp_path / "m.tflite", calibration=images)
    assert report.parity.sqnr_db > FLOAT_DB
    assert [layer.dtype_policy for layer in model.layers] == before
    # What the user measures, in half precision: bfloat16 has 8 bits, about 48 dB.
    outputs = export.load(tmp_path / "m.tflite")(images)
    expected = model.predict(images.astype("float32"), verbose=0).astype("float32")
    assert np.abs(outputs - expected).max() < 0.02 * np.abs(expected).max()


def test_policies_are_restored_when_a_layer_fails():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, dtype="bfloat16")])
    with pytest.raises(RuntimeError), float32_policies(model):
        assert model.layers[0].compute_dtype == "float32"
        raise RuntimeError
    assert model.layers[0].compute_dtype == "bfloat16"


def test_a_model_is_not_changed_by_its_export(images, tmp_path):
    model = exported(num_layers=1)
    weights = [np.array(w) for w in model.weights]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    export.to_tflite(model, tmp_path / "m.tflite", scheme="int8", calibration=pixels)
    for before, now in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(before, np.array(now))


def test_layers_of_a_file_come_from_a_module(tmp_path):
    keras.utils.set_random_seed(0)
    small(Doubled()).save(tmp_path / "m.keras")
    words = ["tflite", "m.keras", "m.tflite", "--module"]
    done = subprocess.run(  # one that has not imported it
        [sys.executable, "-m", "export", *words, "tests.export.own_layers"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    done = run("vit-export", *words, "no_such_module")
    assert done.returncode != 0 and "'no_such_module' cannot be imported" in done.stderr


@pytest.mark.slow  # in three processes
def test_the_user_s_layers_are_found_on_another_backend(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.export.own_layers", tmp_path],
        env={**os.environ, **FAST, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "script.tflite").exists()
    refused, decibels = done.stdout.splitlines()
    assert "Doubled is defined in the script that runs" in refused
    assert float(decibels) > FLOAT_DB

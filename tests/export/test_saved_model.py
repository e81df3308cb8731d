"""The SavedModel through TensorFlow's own loader."""

import json

import numpy as np
import pytest

import export
from export.evaluation.benchmark import size_bytes
from export.graph.inference_layer import InferenceViT
from export.graph.read_vit import read_weights
from export.graph.rewrites import FOR_INTEGERS
from export.graph.shifts import SHIFTS
from tests.models import exported, run
from vit_keras.preprocessing import normalize


@pytest.fixture(scope="module")
def servable(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("servable") / "digits" / "1"
    export.to_saved_model(model, path, labels=list("0123456789"))
    return path


def test_outputs_equal_keras_for_any_batch(model, servable, pixels):
    import tensorflow as tf

    signature = tf.saved_model.load(str(servable)).signatures["serving_default"]
    expected = run(model, normalize(pixels, model.config.preprocessing))
    limit = 1e-5 * np.abs(expected).max()  # float32 sums in another order
    for number in (1, 3, 48):
        outputs = signature(images=tf.constant(pixels[:number]))["output"]
        np.testing.assert_allclose(outputs, expected[:number], atol=limit)


def test_signature(servable):
    runner = export.load(servable)
    assert runner.input_shape == (None, 32, 32, 3)
    assert runner.input_dtype == "uint8"
    assert runner.output_dtype == "float32"


def test_wrong_size_is_refused_in_the_graph(servable):
    import tensorflow as tf

    # 35 pixels still make 4 patches of 8: without a check they would be cropped.
    signature = tf.saved_model.load(str(servable)).signatures["serving_default"]
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError)):
        signature(images=tf.zeros((1, 35, 35, 3), tf.uint8))


def test_weights_are_stored_once(model, servable):
    variables = size_bytes(servable / "variables")
    # Variables and a small index: less than 10 % over the weights' own bytes.
    assert variables < 1.1 * 4 * model.count_params()


def test_weights_are_in_memory_once(model, servable):
    """Arrays are given up as their variables are made; what helps only integers, and
    would cost a float its last digits, is left out."""
    given, kept = read_weights(model, None), read_weights(model, None)
    lean, whole = InferenceViT(given, keep=False), InferenceViT(kept)
    assert lean.source_weights is None and given.blocks[1].dense2.kernel is None
    assert kept.blocks[1].dense2.kernel.dtype == "float32"
    assert kept.blocks[1].dense2.bias.dtype == "float64"
    for one, other in zip(lean.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    rewrites = json.loads((servable.parent / "1.json").read_text())["rewrites"]
    assert "fold_norms" in rewrites and not {*FOR_INTEGERS, *SHIFTS} & {*rewrites}


def test_labels_report_and_verify(model, servable, pixels):
    lines = (servable / "assets" / "labels.txt").read_text().split()
    assert lines == list("0123456789")
    report = json.loads((servable.parent / "1.json").read_text())
    assert report["format"] == "saved_model" and report["parity"]["passed"]
    parity = export.verify(model, servable, pixels)
    assert parity.passed and parity.threshold_db == 80


def test_existing_directory_is_refused(model, servable):
    before = sorted(servable.rglob("*"))
    with pytest.raises(FileExistsError, match="must not exist"):
        export.to_saved_model(model, servable)
    assert sorted(servable.rglob("*")) == before


def test_failure_leaves_nothing(tmp_path):
    model = exported()
    head = model.get_layer("head").kernel
    head.assign(np.full(head.shape, np.nan))
    with pytest.raises(ValueError, match="finite weights"):
        export.to_saved_model(model, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_an_os_error(model, tmp_path, monkeypatch):
    import tensorflow as tf

    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    # What calls TensorFlow's writer.
    monkeypatch.setattr("export.serving.saved_model.quietly", full)
    with pytest.raises(OSError, match="cannot be written: No space left"):
        export.to_saved_model(model, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []

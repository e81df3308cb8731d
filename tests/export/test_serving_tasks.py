"""SavedModels of other tasks than one class of many."""

import keras
import numpy as np
import pytest

import export
from export.evaluation.tools.serving_requests import example
from export.serving import client
from tests.export.pictures import encoded, evaluated, picture
from tests.models import EXPORTED, run, slow_but
from tests.models import exported as two_blocks
from vit_keras import create_model
from vit_keras.preprocessing import normalize

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)
import tensorflow as tf

CLASSES = ["road", "sky", "tree"]
BYTES = {"signatures": ["predict_bytes"]}


def exported(**changes):
    """One block, as what is shown is of the head."""
    return two_blocks(num_layers=1, **changes)


def segmenter(nested):
    """A linear head of classes on the patch tokens, as wide as the image."""
    keras.utils.set_random_seed(0)
    config = EXPORTED.replace(class_token=False, pooling=None, include_top=False)
    vit = create_model(config, task="features")
    inputs = keras.Input((32, 32, 3)) if nested else vit.input
    x = vit(inputs) if nested else vit.output
    x = keras.layers.Reshape((4, 4, 32))(x)
    x = keras.layers.Dense(len(CLASSES))(x)
    x = keras.layers.UpSampling2D(8, interpolation="bilinear")(x)
    return keras.Model(inputs, x), vit.config.preprocessing


def asked(path, items):
    """What `predict_bytes` answers, arrays by name."""
    predict = tf.saved_model.load(str(path)).signatures["predict_bytes"]
    found = predict(image_bytes=tf.constant(items))
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("nested", [pytest.param(True, marks=pytest.mark.slow), False])
def test_masks_of_a_segmentation_model(nested, tmp_path, pixels):
    model, rules = segmenter(nested)
    path = tmp_path / "roads" / "1"
    # A model around the layers of a ViT carries no preprocessing.
    options = {} if nested else {"preprocessing": rules}
    report = export.to_saved_model(model, path, labels=CLASSES, warmup=[1], **options)
    assert report.parity.passed and report.rewrites
    items = [encoded(picture(seed=i)) for i in range(3)]
    images = normalize(np.stack([evaluated(i, (32, 32), rules) for i in items]), rules)
    logits = run(model, images)
    found = asked(path, [items[0], b"no image", *items[1:]])
    assert set(found) == {"masks", "valid"} and found["masks"].dtype == "uint8"
    assert found["valid"].tolist() == [True, False, True, True]
    np.testing.assert_array_equal(found["masks"][[0, 2, 3]], logits.argmax(-1))
    assert (found["masks"][1] == 255).all()
    default = tf.saved_model.load(str(path)).signatures["serving_default"]
    whole = default(images=tf.constant(pixels[:2]))
    np.testing.assert_array_equal(whole["masks"], whole["output"].numpy().argmax(-1))
    assert (path / "assets" / "labels.txt").read_text().split() == CLASSES
    assert export.load(path).output_shape == (None, 32, 32, 3)
    assert export.verify(model, path, pixels[:4]).passed or not nested
    assert export.check(path, "tf-serving").passed
    share = np.mean(found["masks"][0] == np.bincount(found["masks"][0].flat).argmax())
    answer = {name: value[0].tolist() for name, value in found.items()}
    assert f"{share:.1%}" in client.describe(answer)


def test_classify_is_for_one_vector_of_classes(tmp_path):
    model, _ = segmenter(nested=True)
    with pytest.raises(ValueError, match="classify only for a model with one vector"):
        export.to_saved_model(model, tmp_path / "1", signatures=["classify"])
    assert not list(tmp_path.iterdir())


def test_tokens_are_an_output_as_they_are(tmp_path):
    model, item = exported(task="features"), encoded(picture())
    export.to_saved_model(model, tmp_path / "1", **BYTES)
    found = asked(tmp_path / "1", [item, b""])
    assert set(found) == {"output", "valid"} and not found["output"][1].any()
    rules = model.config.preprocessing
    tokens = run(model, normalize(evaluated(item, (32, 32), rules)[None], rules))
    np.testing.assert_allclose(found["output"][:1], tokens, atol=1e-4)


def test_features_where_the_norm_is_last(tmp_path):
    """No `encoder_norm` to read the tokens from, no head to read its input from."""
    model, item = (
        exported(fc_norm=True, pooling="gap", include_top=False),
        encoded(picture()),
    )
    export.to_saved_model(model, tmp_path / "1", signatures=["features"])
    features = tf.saved_model.load(str(tmp_path / "1")).signatures["features"]
    found = features(image_bytes=tf.constant([item]))
    rules = model.config.preprocessing
    images = normalize(evaluated(item, (32, 32), rules)[None], rules)
    np.testing.assert_allclose(found["pooled"], model(images), atol=1e-5)
    block = model.get_layer("encoderblock_0").output
    tokens = keras.Model(model.input, block)(images)
    np.testing.assert_allclose(found["tokens"], tokens, atol=1e-5)


def test_one_logit_is_of_two_classes(tmp_path):
    """Class 1 where its probability is above 0.5, else class 0."""
    model = exported(classes=1, head="sigmoid")
    items = [encoded(picture(seed=i)) for i in range(6)]
    bias = model.get_layer("head").bias
    export.to_saved_model(model, tmp_path / "0", **BYTES)
    bias.assign(bias - np.median(asked(tmp_path / "0", items)["logits"]))
    report = export.to_saved_model(model, tmp_path / "1", labels=["dog", "cat"])
    assert report.head == "sigmoid"
    found = asked(tmp_path / "1", [*items, b"no image"])
    logits, shares = found["logits"][:6], found["probabilities"][:6]
    np.testing.assert_allclose(shares[:, 1:], 1 / (1 + np.exp(-logits)), rtol=1e-5)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    cats = logits[:, 0] > 0
    assert 0 < cats.sum() < 6
    np.testing.assert_array_equal(found["top_ids"][:6, 0], cats)
    np.testing.assert_array_equal(found["top_labels"][:6, 0] == b"cat", cats)
    assert found["top_ids"][6].tolist() == [-1, -1]
    assert export.check(tmp_path / "1", "tf-serving").passed


def test_labels_are_independent(tmp_path):
    model = exported(head="multi_label")
    names = [f"label {i}" for i in range(10)]
    report = export.to_saved_model(model, tmp_path / "1", labels=names, top_k=3)
    assert report.head == "multi_label"
    item = encoded(picture())
    found = asked(tmp_path / "1", [item])
    logits = found["logits"]
    np.testing.assert_allclose(found["probabilities"], 1 / (1 + np.exp(-logits)), 1e-5)
    order = np.argsort(-logits[0])[:3]
    np.testing.assert_array_equal(found["top_ids"][0], order)
    assert found["top_labels"][0, 0].decode() == names[order[0]]
    classify = tf.saved_model.load(str(tmp_path / "1")).signatures["classify"]
    answer = classify(inputs=tf.constant([example(item, tf)]))
    np.testing.assert_allclose(answer["scores"], found["top_scores"], rtol=1e-6)
    assert export.check(tmp_path / "1", "tf-serving").passed


def test_values_are_no_classes(tmp_path):
    model, path = exported(head="regression", classes=2), tmp_path / "1"
    report = export.to_saved_model(model, path, labels=["age", "size"], warmup=[1])
    assert report.head == "regression" and report.labels == ["age", "size"]
    item = encoded(picture())
    found = asked(path, [item, b"no image"])
    assert set(found) == {"values", "valid"} and found["values"][1].tolist() == [0, 0]
    rules = model.config.preprocessing
    pixels = normalize(evaluated(item, (32, 32), rules)[None], rules)
    expected = run(model, pixels)
    np.testing.assert_allclose(found["values"][:1], expected, atol=1e-4)
    assert "classify" not in tf.saved_model.load(str(path)).signatures
    assert not list((path / "assets").glob("*"))
    assert export.check(path, "tf-serving").passed
    answer = {name: value[0].tolist() for name, value in found.items()}
    assert client.describe(answer) == ", ".join(f"{v:.5g}" for v in answer["values"])
    with pytest.raises(ValueError, match="classify only .* head='regression'"):
        export.to_saved_model(model, tmp_path / "2", signatures=["classify"])


@pytest.mark.slow
def test_one_output_that_nothing_describes(tmp_path):
    """It is served without a meaning, until the user says what it is."""
    model, item = exported(classes=1), encoded(picture())
    report = export.to_saved_model(model, tmp_path / "1", **BYTES)
    assert report.head is None and "give `head`" in str(report)
    assert set(asked(tmp_path / "1", [item])) == {"output", "valid"}
    options = {"head": "sigmoid", "labels": ["dog", "cat"], **BYTES}
    report = export.to_saved_model(model, tmp_path / "2", **options)
    assert report.head == "sigmoid" and "give `head`" not in str(report)
    assert asked(tmp_path / "2", [item])["probabilities"].shape == (1, 2)


def test_pooled_features_are_no_classes(tmp_path):
    model = exported(include_top=False)
    export.to_saved_model(model, tmp_path / "1", **BYTES)
    found = asked(tmp_path / "1", [encoded(picture())])
    assert set(found) == {"output", "valid"} and found["output"].shape == (1, 32)


@pytest.mark.parametrize("how", slow_but(("layer",), ("head", "layer", "nested")))
def test_probabilities_are_no_logits(how, tmp_path):
    model = exported(activation="linear" if how == "layer" else "softmax")
    if how == "layer":
        outputs = keras.layers.Softmax()(model.output)
        model = keras.Model(model.input, outputs)
    elif how == "nested":
        inputs = keras.Input((32, 32, 3))
        model = keras.Model(inputs, model(inputs))
    rules = EXPORTED.preprocessing
    export.to_saved_model(model, tmp_path / "1", preprocessing=rules, **BYTES)
    item = encoded(picture())
    found = asked(tmp_path / "1", [item])
    pixels = normalize(evaluated(item, (32, 32), rules)[None], rules)
    shares = run(model, pixels)
    assert "logits" not in found
    np.testing.assert_allclose(found["probabilities"], shares, atol=1e-5)

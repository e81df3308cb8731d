"""What clients of a SavedModel get: encoded images, bad ones among them."""

import base64
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import export
from export.evaluation.saved_model_session import SavedModelSession
from export.serving.signatures import SIGNATURES
from tests.export.pictures import bad_items, evaluated, good_items
from tests.models import exported, run
from vit_keras import preprocessing as pp

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)
import tensorflow as tf

HERE = pathlib.Path(__file__).parent
LABELS = ["zero", "één", *map(str, range(2, 10))]


@pytest.fixture(scope="module")
def model():
    return exported(num_layers=1)


@pytest.fixture(scope="module")
def servable(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("servable") / "vit" / "1"
    export.to_saved_model(
        model, path, labels=LABELS, signatures=list(SIGNATURES), warmup=(1, 2), top_k=3
    )
    return path


@pytest.fixture(scope="module")
def signatures(servable):
    return tf.saved_model.load(str(servable)).signatures


def expected(model, items):
    """What the Keras model says, on images as evaluation reads them."""
    rules, size = model.config.preprocessing, model.config.image_size
    pixels = [evaluated(item, size, rules) for item in items]
    return run(model, pp.normalize(np.stack(pixels), rules))


def test_bad_items_harm_no_other(model, signatures):
    good, bad = good_items(), bad_items()
    mixed = [
        item for pair in zip(good.values(), bad.values(), strict=False) for item in pair
    ]
    mixed += list(good.values())[len(bad) :]
    answers = signatures["predict_bytes"](image_bytes=tf.constant(mixed))
    answers = {name: value.numpy() for name, value in answers.items()}
    known = set(good.values())
    valid = np.array([item in known for item in mixed])
    np.testing.assert_array_equal(answers["valid"], valid)
    logits = expected(model, [item for item in mixed if item in known])
    np.testing.assert_allclose(answers["logits"][valid], logits, atol=5e-5)
    ids = np.argsort(-logits, 1)[:, :3]
    np.testing.assert_array_equal(answers["top_ids"][valid], ids)
    assert answers["top_labels"][valid][0, 0].decode() == LABELS[ids[0, 0]]
    shares = answers["probabilities"][valid]
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    for name, neutral in (("logits", 0), ("top_ids", -1), ("top_labels", b"")):
        assert (answers[name][~valid] == neutral).all()
    assert all(np.isfinite(answers[n]).all() for n in ("logits", "probabilities"))


def test_empty_batch_and_batch_of_bad_items(signatures):
    predict = signatures["predict_bytes"]
    assert predict(image_bytes=tf.constant([], tf.string))["logits"].shape == (0, 10)
    assert not predict(image_bytes=tf.constant([b"", b"x"]))["valid"].numpy().any()


def test_classification_api(signatures, servable):
    item = good_items()["jpeg"]
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(item)
    answer = signatures["classify"](
        inputs=tf.constant([example.SerializeToString(), b"no example"])
    )
    whole = signatures["predict_bytes"](image_bytes=tf.constant([item]))
    np.testing.assert_array_equal(answer["classes"][0], whole["top_labels"][0])
    assert (answer["classes"][1].numpy() == b"").all()
    graph = tf.compat.v1.saved_model.load(
        tf.compat.v1.Session(graph=tf.Graph()), ["serve"], str(servable)
    )
    for name, kind in SIGNATURES.items():
        assert graph.signature_def[name].method_name == kind.method


def test_features_and_attention(model, signatures):
    items = [good_items()["jpeg"], b"bad"]
    rules = model.config.preprocessing
    pixels = evaluated(items[0], (32, 32), rules)
    images = pp.normalize(pixels[None], rules)
    found = signatures["features"](image_bytes=tf.constant(items))
    tokens = keras.Model(model.input, model.get_layer("encoder_norm").output)
    np.testing.assert_allclose(found["tokens"][:1], tokens(images), atol=1e-5)
    np.testing.assert_allclose(found["pooled"][0], found["tokens"][0, 0], atol=1e-6)
    found = signatures["attention"](image_bytes=tf.constant(items))["attention"]
    from vit_keras.attention_maps import attention_scores

    scores = attention_scores(model, images).swapaxes(0, 1)
    np.testing.assert_allclose(found[:1], scores, atol=1e-6)
    assert not found[1].numpy().any()


# More than one to see that another release of TensorFlow reads what this one wrote.
PYTHONS = [sys.executable, *os.environ.get("OTHER_PYTHONS", "").split()]


@pytest.mark.parametrize("python", PYTHONS)
def test_c_loader_answers_without_python(model, servable, python):
    found = SavedModelSession(servable).signatures

    def request(name, items):
        (feed,) = (info.name for info in found[name].inputs.values())
        return feed, items, {k: info.name for k, info in found[name].outputs.items()}

    good = good_items()
    items = [*good.values(), *bad_items().values()]
    texts = [base64.b64encode(item).decode() for item in items]
    # 35 pixels still make 4 patches of 8: unchecked, the image would be cropped.
    sizes = [np.zeros((1, side, side, 3), int).tolist() for side in (32, 33, 35, 64)]
    requests = [request("predict_bytes", texts)]
    requests += [request("serving_default", images) for images in sizes]
    done = subprocess.run(
        [python, HERE / "in_c_api.py", servable],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found, right, *wrong = json.loads(done.stdout)
    assert found["valid"] == [True] * len(good) + [False] * len(bad_items())
    logits = expected(model, good.values())
    np.testing.assert_allclose(found["logits"][: len(good)], logits, atol=5e-5)
    ids = np.argsort(-logits, 1)[:, :3]
    np.testing.assert_array_equal(found["top_ids"][: len(good)], ids)
    assert found["top_labels"][0] == [LABELS[i] for i in ids[0]]
    assert np.shape(right["output"]) == (1, 10)
    assert all("not compatible with expected shape" in w["error"] for w in wrong)


def test_network_is_written_once_and_does_not_train(tmp_path):
    """No optimiser, no dropout; each weight and each operator once."""
    model = exported(dropout=0.1, attention_dropout=0.1, drop_path_rate=0.1)
    model.compile("adamw", "mse", jit_compile=False, run_eagerly=True)
    model.fit(np.ones((2, 32, 32, 3)), np.ones((2, 10)), verbose=0)
    names = [name for name in SIGNATURES if name != "attention"]
    export.to_saved_model(model, tmp_path / "1", signatures=names)
    reader = tf.train.load_checkpoint(str(tmp_path / "1" / "variables" / "variables"))
    shapes = reader.get_variable_to_shape_map()
    assert sum(np.prod(s) for s in shapes.values() if s) == model.count_params()
    graph = SavedModelSession(tmp_path / "1").session.graph.as_graph_def()
    operators = [node.op for node in graph.node]
    for function in graph.library.function:
        operators += [node.op for node in function.node_def]
    assert operators.count("Conv2D") == 1  # the patches
    assert operators.count("Softmax") == 2 + 2  # a block each; a signature each
    assert not [name for name in operators if "Random" in name or "Dropout" in name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signatures": ["regress"]}, "serving_default, predict_bytes"),
        ({"labels": ["two\nlines", *"123456789"]}, "one line each"),
        ({"top_k": 0}, "`top_k` must be an integer >= 1"),
        ({"warmup": [0]}, "`warmup` must be integers >= 1"),
        ({"warmup": range(1, 400)}, "at most 200 sizes"),
    ],
)
def test_arguments_are_checked(model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export.to_saved_model(model, tmp_path / "1", **options)
    assert not list(tmp_path.iterdir())


def test_model_without_preprocessing_takes_arrays_only(tmp_path):
    inputs = keras.Input((8, 8, 3))
    other = keras.Model(
        inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)), name="other"
    )
    with pytest.raises(ValueError, match="`preprocessing` must be given"):
        export.to_saved_model(other, tmp_path / "1")
    export.to_saved_model(other, tmp_path / "1", signatures=["serving_default"])

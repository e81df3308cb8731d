"""What a model's outputs mean, and what a `.tflite` file says of it."""

import keras
import numpy as np
import pytest

import export
from export.graph.model_output import check_labels, read_model_output
from tests.models import exported, run, tiny
from vit_keras import create_model, data

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)


def foreign(units, activation=None, layer=None):
    """A model of stock layers, without a configuration."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Dense(units, activation)(x)
    return keras.Model(inputs, x if layer is None else layer(x))


def around(vit):
    inputs = keras.Input(vit.input_shape[1:])
    return keras.Model(inputs, vit(inputs))


CASES = {
    "ours": (lambda: create_model(tiny()), "softmax", False),
    "ours, in another": (
        lambda: around(create_model(tiny(head="multi_label"))),
        "multi_label",
        False,
    ),
    "ours, probabilities": (
        lambda: create_model(tiny(activation="softmax")),
        "softmax",
        True,
    ),
    "ours of two tokens": (
        lambda: create_model(
            tiny(distillation_token=True, activation="sigmoid", head="multi_label")
        ),
        "multi_label",
        True,
    ),
    "an older file with a sigmoid": (
        lambda: create_model(tiny(activation="sigmoid")),
        "multi_label",
        True,
    ),
    "one number": (lambda: create_model(tiny(classes=1)), None, False),
    "one number of Keras": (lambda: foreign(1), None, False),
    "values": (
        lambda: create_model(tiny(classes=1, head="regression")),
        "regression",
        False,
    ),
    "features": (lambda: create_model(tiny(include_top=False)), None, False),
    "tokens": (lambda: create_model(tiny(), task="features"), None, False),
    "logits": (lambda: foreign(3), "softmax", False),
    "softmax": (lambda: foreign(3, "softmax"), "softmax", True),
    "a softmax layer": (
        lambda: foreign(3, layer=keras.layers.Softmax()),
        "softmax",
        True,
    ),
    "an operation": (lambda: foreign(3, layer=keras.ops.sigmoid), "multi_label", True),
    "binary": (lambda: foreign(1, "sigmoid"), "sigmoid", True),
}


@pytest.mark.parametrize("name", CASES)
def test_what_outputs_mean(name):
    make, head, given = CASES[name]
    found = read_model_output(make())
    assert found.head == head and found.is_probability == given
    assert found.described == (not name.startswith("one number"))


@pytest.mark.parametrize(
    ("units", "activation", "head", "message"),
    [
        (3, None, "sigmoids", "one of softmax, sigmoid"),
        (3, None, "sigmoid", "`classes` must be 1"),
        (3, "softmax", "regression", "`activation` must be one of"),
        (3, "sigmoid", "softmax", "must be multi_label"),
        (1, None, "softmax", "no vector that it describes"),
    ],
)
def test_heads_that_do_not_fit_are_refused(units, activation, head, message):
    with pytest.raises(ValueError, match=message):
        read_model_output(foreign(units, activation), head)
    assert read_model_output(foreign(3), "regression").head == "regression"


@pytest.mark.parametrize(
    ("head", "labels", "message"),
    [
        (None, ["cat"], "`head` must be given with `labels`"),
        ("sigmoid", ["cat"], "must have 2 names, two classes for output"),
        ("regression", ["age", "size"], "must have 1 names, one per output"),
    ],
)
def test_names_of_one_output(head, labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(read_model_output(foreign(1), head), labels)


def test_softmax_of_a_float_file(tmp_path):
    """Its probabilities are not put through a second softmax."""
    model = foreign(3, "softmax")
    export.to_tflite(model, tmp_path / "m.tflite", input_dtype="float32")
    from export.graph.open_source import open_source

    found = read_model_output(open_source(tmp_path / "m.tflite"))
    assert found.head == "softmax" and found.is_probability


HEADS = {
    "softmax": ({"classes": 3}, ["a", "b", "c"], ["a", "b", "c"]),
    "multi_label": ({"classes": 3}, ["a", "b", "c"], ["a", "b", "c"]),
    "sigmoid": ({"classes": 1}, ["no", "yes"], ["no", "yes"]),
    "regression": ({"classes": 2}, ["age", "size"], None),
}


@pytest.mark.parametrize("head", HEADS)
def test_labels_in_a_file_are_of_classes(head, tmp_path):
    changes, labels, inside = HEADS[head]
    model = exported(head=head, num_layers=1, **changes)
    path = tmp_path / "m.tflite"
    model.save(tmp_path / "model.keras")
    (tmp_path / "labels.txt").write_text("\n".join(labels))  # as `train` leaves them
    report = export.to_tflite(tmp_path / "model.keras", path)
    assert (report.head, report.labels) == (head, labels)
    found = export.read_metadata(path)
    assert found.get("labels") == inside
    assert found["export"]["head"] == head
    (graph,) = found["subgraph_metadata"]
    files = graph["output_tensor_metadata"][0].get("associated_files", [])
    kinds = {"sigmoid": ["TENSOR_VALUE_LABELS"], "regression": []}
    assert [f["type"] for f in files] == kinds.get(head, ["TENSOR_AXIS_LABELS"])


@pytest.mark.parametrize("head", ["multi_label", "sigmoid"])
def test_accuracy_drop_is_of_the_heads_metric(head, pixels, tmp_path):
    """Labels that the float model itself finds: int8 loses what it gets wrong."""
    from vit_keras.preprocessing import normalize

    model = exported(head=head, classes=1 if head == "sigmoid" else 4, num_layers=1)
    images = normalize(pixels, model.config.preprocessing)
    logits = run(model, images)
    labels = (logits > np.median(logits, 0)).astype("float32")
    bias = model.get_layer("head").bias
    bias.assign(bias - np.median(logits, 0))
    labels = labels if head == "multi_label" else labels[:, 0].astype(int)
    report = export.to_tflite(
        model,
        tmp_path / "m.tflite",
        scheme="int8",
        calibration=pixels,
        accuracy_drop=30.0,
        evaluation=(pixels, labels),
    )
    assert report.mixed["unit"] == "points"
    lost = dict(report.mixed["curve"])[len(report.mixed["parts"])]
    assert 0 <= lost <= 30  # of the float model, which is right on every image
    if head == "multi_label":
        with pytest.raises(ValueError, match="`evaluation` must fit the model.*0 or 1"):
            export.to_tflite(
                model,
                tmp_path / "m.tflite",
                scheme="int8",
                calibration=pixels,
                accuracy_drop=1.0,
                evaluation=(pixels, labels * 0.5),
            )


def test_accuracy_drop_needs_classes(pixels, tmp_path):
    with pytest.raises(ValueError, match="without classes; `min_sqnr`"):
        export.to_tflite(
            exported(head="regression", num_layers=1),
            tmp_path / "m.tflite",
            scheme="int8",
            calibration=pixels,
            accuracy_drop=1.0,
            evaluation=(pixels, np.zeros(len(pixels), int)),
        )


@pytest.mark.parametrize("head", ["sigmoid", "regression"])
def test_distance_to_a_teacher(head):
    """Of one output a softmax would see nothing."""
    from export.quantization.aware.aware_model import Distillation

    teacher = create_model(tiny(head=head, classes=1))
    layer = Distillation(teacher)
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype("float32")
    outputs = teacher(images)
    layer(images, outputs, training=True)
    same = float(layer.losses[0])
    layer(images, outputs + 1.0, training=True)
    assert abs(same) < 1e-6 < 1e-2 < float(layer.losses[-1])


def test_compression_of_a_regression(pixels, tmp_path):
    model = exported(head="regression", classes=1, num_layers=1)
    model.save(tmp_path / "model.keras")
    values = pixels.mean((1, 2, 3))[:, None].astype("float32") / 255
    source = data.Dataset(pixels, values, ("brightness",), "regression")
    options = {"method": "prune", "out": tmp_path / "out", "sparsity": 0.5}
    with pytest.raises(ValueError, match="`distil` must be False"):
        export.compress(tmp_path / "model.keras", source, **options)
    result = export.compress(
        tmp_path / "model.keras",
        source,
        epochs=2,
        batch_size=8,
        distil=False,
        **options,
    )
    assert result.metric == "mean_absolute_error"
    assert f"absolute error on {result.images} held-out images" in str(result)

"""Training, evaluation and prediction of every kind of head."""

import csv
import dataclasses

import keras
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from tests.models import tiny
from tests.vit_keras.training.runs import SHORT, SIZES, few, quiet
from vit_keras import ViTConfig, create_model
from vit_keras.cli.answers import describe_outputs
from vit_keras.data import Dataset, match_classes, split, targets, with_head
from vit_keras.heads import HEADS, probabilities
from vit_keras.training import evaluate, train
from vit_keras.training.metrics import average_precision, measure

RECIPE = SHORT.replace(validation_split=0.2, label_smoothing=0.0)


def brightness():
    """Pictures (N, 8, 8, 3) whose mean and contrast are to be told, in order 1."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, (100, 2)).astype("float32")
    noise = rng.choice([-1, 1], (100, 8, 8, 1))
    level, contrast = (values[:, i, None, None, None] for i in (0, 1))
    pixels = 128 + 60 * level + 30 * (1 + contrast) * noise
    return np.repeat(pixels.astype("uint8"), 3, axis=-1), values


def data_of(head):
    """A hundred images with labels of a kind."""
    if head == "softmax":
        return few()
    images, values = brightness()
    if head == "regression":
        return Dataset(images, values + [5, -3], ("level", "contrast"), head)
    labels = (values > 0).astype("float32")
    if head == "multi_label":
        return Dataset(images, labels, ("bright", "harsh"), head)
    return Dataset(images, labels[:, 0].astype(int), ("dark", "bright"), head)


def trained(head, out, **changes):
    # As many steps as 15 epochs of larger batches, without what each epoch writes.
    steps = {"epochs": 4, "batch_size": 10, "learning_rate": 3e-3}
    recipe = RECIPE.replace(**steps, shift=0.0, **changes)
    model = train(data_of(head), recipe, out=out, console=quiet())
    return model, evaluate(out, data_of(head), console=quiet())


# What constant answers reach: half of the images, and labels; the mean distance of
# uniform values from their mean.
BY_CHANCE = {"sigmoid": 0.5, "multi_label": 0.55, "regression": 0.5}


@pytest.mark.parametrize("head", list(BY_CHANCE))
def test_a_head_is_trained_evaluated_and_saved(head, tmp_path):
    model, found = trained(head, tmp_path)
    kind, data = HEADS[head], data_of(head)
    assert model.config.head == head
    assert model.output_shape == (None, kind.outputs(2))
    saved = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert saved.config == model.config
    assert (tmp_path / "labels.txt").read_text().splitlines() == list(data.classes)
    metric = found[kind.metric]
    far = metric - BY_CHANCE[head]
    assert (far if kind.higher_is_better else -far) > 0.25, found
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = [float(row[f"val_{kind.metric}"]) for row in csv.DictReader(file)]
    best = (max if kind.higher_is_better else min)(rows)
    _, held_out = split(data, RECIPE.validation_split, RECIPE.seed)
    file = keras.models.load_model(tmp_path / "best.keras", compile=False)
    again = evaluate(file, held_out, console=quiet())[kind.metric]
    assert again == pytest.approx(best, abs=1e-6)  # batches of other sizes


@pytest.mark.usefixtures("eager")
def test_data_of_two_classes_for_one_output(tmp_path):
    """`model.head` of a recipe makes of a folder's classes a binary head."""
    data = dataclasses.replace(data_of("sigmoid"), head="softmax")
    recipe = RECIPE.replace(model={**SIZES, "head": "sigmoid"})
    model = train(data, recipe, out=tmp_path, console=quiet())
    assert model.config.head == "sigmoid" and model.config.classes == 1
    found = evaluate(tmp_path, data, console=quiet())
    assert set(found) == {"images", "accuracy", "loss"}


@pytest.mark.usefixtures("eager")
def test_a_regression_begins_at_the_mean(tmp_path):
    console = quiet()
    recipe = RECIPE.replace(epochs=1, learning_rate=1e-9, validation_split=0.0)
    model = train(data_of("regression"), recipe, out=tmp_path, console=console)
    data = data_of("regression")
    bias = np.asarray(model.get_layer("head").bias)
    np.testing.assert_allclose(bias, data.labels.mean(0), rtol=1e-6)
    assert "standard deviation" not in console.file.getvalue()
    wide = dataclasses.replace(data, labels=data.labels * 1000)
    train(wide, recipe, out=tmp_path / "wide", console=console)
    assert "standard deviation of about 1" in console.file.getvalue()


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [
        ("regression", {"label_smoothing": 0.1}, "`label_smoothing` must be 0.0"),
        ("regression", {"cutmix": 1.0}, "`cutmix` must be 0.0"),
        ("regression", {"loss": "sigmoid"}, "`loss` must be softmax"),
        ("multi_label", {"teacher": "t.keras"}, "`teacher` must be None"),
        ("softmax", {"model": {**SIZES, "head": "regression"}}, "that of the data"),
        ("softmax", {"model": {**SIZES, "head": "sigmoid"}}, "must be two names"),
        ("softmax", {"model": {**SIZES, "head": "sigmoids"}}, "one of softmax, sigm"),
    ],
)
def test_what_does_not_fit_is_refused(head, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(data_of(head), RECIPE.replace(**changes), out=tmp_path, console=quiet())
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("eager")
def test_mixup_mixes_values(tmp_path):
    train(
        data_of("regression"),
        RECIPE.replace(epochs=1, mixup=0.2),
        out=tmp_path,
        console=quiet(),
    )
    assert (tmp_path / "model.keras").exists()


LABELS = np.array([[0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("head", "labels", "message"),
    [
        ("softmax", LABELS, r"integers \(N,\)"),
        ("sigmoid", np.array([0, 2]), "from 0 to 1"),
        ("sigmoid", np.array([0.0, 1.0]), r"integers \(N,\)"),
        ("multi_label", LABELS * 0.5, "0 or 1"),
        ("multi_label", LABELS[:, :1], r"\(N, 2\)"),
        ("regression", LABELS[0], r"\(N, 2\)"),
        ("regression", LABELS * np.nan, "finite"),
    ],
)
def test_labels_are_checked(head, labels, message):
    data = Dataset(np.zeros((2, 8, 8, 3), "uint8"), labels, ("a", "b"), head)
    with pytest.raises(ValueError, match=f"`labels` must be {message}"):
        with_head(data, None)


def test_targets_of_each_head():
    two = data_of("sigmoid")
    assert targets(two).shape == (100, 1)
    as_classes = dataclasses.replace(two, head="softmax")
    np.testing.assert_array_equal(targets(as_classes)[:, 1:], targets(two))
    as_labels = with_head(as_classes, "multi_label")
    np.testing.assert_array_equal(targets(as_labels), targets(as_classes))


def test_columns_follow_their_names():
    data = data_of("regression")
    turned = match_classes(data, ["contrast", "level"])
    np.testing.assert_array_equal(turned.labels, data.labels[:, ::-1])
    with pytest.raises(ValueError, match="all targets of the model; lacking: hue"):
        match_classes(data, ["contrast", "level", "hue"])


def test_split_of_data_without_classes():
    rest, aside = split(data_of("multi_label"), 0.2, seed=1)
    assert len(aside) == 20 and len(rest) == 80


RNG = np.random.default_rng(0)


def test_average_precision_is_that_of_scikit_learn():
    for _ in range(20):
        scores, truth = RNG.integers(0, 8, 50), RNG.integers(0, 2, 50)  # with ties
        expected = sklearn_metrics.average_precision_score(truth, scores)
        assert average_precision(scores, truth) == pytest.approx(expected, 1e-12)


def test_metrics_are_those_of_scikit_learn():
    outputs, truth = RNG.normal(0, 3, (60, 3)), RNG.integers(0, 2, (60, 3))
    parts = [(outputs[:7], truth[:7]), (outputs[7:], truth[7:])]
    found = measure(parts, "regression")
    for name in ("mean_absolute_error", "r2_score"):
        expected = getattr(sklearn_metrics, name)(truth, outputs)
        assert found[name] == pytest.approx(expected, 1e-12)
    mse = sklearn_metrics.mean_squared_error(truth, outputs)
    assert found["loss"] == pytest.approx(mse, 1e-12)
    found = measure(parts, "multi_label")
    shares = probabilities(outputs, "multi_label")
    pairs = zip(truth.T, shares.T, strict=True)
    losses = [sklearn_metrics.log_loss(t, p, labels=[0, 1]) for t, p in pairs]
    assert found["loss"] == pytest.approx(np.mean(losses), 1e-9)
    scored = sklearn_metrics.average_precision_score(truth, shares, average="macro")
    assert found["mean_average_precision"] == pytest.approx(scored, 1e-12)
    same = measure([(shares, truth)], "multi_label", "sigmoid")
    assert same == pytest.approx(found, 1e-9)
    one = measure([(outputs[:, :1], truth[:, :1])], "sigmoid")
    right = (shares[:, :1] > 0.5) == truth[:, :1]
    assert one["accuracy"] == right.mean()
    assert one == measure([(outputs[:, :1], truth[:, :1] * 1.0)], "sigmoid")


def test_labels_that_no_image_has_do_not_count():
    outputs, truth = RNG.normal(size=(9, 2)), np.array([[1, 0], [0, 0], [0, 0]] * 3)
    found = measure([(outputs, truth)], "multi_label")["mean_average_precision"]
    assert found == pytest.approx(average_precision(outputs[:, 0], truth[:, 0]))
    assert np.isnan(
        measure([(outputs, 0 * truth)], "multi_label")["mean_average_precision"]
    )


@pytest.mark.parametrize(
    ("head", "outputs", "text"),
    [
        ("softmax", [0.0, np.log(3), -50], "b 75.0%, a 25.0%"),
        ("sigmoid", [-np.log(3)], "a 75.0%"),
        ("sigmoid", [np.log(3)], "b 75.0%"),
        ("multi_label", [np.log(3), -9.0, 9.0], "c 100.0%, a 75.0%"),
        ("multi_label", [-np.log(3), -9.0, -9.0], "none of 50%; a 25.0%"),
        ("regression", [31.25, -2.0, 0.0], "a 31.25, b -2, c 0"),
    ],
)
def test_an_answer_in_words(head, outputs, text):
    config = tiny(head=head, classes=len(outputs))
    names = list("abc")[: HEADS[head].names(len(outputs))]
    assert describe_outputs(np.array(outputs), names, config, top=2) == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "binary"}, "`head` must be one of"),
        ({"head": "sigmoid"}, "`classes` must be 1 for head='sigmoid'"),
        ({"head": "regression", "activation": "softmax"}, "`activation` must be one"),
        ({"head": "multi_label", "activation": "softmax"}, "`activation` must be one"),
    ],
)
def test_heads_of_a_configuration_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_a_configuration_of_an_earlier_release_is_one_of_classes():
    data = tiny().to_dict()
    del data["head"]
    assert ViTConfig(**data) == tiny(head="softmax")
    config = create_model(tiny()).get_config()
    del config["config"]["head"]
    assert ViTConfig(**config["config"]).head == "softmax"

"""Classes of unequal size: what is printed, and their weights in the loss."""

import dataclasses

import numpy as np
import pytest

from tests.vit_keras.training.runs import SHORT, few, quiet
from vit_keras import create_model, data
from vit_keras.model import configure
from vit_keras.training import train
from vit_keras.training.callbacks import StopOnNaN
from vit_keras.training.class_weights import class_weights, imbalance, sample_weights
from vit_keras.training.fitting import compiled_for, fit_stream
from vit_keras.training.objective import open_teacher
from vit_keras.training.stream import Stream

BALANCED = SHORT.replace(class_weights="balanced")
# One step with all images, so that the loss of `fit` is that of the first weights.
STEP = BALANCED.replace(epochs=1, batch_size=40, label_smoothing=0.0)


def uneven(counts=(24, 12, 4)):
    """Digits with made-up labels of three classes."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = few(sum(counts)).images
    return data.Dataset(images, labels, tuple("abcdefghijklmnop"[: len(counts)]))


def test_weights():
    weights = class_weights(uneven(), BALANCED)
    # N / (K n_c), which is scikit-learn's "balanced".
    np.testing.assert_allclose(weights, [40 / 72, 40 / 36, 40 / 12], rtol=1e-6)
    assert weights.dtype == np.float32
    assert class_weights(uneven(), SHORT) is None
    lacking = class_weights(uneven((3, 0, 3)), BALANCED)
    np.testing.assert_allclose(lacking, [2 / 3, 0, 2 / 3], rtol=1e-6)
    mixed = np.array([[1, 0, 0], [0.25, 0, 0.75]], "float32")
    expected = [weights[0], 0.25 * weights[0] + 0.75 * weights[2]]
    np.testing.assert_allclose(sample_weights(mixed, weights), expected, rtol=1e-6)


def test_weights_of_a_single_logit():
    dataset = dataclasses.replace(uneven((30, 10)), head="sigmoid")
    weights = class_weights(dataset, BALANCED)
    shares = np.array([[0], [1], [0.5]], "float32")
    found = sample_weights(shares, weights)
    np.testing.assert_allclose(found, [2 / 3, 2, 4 / 3], rtol=1e-6)


@pytest.mark.parametrize("head", ["multi_label", "regression"])
def test_heads_without_one_class_per_image(tmp_path, head):
    images = few(6).images
    labels = np.tile(np.eye(2, dtype="float32"), (3, 1))
    dataset = data.Dataset(images, labels, ("a", "b"), head)
    assert imbalance(dataset) is None
    with pytest.raises(ValueError, match=f"`class_weights` must be None.*'{head}'"):
        train(dataset, BALANCED, out=tmp_path / "run", console=quiet())
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("eager")
def test_counts_are_printed(tmp_path):
    assert imbalance(uneven((12, 8))) is None
    assert imbalance(uneven((4, 24, 12))) == (
        "unequal classes: b 24, c 12, a 4; the largest is 6.0 times the smallest"
    )
    assert "a 5, b 0; the smallest has none" in imbalance(uneven((5, 0)))
    many = imbalance(uneven((1, *[2] * 10, 3)))
    names = "l 3, b 2, c 2, d 2, e 2, ..., h 2, i 2, j 2, k 2, a 1"
    assert f"{names}; the largest is 3.0 times" in many
    console = quiet()
    train(uneven(), SHORT.replace(epochs=1), out=tmp_path / "run", console=console)
    assert console.file.getvalue().count("unequal classes: a 22, b 11, c 3;") == 1


def cross_entropy(outputs, labels, loss):
    outputs = np.asarray(outputs, "float64")
    if loss == "sigmoid":
        wrong = np.logaddexp(0, outputs) - labels * outputs
        return wrong.mean(-1)
    shares = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
    return -(shares * labels).sum(-1)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("case", ["softmax", "sigmoid", "mixup", "teacher"])
def test_loss_of_fit(tmp_path, case):
    """It is the mean of each image's loss times its weight."""
    changes = {
        "sigmoid": {"loss": "sigmoid"},
        "mixup": {"mixup": 0.8, "cutmix": 0.8},
        "teacher": {"mixup": 0.8, "distillation_weight": 0.25},
    }.get(case, {})
    recipe = STEP.replace(**changes)
    config = configure(**recipe.model_arguments(3))
    model = create_model(config)
    if case == "teacher":
        create_model(config).save(tmp_path / "teacher.keras")
        recipe = recipe.replace(teacher=str(tmp_path / "teacher.keras"))
    stream = Stream(uneven(), config, recipe, teacher=open_teacher(recipe, config))
    images, labels, weights = stream[0]
    assert weights.shape == (40,) and weights.dtype == np.float32
    assert len(np.unique(weights)) >= 3
    outputs = model.predict_on_batch(images)
    if case == "teacher":
        own = cross_entropy(outputs, labels["label"], "softmax")
        others = cross_entropy(outputs, labels["teacher"], "softmax")
        each = 0.75 * own + 0.25 * others
    else:
        each = cross_entropy(outputs, labels, recipe.loss)
    fitted = compiled_for(model, stream)
    history = fit_stream(fitted, stream, quiet(), StopOnNaN(1))
    # The computation is float32.
    np.testing.assert_allclose(
        history.history["loss"], [(weights * each).mean()], rtol=1e-5
    )
    assert abs(each.mean() - (weights * each).mean()) > 1e-4


def test_batches_follow_from_their_numbers():
    recipe = BALANCED.replace(mixup=0.5, batch_size=8)
    config = configure(**recipe.model_arguments(3))
    stream, other = Stream(uneven(), config, recipe), Stream(uneven(), config, recipe)
    for step in (7, 0, 3):
        first, second = stream[step], other[step]
        assert len(first) == 3
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)
    halves = [Stream(uneven(), config, recipe, shard=(i, 2))[3] for i in range(2)]
    together = np.concatenate([half[2] for half in halves])
    np.testing.assert_array_equal(together, stream[3][2])

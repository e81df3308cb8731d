"""Scores and their noise, for outputs that are made up."""

import numpy as np
import pytest

from export.comparison_report.keras_reference import KerasReference
from export.comparison_report.reported_images import ReportedImages, open_labelled
from export.comparison_report.scores import beside_keras, score_outputs
from export.graph.model_output import ModelOutput
from export.inputs import ExportInputs, UserInputs
from vit_keras import Preprocessing
from vit_keras.data import Dataset

N, SIZE = 150, (4, 6)  # more images than a batch has


def reported(labels, classes, head):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (N, *SIZE, 3)).astype("uint8")
    dataset = Dataset(pixels, labels, tuple(classes), head)
    return ReportedImages(dataset, SIZE, Preprocessing(), "made up")


def giving(values):
    """A function from batches, in order, to their rows of `values`."""
    at = [0]

    def run(pixels):
        at[0] += len(pixels)
        return values[at[0] - len(pixels) : at[0]]

    return run


def scored(values, images, head, activation="linear"):
    outputs = ModelOutput((None, *values.shape[1:]), head, activation)
    return score_outputs(giving(values), images, outputs)


def test_accuracy_and_its_binomial_noise():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, N)
    images = reported(labels, "abc", "softmax")
    logits = rng.normal(0, 1, (N, 3)) + 1.5 * np.eye(3)[labels]
    other = logits + rng.normal(0, 0.3, (N, 3))
    keras, file = (scored(x, images, "softmax") for x in (logits, other))
    found = beside_keras(keras, file, "softmax", N)
    right = [x.argmax(1) == labels for x in (logits, other)]
    p = right[1].mean()
    assert found.value == pytest.approx(p)
    assert found.noise == pytest.approx(np.sqrt(p * (1 - p) / N))
    assert found.drop == pytest.approx(100 * (right[0].mean() - p))
    # Of b images lost and c won: the variance of a mean of -1, 0 and 1.
    lost, won = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
    variance = (lost + won) / N - ((lost - won) / N) ** 2
    assert found.drop_noise == pytest.approx(100 * np.sqrt(variance / N))
    same = logits.argmax(1) == other.argmax(1)
    assert found.agreement == pytest.approx(same.mean())
    assert len(found.differing) == 12
    apart = (~same).sum()
    assert 0 < apart and not same[list(found.differing[:apart])].any()


def test_equal_outputs():
    logits = np.random.default_rng(1).normal(0, 1, (N, 3))
    images = reported(np.zeros(N, int), "abc", "softmax")
    found = beside_keras(
        *(scored(logits, images, "softmax") for _ in range(2)), "softmax", N
    )
    assert (found.drop, found.drop_noise, found.agreement) == (0, 0, 1)
    assert found.sqnr_db is None


def test_two_classes_of_one_output():
    labels = np.arange(N) % 2
    images = reported(labels, ("no", "yes"), "sigmoid")
    found = scored(np.where(labels, 1.0, -1.0)[:, None], images, "sigmoid")
    assert found.value == 1 and found.noise == 0
    found = scored(np.full((N, 1), 0.4), images, "sigmoid", "sigmoid")
    assert found.value == 0.5 and set(found.chosen) == {0}


def test_labels():
    rng = np.random.default_rng(1)
    labels = (rng.random((N, 4)) < 0.3).astype("float32")
    images = reported(labels, "abcd", "multi_label")
    good = scored(labels + rng.normal(0, 0.5, (N, 4)), images, "multi_label")
    bad = scored(rng.normal(0, 1, (N, 4)), images, "multi_label")
    found = beside_keras(good, bad, "multi_label", N)
    assert found.metric == "mean_average_precision" and found.agreement is None
    assert good.value > 0.8 and found.drop > 10
    # By other draws of as many images: about a part of the root of 60 of a label.
    assert 0.005 < found.noise < 0.06 and 1 < found.drop_noise < 6


def test_an_error_is_lost_when_it_grows():
    rng = np.random.default_rng(1)
    truth = rng.normal(0, 1, (N, 2)).astype("float32")
    images = reported(truth, "ab", "regression")
    keras, file = (scored(truth + e, images, "regression") for e in (0.1, 0.3))
    found = beside_keras(keras, file, "regression", N)
    assert found.value == pytest.approx(0.3, rel=1e-5)
    assert found.drop == pytest.approx(0.2, rel=1e-5)  # in the unit of the values
    assert found.drop_noise < 1e-6 and found.agreement is None


def test_mean_iou_over_all_pixels():
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 3, (N, *SIZE)).astype("uint8")
    masks[:, 0, 0] = 255  # does not count
    images = reported(masks, "abc", "segmentation")
    wrong = rng.random((N, *SIZE)) < 0.2
    said = np.where(wrong, (masks + 1) % 3, masks % 3)
    keras, file = (
        scored(np.eye(3, dtype="float32")[x], images, "segmentation")
        for x in (masks % 3, said)
    )
    known = masks != 255
    iou = []
    for k in range(3):
        a, b = (masks == k) & known, (said == k) & known
        iou.append((a & b).sum() / (a | b).sum())
    found = beside_keras(keras, file, "segmentation", N)
    assert keras.value == 1 and found.value == pytest.approx(np.mean(iou))
    assert found.drop == pytest.approx(100 * (1 - np.mean(iou)))
    assert found.agreement == pytest.approx((said == masks % 3).mean())
    # 3450 pixels, 0.8 of them right: the IoU, r / (2 - r), changes by 2 / (2 - r)^2.
    expected = np.sqrt(0.8 * 0.2 / known.sum()) * 2 / 1.2**2
    assert found.noise == pytest.approx(expected, rel=0.4)
    most = wrong.reshape(N, -1).mean(1)
    assert most[list(found.differing)].min() >= np.sort(most)[-12]


def test_depth():
    rng = np.random.default_rng(1)
    truth = rng.uniform(1, 9, (N, *SIZE)).astype("float32")
    images = reported(truth, ("depth",), "depth")
    keras, file = (scored(truth[..., None] * k, images, "depth") for k in (1.1, 1.3))
    found = beside_keras(keras, file, "depth", N)
    assert found.value == pytest.approx(0.3, rel=1e-4)
    assert found.drop == pytest.approx(0.2, rel=1e-4)
    assert found.noise == pytest.approx(0.0, abs=1e-6)


def test_noise_of_labels_that_few_images_have():
    labels = np.zeros((N, 3), "float32")
    labels[7, 1] = 1  # about a third of the draws have no image of it
    images = reported(labels, "abc", "multi_label")
    logits = np.random.default_rng(5).normal(0, 1, (N, 3))
    keras, file = (scored(x, images, "multi_label") for x in (logits, logits[::-1]))
    assert np.isnan(file.drawn).any()
    found = beside_keras(keras, file, "multi_label", N)
    known = file.drawn - keras.drawn
    known = known[np.isfinite(known)]
    assert found.noise > 0 and found.drop_noise == pytest.approx(100 * known.std())


def test_a_metric_that_is_no_number_is_refused(model):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype("uint8")
    subject = ExportInputs.open(UserInputs(model, head="multi_label"), limit=1)
    nothing = np.zeros((12, 10), "float32")
    images = open_labelled((pixels, nothing), subject)
    with pytest.raises(ValueError, match="`data` must tell the mean average precision"):
        KerasReference(subject, images).scored()

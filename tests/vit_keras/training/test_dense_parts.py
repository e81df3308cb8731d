"""Geometry, loss and metrics of outputs at each pixel, against plain NumPy."""

import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image

from tests.vit_keras.backends import python, require
from tests.vit_keras.training.shapes import NAMES, SHORT, SIZES, mask_of, shapes
from vit_keras import ViTConfig
from vit_keras.data import Dataset, LazyImages, with_head
from vit_keras.preprocessing import to_photograph
from vit_keras.training.class_weights import class_weights, imbalance
from vit_keras.training.dense_augment import map_views, random_view
from vit_keras.training.dense_losses import DepthLoss, SegmentationLoss
from vit_keras.training.dense_metrics import (
    DepthScore,
    SegmentationScore,
    as_distances,
)
from vit_keras.training.stream import Stream

DRAWS = np.random.default_rng(0)
LOGITS = DRAWS.normal(size=(2, 5, 4, 3)).astype("float32")
LABELS = DRAWS.integers(0, 3, (2, 5, 4)).astype("uint8")
LABELS[:, :2] = 255
CONFIG = ViTConfig(**{**SIZES, "classes": 3, "head": "segmentation"})
# "nearest" keeps colours whole, so that the mask can be told from each pixel.
NEAREST = CONFIG.replace(
    preprocessing=dataclasses.replace(
        CONFIG.preprocessing, interpolation="nearest", resize="stretch"
    )
)


def by_hand(weights=(1.0, 1.0, 1.0)):
    shares = np.exp(LOGITS.astype("float64"))
    shares /= shares.sum(-1, keepdims=True)
    losses, total = 0.0, 0.0
    for share, label in zip(shares.reshape(-1, 3), LABELS.ravel(), strict=True):
        if label != 255:
            losses -= weights[label] * np.log(share[label])
            total += weights[label]
    return losses / total


def dice_by_hand():
    shares = np.exp(LOGITS.astype("float64"))
    shares /= shares.sum(-1, keepdims=True)
    counts, found = LABELS != 255, []
    for k in range(3):
        p, t = shares[..., k][counts], LABELS[counts] == k
        found.append(1 - 2 * (p * t).sum() / (p.sum() + t.sum()))
    return np.mean(found)


# Float32 sums of 24 logarithms of order 1.
CLOSE = 1e-5


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0)])
def test_cross_entropy_is_the_mean_over_pixels_that_count(weights):
    loss = SegmentationLoss("softmax", weights)
    expected = by_hand() if weights is None else by_hand(weights)
    assert float(loss(LABELS, LOGITS)) == pytest.approx(expected, abs=CLOSE)


def test_dice():
    found = float(SegmentationLoss("dice")(LABELS, LOGITS))
    assert found == pytest.approx(dice_by_hand(), abs=CLOSE)
    both = float(SegmentationLoss("softmax_dice")(LABELS, LOGITS))
    assert both == pytest.approx(by_hand() + dice_by_hand(), abs=CLOSE)
    lacking = np.where(LABELS == 2, 255, LABELS)
    assert float(SegmentationLoss("dice")(lacking, LOGITS)) < 1


@pytest.mark.parametrize("kind", ["softmax", "dice", "softmax_dice"])
def test_ignored_pixels_do_not_matter(kind):
    loss = SegmentationLoss(kind, (0.5, 2.0, 1.0))
    changed = np.where((LABELS == 255)[..., None], -3 * LOGITS, LOGITS)
    assert float(loss(LABELS, changed)) == float(loss(LABELS, LOGITS))
    nothing = np.full_like(LABELS, 255)
    assert float(loss(nothing, LOGITS)) == 0.0


def test_depth_loss_by_hand():
    found = DRAWS.uniform(1, 9, (2, 5, 4, 1)).astype("float32")
    truth = DRAWS.uniform(1, 9, (2, 5, 4)).astype("float32")
    truth[:, 0] = np.nan
    truth[:, 1] = 0
    expected = []
    for a, b in zip(found[..., 0], truth, strict=True):
        d = np.log(a[2:].astype("float64")) - np.log(b[2:])
        expected.append((d**2).mean() - 0.5 * d.mean() ** 2)
    value = float(DepthLoss()(truth, found))
    assert value == pytest.approx(np.mean(expected), abs=CLOSE)
    score = DepthScore()
    score.add(found, truth)
    known, near = truth[:, 2:].ravel(), found[:, 2:, :, 0].ravel()
    ratio = np.maximum(known / near, near / known)
    assert score.metrics() == pytest.approx(
        {
            "absolute_relative_error": np.mean(np.abs(near - known) / known),
            "delta_1": np.mean(ratio < 1.25),
            "root_mean_squared_error": np.sqrt(np.mean((near - known) ** 2)),
            "loss": np.mean(expected),
        }
    )


def test_inverse_depth_is_aligned_image_by_image():
    """MiDaS' own way (its `BadPixelMetric`): the two normal equations, then a cap."""
    truth = DRAWS.uniform(1, 9, (2, 5, 4)).astype("float32")
    truth[0, 0] = np.nan
    truth[1, 1] = 0
    known = np.where(truth > 0, truth, 5.0)  # what stands elsewhere does not count
    exact = np.stack([7 / known[0] - 3, 0.2 / known[1] + 40])
    score = DepthScore("inverse")
    score.add(exact[..., None].astype("float32"), truth)
    found = score.metrics()
    # float32 keeps 40.02 to 4e-6, of 0.02 that tell the farthest.
    assert found["absolute_relative_error"] < 1e-3 and found["delta_1"] == 1
    assert DepthScore().add(exact[..., None], truth) < -0.5

    noisy = (exact + DRAWS.normal(0, 0.05, exact.shape)).astype("float32")
    errors = []
    for said, true in zip(noisy.astype("float64"), truth, strict=True):
        p, t = said[true > 0], true[true > 0].astype("float64")
        a00, a01, a11 = (p * p).sum(), p.sum(), len(p)
        b0, b1 = (p / t).sum(), (1 / t).sum()
        det = a00 * a11 - a01 * a01
        scale, shift = (a11 * b0 - a01 * b1) / det, (a00 * b1 - a01 * b0) / det
        aligned = 1 / np.maximum(scale * p + shift, 1 / t.max())
        errors.append(np.abs(aligned - t) / t)
    score = DepthScore("inverse")
    for said, true in zip(noisy[..., None], truth, strict=True):
        score.add(said, true)
    expected = np.concatenate(errors).mean()
    # The determinant of one image is 1e-6 of its terms, in float64.
    assert score.metrics()["absolute_relative_error"] == pytest.approx(expected, 1e-6)


def test_constant_inverse_depth_is_one_distance():
    truth = np.array([[[1.0, 2.0, 4.0]]])
    distances = as_distances(np.zeros(3), truth.ravel())
    assert distances == pytest.approx(np.full(3, 3 / 1.75))  # of the mean of 1 / depth
    score = DepthScore("inverse")
    score.add(np.zeros((1, 1, 3, 1)), truth)
    assert np.isfinite(list(score.metrics().values())).all()


def test_metrics_by_hand():
    score = SegmentationScore(4)
    logits = np.concatenate([LOGITS, np.full((2, 5, 4, 1), -9.0)], -1)
    for outputs, truth in zip(logits, LABELS, strict=True):
        score.add(outputs, truth)
    said, counts = LOGITS.argmax(-1), LABELS != 255
    iou = []
    for k in range(3):
        both = ((said == k) & (LABELS == k))[counts].sum()
        iou.append(both / ((said == k) | (LABELS == k))[counts].sum())
    assert np.allclose(score.iou()[:3], iou) and np.isnan(score.iou()[3])
    found = score.metrics()
    assert found["mean_iou"] == pytest.approx(np.mean(iou))
    assert found["accuracy"] == np.mean((said == LABELS)[counts])
    # The fourth class has almost no share: exp(-9) of about 3.
    assert found["loss"] == pytest.approx(by_hand(), abs=1e-3)
    empty = SegmentationScore(4).metrics()
    assert all(np.isnan(value) for value in empty.values())
    outputs = np.where(np.arange(4)[:, None] < 2, np.nan, LOGITS[0])
    unseen = SegmentationScore(3)
    unseen.add(outputs, LABELS[0])
    assert unseen.matrix.sum() == (LABELS[0, :, 2:] != 255).sum()


JUST_LOSS = """
import numpy as np
from tests.vit_keras.training import test_dense_parts as t
found = [float(t.SegmentationLoss(k, (0.5, 2.0, 1.0))(t.LABELS, t.LOGITS))
         for k in ("softmax", "softmax_dice")]
depth = np.where(t.LABELS == 255, np.nan, 1.0 + t.LABELS).astype("float32")
found.append(float(t.DepthLoss()(depth, np.abs(t.LOGITS[..., :1]))))
print(*found)
"""


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="started once, by the run under TensorFlow",
)
def test_loss_on_jax():
    """PyTorch runs the tests of this file: `test_backend_torch.py`."""
    require("jax")
    done = python("jax", "-c", JUST_LOSS)
    assert done.returncode == 0, done.stderr
    weights = (0.5, 2.0, 1.0)
    depth = np.where(LABELS == 255, np.nan, 1.0 + LABELS).astype("float32")
    expected = [
        by_hand(weights),
        by_hand(weights) + dice_by_hand(),
        float(DepthLoss()(depth, np.abs(LOGITS[..., :1]))),
    ]
    assert [float(v) for v in done.stdout.split()] == pytest.approx(expected, abs=1e-5)


def test_image_and_mask_stay_aligned():
    data = shapes(12)
    recipe = SHORT.replace(scale=(0.5, 2.0))
    rows = range(12)
    seen = set()
    for step in range(4):
        images, masks = map_views(data, rows, step, rows, NEAREST, recipe, map)
        for image, mask in zip(images, masks, strict=True):
            inside = mask != 255
            assert np.array_equal(mask_of(image)[inside], mask[inside])
            assert (image[~inside] == 128).all()  # the mean colour
            seen.add(bool(inside.all()))
    assert seen == {True, False}  # some are cropped, some are padded


def test_mirroring_and_fitting_are_those_of_the_image():
    data = shapes(1, size=60)
    recipe = SHORT.replace(flip=True)
    mirrored = set()
    for step in range(8):
        images, masks = map_views(data, [0], step, [0], NEAREST, recipe, map)
        assert images.shape[1:3] == masks.shape[1:] == (48, 48)
        assert np.array_equal(mask_of(images[0]), masks[0])
        mirrored.add(masks.tobytes())
    assert len(mirrored) == 2


def test_scale_zooms_about_any_place():
    pixels = np.arange(48 * 48, dtype="uint32")
    pixels = (pixels[:, None] >> np.array([0, 8, 16]) & 255).astype("uint8")
    pixels = pixels.reshape(48, 48, 3)
    mask = np.zeros((48, 48), "uint8")
    prep, draws = NEAREST.preprocessing, np.random.default_rng(0)
    view, labels = random_view(pixels, mask, (48, 48), prep, (2.0, 2.0), draws)
    numbers = view @ np.array([1, 256, 65536])
    rows, columns = numbers // 48, numbers % 48
    assert (labels == 0).all()
    assert np.ptp(rows) in (23, 24) and np.ptp(columns) in (23, 24)
    _, labels = random_view(pixels, mask, (48, 48), prep, (0.5, 0.5), draws)
    assert (labels == 0).sum() == 24 * 24 and (labels == 255).sum() == 48**2 - 24**2


def test_colours_change_and_masks_do_not():
    data = shapes(8)
    recipe = SHORT.replace(flip=False, randaugment=2, magnitude=1.0, three_augment=True)
    images, masks = map_views(data, range(8), 0, range(8), CONFIG, recipe, map)
    assert np.array_equal(masks, data.labels)
    assert not np.array_equal(images, data.images)


def test_a_stream_of_maps_is_a_function_of_the_step():
    recipe = SHORT.replace(scale=(0.5, 2.0), randaugment=1)
    stream, again = (Stream(shapes(16), CONFIG, recipe) for _ in range(2))
    whole = stream[5]
    parts = [Stream(shapes(16), CONFIG, recipe, shard=(i, 2))[5] for i in range(2)]
    for at, array in enumerate(again[5]):
        assert np.array_equal(array, whole[at])
        assert np.array_equal(np.concatenate([p[at] for p in parts]), array)
    assert whole[0].dtype == "float32" and whole[1].dtype == "uint8"


def test_median_frequency_weights():
    masks = np.zeros((2, 4, 5), "uint8")
    masks[0, 0] = 1  # 5 of 20, in the first image alone
    masks[1, :2] = 255  # 10 that do not count
    data = Dataset(np.zeros((2, 4, 5, 3), "uint8"), masks, NAMES, "segmentation")
    recipe = SHORT.replace(class_weights="balanced")
    shares = np.array([25 / 30, 5 / 20])
    expected = [*(np.median(shares) / shares), 0.0]
    np.testing.assert_allclose(class_weights(data, recipe), expected, rtol=1e-6)
    assert class_weights(data, SHORT) is None
    line = imbalance(data)
    assert line.startswith("unequal pixels: ground 83.33%, circle 16.67%, square 0.00%")
    assert "the smallest has none" in line
    stream = Stream(data, CONFIG, recipe.replace(batch_size=2))
    assert stream.class_weights is None and len(stream[0]) == 2
    np.testing.assert_allclose(stream.pixel_weights, expected, rtol=1e-6)


def test_masks_are_counted_once():
    data, reads = shapes(3), []
    masks = data.labels

    def read(at):
        reads.append(at)
        return masks[at]

    data = dataclasses.replace(data, labels=LazyImages(read, np.arange(3)))
    recipe = SHORT.replace(class_weights="balanced")
    assert imbalance(data) is not None
    assert class_weights(data, recipe) is not None
    Stream(data, CONFIG, recipe.replace(batch_size=2))
    assert sorted(reads) == [0, 1, 2]
    counts = np.bincount(masks[:2].ravel())
    assert np.array_equal(data.take(np.arange(2)).pixel_counts[0], counts)


def test_losses_are_saved_as_they_are():
    loss = SegmentationLoss("softmax_dice", np.array([1.0, 2.0, 0.5], "float32"))
    again = SegmentationLoss.from_config(loss.get_config())
    assert float(again(LABELS, LOGITS)) == float(loss(LABELS, LOGITS))


def test_labels_that_are_no_masks():
    data = shapes(2)
    for labels, words in (
        (data.labels + 1, "`labels` must be from 0 to 2, or 255"),
        (data.labels.astype("int32"), "`labels` must be uint8"),
        (data.labels[:, 0], "`labels` must be .N, H, W."),
    ):
        with pytest.raises(ValueError, match=words):
            with_head(dataclasses.replace(data, labels=labels), None)
    with pytest.raises(ValueError, match="`head` must be that of the data"):
        with_head(data, "softmax")


def test_images_of_one_size_are_only_enlarged():
    """What the model said is brought to a photograph without a shift."""
    logits = LOGITS[0]
    large = to_photograph(logits, (10, 12), NEAREST.preprocessing)
    bands = [
        Image.fromarray(band).resize((12, 10), Image.Resampling.BILINEAR)
        for band in np.moveaxis(logits, -1, 0)
    ]
    # Pillow's weights are those of float32.
    np.testing.assert_allclose(np.moveaxis(large, -1, 0), np.stack(bands), atol=1e-5)

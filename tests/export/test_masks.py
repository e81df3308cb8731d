"""Attention that does not look everywhere, in int8."""

import numpy as np
import pytest
from keras import ops

import export
from export.evaluation import runners
from export.flatbuffer.float_fixes import clip_masks
from export.quantization.calibration import measure_ranges
from export.quantization.masks import NOTHING
from tests.export import stock
from tests.models import slow_but

APART = np.abs(np.subtract.outer(np.arange(stock.TOKENS), np.arange(stock.TOKENS))) > 3
LEAST = float(np.finfo("float32").min)


def added(value):
    """A transformer whose scores get a bias of this value where tokens are apart."""
    bias = np.where(APART, value, 0).astype("float32")
    return stock.scored(lambda scores: ops.add(scores, bias))


def chosen(value):
    """The same with the value in the place of the score."""
    near = ~APART[None]
    return stock.scored(lambda scores: ops.where(near, scores, value))


MASKED = {
    "causal": lambda: stock.transformer(causal=True, blocks=2),
    "diagonal": lambda: stock.transformer(mask=~np.eye(stock.TOKENS, dtype=bool)[None]),
    "-1e9": lambda: added(-1e9),
    "-100, of Swin": lambda: added(-100.0),
    "the least float": lambda: added(LEAST),
    "-infinity": lambda: added(-np.inf),
    "in the place of scores": lambda: chosen(-1e9),
}

# Each way to mask; others differ by the value.
FIRST = ("causal", "-100, of Swin", "-infinity", "in the place of scores")


@pytest.mark.parametrize("name", slow_but(FIRST, MASKED))
def test_masks_cost_nothing(name, tmp_path):
    """Without a mask these have 24 to 29 dB, with -1e9 in the ranges 2 to 7."""
    path = tmp_path / "m.tflite"
    options = {"scheme": "int8", "calibration": stock.images()}
    report = export.to_tflite(MASKED[name](), path, **options)
    assert report.parity.sqnr_db > 23
    parity = export.verify(MASKED[name](), path, stock.images(24, seed=1))
    assert parity.sqnr_db > 20  # on images that the ranges have not seen


@pytest.mark.parametrize(
    "scheme", slow_but(("int8_attention16",), ("int8_attention16", "int16x8"))
)
def test_masks_in_int16(scheme, tmp_path):
    path = tmp_path / "m.tflite"
    options = {"scheme": scheme, "calibration": stock.images()}
    report = export.to_tflite(added(-1e9), path, **options)
    assert report.parity.sqnr_db > 25


@pytest.fixture(scope="module")
def masked_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("masked") / "m.tflite"
    export.to_tflite(added(-1e9), path, input_dtype="float32")
    return path


@pytest.mark.parametrize("method", ["min_max", "mse", "percentile"])
def test_ranges_end_where_the_softmax_gives_zero(masked_file, method):
    ranges = measure_ranges(masked_file, stock.images(), False, method)
    low = min(low for low, _ in ranges.values())
    # The mask itself: below all scores, and not much lower.
    assert -10 * NOTHING < low < -NOTHING


def test_clipped_masks_give_the_same_floats(masked_file, tmp_path):
    images = stock.images()
    ranges = measure_ranges(masked_file, images, False)
    clipped = tmp_path / "clipped.tflite"
    clipped.write_bytes(clip_masks(masked_file.read_bytes(), ranges))
    assert clipped.read_bytes() != masked_file.read_bytes()
    expected, got = (runners.load(f)(images) for f in (masked_file, clipped))
    # 12 of 16 scores, each exp(-NOTHING) = 6e-6 of the largest at most.
    np.testing.assert_allclose(got, expected, atol=12 * np.exp(-NOTHING))


def test_ranges_without_a_mask_are_plain(tmp_path):
    path = tmp_path / "m.tflite"
    export.to_tflite(added(-1.0), path, input_dtype="float32")
    content = path.read_bytes()
    ranges = measure_ranges(path, stock.images(), False)
    assert clip_masks(content, ranges) == content
    assert min(low for low, _ in ranges.values()) > -NOTHING


def test_nan_is_found_behind_a_mask(tmp_path):
    path = tmp_path / "m.tflite"
    bias = np.where(APART, -1e9, 0).astype("float32")
    model = stock.scored(lambda scores: ops.add(ops.sqrt(scores), bias))
    options = {"scheme": "int8", "calibration": stock.images()}
    with pytest.raises(ValueError, match="finite values on the calibration images"):
        export.to_tflite(model, path, **options)

"""Ranges from values, and the images that they are measured on."""

import keras
import numpy as np
import pytest

import export
from export.evaluation.interpreter import (
    new_interpreter,
    open_preserving,
    operators_of,
)
from export.evaluation.tools.xnnpack import check_xnnpack
from export.graph.float_file import float_file
from export.quantization import clipping
from export.quantization.calibration import (
    measure_ranges,
    same_scale_groups,
)
from vit_keras import Preprocessing
from vit_keras.data import load_images

STEPS = 255


def seen(values, parts=7):
    """As it comes: in parts, of which the first is the narrowest."""
    held = clipping.Histogram()
    order = np.argsort(np.abs(values))
    for part in np.array_split(values[order], parts):
        held.add(part)
    return held


def quantised(values, low, high):
    step = (high - low) / STEPS
    zero = round(-low / step)
    return (np.clip(np.round(values / step) + zero, 0, STEPS) - zero) * step


DRAWS = np.random.default_rng(0)
VALUES = {
    "normal": DRAWS.normal(0, 2, 50_000),
    "heavy": DRAWS.standard_t(3, 50_000),
    "one-sided": np.abs(DRAWS.normal(0, 1, 50_000)),
    "gelu": (lambda x: x / (1 + np.exp(-1.7 * x)))(DRAWS.normal(0, 2, 50_000)),
    "outlier": np.append(DRAWS.normal(0, 1, 50_000), 60.0),
    "far from zero": DRAWS.uniform(5, 6, 50_000),
    "tiny": DRAWS.normal(0, 1e-6, 50_000),
}


@pytest.mark.parametrize("name", VALUES)
def test_ranges_are_those_of_the_values_themselves(name):
    values = VALUES[name].astype("float32")
    held = seen(values)
    bin_width = 2 * float(np.abs(values).max()) / clipping.BINS  # at most
    assert clipping.min_max(held) == (values.min(), values.max())

    cut = 100 - clipping.PERCENTILE
    ends = np.percentile(values, [cut / 2, 100 - cut / 2], method="inverted_cdf")
    expected = min(ends[0], 0), max(ends[1], 0)
    assert clipping.percentile(held) == pytest.approx(expected, abs=bin_width)

    # The best pair of ends by brute force on the values, of the same candidates.
    low, high = min(values.min(), 0), max(values.max(), 0)
    errors = {
        (a, b): np.mean((values - quantised(values, a, b)) ** 2)
        for a in clipping.SHARES[::5] * low
        for b in clipping.SHARES[::5] * high
        if b > a
    }
    found = np.mean((values - quantised(values, *clipping.mse(held))) ** 2)
    # End after end, not all pairs, and on bins: 5 % is 0.2 dB.
    assert found <= 1.05 * min(errors.values())


def test_outliers_are_clipped_by_those_that_clip():
    held = seen(VALUES["outlier"])
    assert clipping.min_max(held)[1] == 60
    assert clipping.percentile(held)[1] < 5
    # Clipping it to 60 c costs (60 - 60 c)^2, rounding the others 50,000 (60 c / 255)^2
    # / 12 and a little for their own range: the sum is least at c = 0.94.
    assert clipping.mse(held)[1] == pytest.approx(0.94 * 60, abs=0.6)


def test_bins_are_merged_exactly():
    values = DRAWS.normal(0, 1, 1000)
    held = clipping.Histogram()
    held.add(values[:10] * 1e-8)
    held.add(values)
    edges = (np.arange(2 * clipping.BINS + 1) - clipping.BINS) * held.width
    together = np.concatenate([values[:10] * 1e-8, values])
    np.testing.assert_array_equal(held.counts, np.histogram(together, edges)[0])
    assert clipping.BINS / 2 <= np.abs(values).max() / held.width <= clipping.BINS


def test_constants_and_zeros_have_a_range():
    for value in (0.0, 3.0, -3.0):
        for method, choose in clipping.RANGES.items():
            low, high = choose(seen(np.full(10, value), 2))
            if method == "min_max":
                assert low == high == value
            else:
                assert low <= min(value, 0) <= max(value, 0) <= high + 1e-3


@pytest.fixture(scope="module")
def digits_float(tflite_of):
    return tflite_of("float32", input_dtype="float32")[0]


@pytest.mark.parametrize("method", clipping.RANGES)
def test_methods_on_a_file(digits_float, pixels, method, monkeypatch):
    # Of a few thousand values, 99.99 % are all.
    monkeypatch.setattr(clipping, "PERCENTILE", 99)
    plain = measure_ranges(digits_float, pixels[:16])
    found = measure_ranges(digits_float, pixels[:16], True, method)
    assert found.keys() == plain.keys()
    name = new_interpreter(digits_float).get_input_details()[0]["name"]
    assert found[name] == (0, 255)
    narrower = 0
    for key, (low, high) in found.items():
        least, most = plain[key]
        # At most a bin, of 1/4096, beyond a constant's value.
        slack = 1e-3 * max(abs(least), abs(most))
        assert min(least, 0) - slack <= low <= high <= max(most, 0) + slack
        narrower += low - slack > least or high + slack < most
    assert (narrower > 20) == (method != "min_max")


def test_ranges_are_those_of_every_tensor_without_a_delegate(digits_float, pixels):
    interpreter, entry, kept = open_preserving(digits_float)
    values = {index: [] for index in kept}
    for image in pixels[:4]:
        interpreter.set_tensor(entry["index"], image[None].astype("float32"))
        interpreter.invoke()
        for index, held in values.items():
            held.append(interpreter.get_tensor(index))
    found = measure_ranges(digits_float, pixels[:4], False)
    assert len(found) == len(kept) > 50
    for group in same_scale_groups(interpreter, kept):
        arrays = np.concatenate([np.ravel(values[index]) for index in group])
        expected = arrays.min(), arrays.max()
        for index in group:  # float32 in another order
            name = kept[index]["name"]
            close = np.allclose(found[name], expected, atol=1e-5 * np.ptp(arrays))
            assert close, (name, found[name], expected)


@pytest.mark.parametrize("read_elsewhere", [False, True])
def test_values_that_gelu_makes_zero_get_no_steps(read_elsewhere, tmp_path):
    def function(x):
        y = keras.ops.reshape(x * 0.125 - 20, (-1, 48))
        out = keras.ops.gelu(y, approximate=False)
        return out + y if read_elsewhere else out

    path = tmp_path / "m.tflite"
    path.write_bytes(float_file(function, (1, 4, 4, 3), "float32", False))
    images = np.linspace(0, 255, 48, dtype="float32").reshape(1, 4, 4, 3)
    lows = [low for low, high in measure_ranges(path, images).values() if high > 11]
    # One step of int8 there is 1/16 instead of 1/8; GELU of -4 is -1.3e-4.
    assert (-20 in lows, -4 in lows) == (read_elsewhere, not read_elsewhere)


@pytest.mark.slow
def test_method_and_data_set_reach_the_file(model, pixels, tflite_of, tmp_path):
    import tensorflow as tf

    path, plain = tflite_of("int8")
    other = export.to_tflite(
        *(model, tmp_path / "m.tflite"),
        scheme="int8",
        calibration=tf.data.Dataset.from_tensor_slices(pixels).batch(7),
        calibration_method="mse",
    )
    assert plain.calibration["sha256"] == other.calibration["sha256"]
    assert plain.calibration["method"] == "min_max"
    assert other.calibration["method"] == "mse"
    assert _scales(path) != _scales(tmp_path / "m.tflite")


def _scales(path):
    details = new_interpreter(path).get_tensor_details()
    return [float(t["quantization"][0]) for t in details]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration_method": "kl"}, "one of min_max, mse, percentile for scheme="),
        ({"scheme": "int16x8", "calibration_method": "mse"}, "must be one of min_max"),
    ],
)
def test_unknown_method(model, pixels, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.to_tflite(
            *(model, tmp_path / "m.tflite"),
            **{"scheme": "int8", "calibration": pixels, **options},
        )
    assert list(tmp_path.iterdir()) == []


# ---- data sets of batches ----

SIZE, RULES = (32, 32), Preprocessing()


def test_data_sets_give_their_first_images(pixels):
    import tensorflow as tf

    labels = np.zeros(len(pixels), "int32")
    sets = {
        "tf.data": tf.data.Dataset.from_tensor_slices(pixels).batch(10),
        "with labels": tf.data.Dataset.from_tensor_slices((pixels, labels)).batch(10),
        "without end": tf.data.Dataset.from_tensor_slices(pixels).batch(10).repeat(),
        "generator": (pixels[i : i + 10] for i in range(0, 48, 10)),
        "lists": ([pixels[i : i + 10], labels[:10]] for i in range(0, 48, 10)),
    }
    for name, source in sets.items():
        found = load_images(source, SIZE, RULES, limit=25)
        np.testing.assert_array_equal(found, pixels[:25], err_msg=name)
    whole = load_images(sets["tf.data"], SIZE, RULES)
    np.testing.assert_array_equal(whole, pixels)
    np.testing.assert_array_equal(load_images(list(pixels), SIZE, RULES), pixels)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "hold one at least"),
        ([np.zeros((32, 32, 3), "uint8")], "batches .N, H, W, C. of one size"),
        ([np.zeros((2, 32, 32, 3)), np.zeros((2, 16, 16, 3))], "of one size"),
        ([np.zeros((2, 16, 16, 3), "uint8")], "must have the shape .N, 32, 32, 3."),
        ([np.zeros((2, 32, 32, 1), "uint8")], "must have the shape .N, 32, 32, 3."),
        ([np.full((2, 32, 32, 3), -0.5)], "normalised already"),
    ],
)
def test_bad_data_sets(model, batches, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.to_tflite(
            *(model, tmp_path / "m.tflite"),
            **{"scheme": "int8", "calibration": iter(batches)},
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("target", "symmetric"), [(None, True), ("npu", False)])
def test_products_of_attention_run_in_xnnpack(tflite_of, target, symmetric):
    """Its integer kernel needs zero point 0 on the right; on an NPU an asymmetric
    range rounds less."""
    path, _ = tflite_of("int8", target=target)
    interpreter, _, _ = open_preserving(path)
    zero_point = {
        tensor["index"]: tensor["quantization"][1]
        for tensor in interpreter.get_tensor_details()
    }
    zeros = [
        zero_point[op["inputs"][1]]
        for op in operators_of(interpreter)
        if op["op_name"] == "BATCH_MATMUL"
    ]
    assert (set(zeros) == {0}) == symmetric
    outside = check_xnnpack(path, None, None).facts["outside XNNPACK"]
    assert ("BATCH_MATMUL" not in outside) == symmetric

"""Outputs far from zero: they keep their offset, and parity sees when they do not."""

import keras
import numpy as np
import pytest
from keras import layers

import export
from export.evaluation import runners
from export.evaluation.parity import measure_parity
from export.evaluation.reference import predict
from tests.export import stock
from tests.models import slow_but

FAR = 295.0
OTHERS = stock.images(24, seed=1)  # that the ranges have not seen


def regression(offset=FAR, rescaled=False):
    """One output with deviations of about a half around an offset."""
    model = stock.transformer(outputs=1)
    if rescaled:
        output = layers.Rescaling(0.5, offset)(model.output)
        return keras.Model(model.input, output)
    bias = model.layers[-1].bias
    bias.assign(bias + offset)
    return model


def test_parity_is_about_the_mean():
    values = FAR + np.random.default_rng(0).normal(size=(64, 1))
    constant = measure_parity(values, np.full_like(values, values.mean()))
    # Power about zero called this one 49 dB.
    assert constant.sqnr_db == pytest.approx(0, abs=0.01)


def test_parity_of_class_scores_is_as_about_zero():
    draws = np.random.default_rng(0)
    # As few images as there are, each class with a mean of its own.
    scores = draws.normal(size=(1, 10)) + 0.1 * draws.normal(size=(16, 10))
    outputs = scores + 0.01 * draws.normal(size=scores.shape)
    about_zero = 10 * np.log10(np.sum(scores**2) / np.sum((scores - outputs) ** 2))
    parity = measure_parity(scores, outputs)
    assert parity.sqnr_db == pytest.approx(about_zero, abs=1)


def test_parity_of_what_has_no_spread():
    assert measure_parity([[FAR]], [[FAR + 1]]).sqnr_db == pytest.approx(
        20 * np.log10(FAR), abs=0.01
    )
    same = np.full((8, 1), FAR)
    assert measure_parity(same, same + 1).sqnr_db == pytest.approx(
        20 * np.log10(FAR), abs=0.01
    )
    # No two numbers of float32 are nearer there.
    steps = FAR + np.arange(8)[:, None] * 1e-3
    assert measure_parity(steps, steps + 3e-5, 80).passed


@pytest.mark.parametrize(("offset", "rescaled"), [(FAR, False), (-FAR, True)])
def test_int8_keeps_the_offset_in_float(offset, rescaled, tmp_path):
    model, path = regression(offset, rescaled), tmp_path / "m.tflite"
    options = {"scheme": "int8", "calibration": stock.images()}
    report = export.to_tflite(model, path, **options)
    assert "float32" in report.output
    (note,) = [note for note in report.notes if "offset is added in float" in note]
    assert not any("stays in float" in note for note in report.notes)
    expected, got = predict(model, OTHERS), runners.load(path)(OTHERS)
    error = np.mean((got - expected) ** 2) / np.var(expected)
    assert error < 0.02  # r2; with the offset in the integers, 0.45
    assert len(np.unique(got)) > 12  # with it, 3


def test_int16_keeps_it_too(tmp_path):
    """Its bias of 295 would be 2e9 of its steps."""
    model, path = regression(1e4), tmp_path / "m.tflite"
    options = {"scheme": "int16x8", "calibration": stock.images()}
    export.to_tflite(model, path, **options)
    expected, got = predict(model, OTHERS), runners.load(path)(OTHERS)
    assert np.mean((got - expected) ** 2) / np.var(expected) < 0.02


@pytest.mark.parametrize(
    "options",
    [{"output_dtype": "int8"}, pytest.param({"target": "npu"}, marks=pytest.mark.slow)],
)
def test_integers_to_the_end_are_refused_or_named(options, tmp_path):
    """The output of such a file is an integer, with a step or two for the values."""
    model, path = regression(), tmp_path / "m.tflite"
    options = {"scheme": "int8", "calibration": stock.images(), **options}
    with pytest.raises(export.ParityError, match="SQNR"):
        export.to_tflite(model, path, **options)
    report = export.to_tflite(model, path, enforce_parity=False, **options)
    assert any("output_dtype='float32'" in note for note in report.notes)


@pytest.mark.parametrize("offset", slow_but((1.0,), (0.0, 1.0)))
def test_outputs_near_zero_stay_integers(offset, tmp_path):
    path = tmp_path / "m.tflite"
    options = {"scheme": "int8", "calibration": stock.images()}
    report = export.to_tflite(regression(offset), path, **options)
    assert "int8" in report.output
    assert not any("offset" in note for note in report.notes)


def test_float_files_are_not_refused_for_float32(tmp_path):
    """Values of float32 near 295 differ by 3e-5, a ten thousandth of the spread."""
    report = export.to_tflite(regression(), tmp_path / "m.tflite")
    assert report.parity.passed

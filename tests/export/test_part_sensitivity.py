"""The error of each part in int8, estimated without a file for each."""

from typing import Any

import numpy as np
import pytest

import export
from export.evaluation.parity import least_sqnr
from export.evaluation.runners import load, run_on_all_cores
from export.graph.build import inference_graph
from export.quantization import accuracy_budget, calibration, mixed_precision
from export.quantization import part_sensitivity as estimates
from export.quantization.post_training import quantize_static
from export.resolve import only, resolve
from export.tflite.converter import convert
from tests.models import slow_but
from vit_keras import Preprocessing


@pytest.mark.parametrize("target", slow_but((None,), (None, "ethos_u85")))
def test_estimate_agrees_with_a_file_of_each_part(
    model, pixels, target, tmp_path, monkeypatch
):
    monkeypatch.setattr("export.graph.build.MEASURED_ON", 32)  # as for users
    path = tmp_path / "m.tflite"
    plan = resolve("int8", target, has_calibration=True, min_sqnr=1.0)
    graph = inference_graph(model, Preprocessing(), pixels, plan.graph)
    convert(graph.function, model, path, plan)
    ranges = calibration.measure_ranges(path, pixels)
    parts = mixed_precision.find_parts(path, "float32")
    found = estimates.sensitivity(path, ranges, pixels, parts)
    assert list(found) == [part.name for part in parts]
    images, alone = pixels[: estimates.IMAGES], tmp_path / "alone.tflite"
    reference, measured = load(path).all(images), []
    for part in parts:
        overrides = [*only(()), *part.overrides("int8")]
        content = quantize_static(path, ranges, "float32", "float32", overrides)
        alone.write_bytes(content)
        measured.append(least_sqnr(reference, load(alone).all(images)))
    estimated = np.array(list(found.values()))
    # The kernels' own roundings are a fraction of a step, and so of the noise: 0.5 dB
    # is 12 % of its power. The parts are 17 dB apart.
    np.testing.assert_allclose(estimated, measured, atol=0.5)
    assert np.ptp(measured) > 10
    # Two parts change places only if they are nearer than that.
    assert np.corrcoef(_ranks(estimated), _ranks(measured))[0, 1] > 0.95


def _ranks(values):
    return np.argsort(np.argsort(values))


def test_few_files_are_written(model, pixels, tflite_of, tmp_path, monkeypatch):
    written, plain = [], tflite_of("int8")[1].parity.sqnr_db

    def counted(*arguments):
        written.append(arguments)
        return quantize_static(*arguments)

    monkeypatch.setattr(accuracy_budget, "quantize_static", counted)
    report = export.to_tflite(
        *(model, tmp_path / "m.tflite"),
        **{"scheme": "int8", "calibration": pixels, "min_sqnr": plain + 4},
    )
    mixed: Any = report.mixed
    total, parts = mixed["total"], len(mixed["parts"])
    assert len(mixed["sensitivity"]) == total
    assert 1 < parts < total
    # One in int8, those of the search, and in int16 one or two: with one for every
    # part they would be more than there are parts.
    searched = 2 * np.log2(total) + 2
    assert len(written) <= 1 + searched + 2 <= total
    # The report's figures are of files in int16, on all images.
    curve = dict(mixed["curve"])
    assert curve[parts] == pytest.approx(report.parity.sqnr_db)


def test_foreseen_number_is_from_the_sum_of_noise():
    order = [mixed_precision.Part(str(n), ()) for n in range(4)]
    errors = {"0": 20.0, "1": 23.0103, "2": 23.0103, "3": np.inf}
    silent = dict.fromkeys(errors, np.inf)
    assert mixed_precision.foreseen_parts(order, silent, 15.0, 16.0) == 4
    # The first part has half of the noise, the next two a quarter each.
    for wanted, number in ((15.1, 1), (18.0, 1), (18.1, 2), (21.0, 2), (21.1, 3)):
        found = mixed_precision.foreseen_parts(order, errors, 15.0, wanted)
        assert found == number, wanted


@pytest.mark.parametrize("first", [1, 3, 8, 20])
def test_search_from_any_number_finds_the_least(first):
    order = [mixed_precision.Part(str(n), ()) for n in range(20)]
    for needed in range(1, 21):
        found, tried = mixed_precision.fewest_parts(
            order, len, needed.__le__, first=first
        )
        assert found == order[:needed]
        # Steps are doubled up to the distance, then halved.
        assert len(tried) <= 2 * np.log2(abs(needed - first) + 1) + 3
    found, _ = mixed_precision.fewest_parts(order, len, lambda count: False, first)
    assert found == order


def test_all_cores_give_what_one_gives(tflite_of, pixels):
    path, _ = tflite_of("int8", batch=2)
    expected = load(path).all(pixels[:7])
    (found,) = run_on_all_cores(path, pixels[:7]).values()
    np.testing.assert_array_equal(found, *expected.values())

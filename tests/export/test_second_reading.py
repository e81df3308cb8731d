"""Files that LiteRT runs give the same numbers where nothing of LiteRT is used."""

import keras
import numpy as np
import pytest

import export
from tests.models import exported

if keras.backend.backend() != "tensorflow":
    pytest.skip("reads what this process exports", allow_module_level=True)

from benchmarks.reliability import second_reading
from benchmarks.reliability.file_reading import SecondReading, agreement

QUICK = [
    ("classification", "dynamic_int4", "any"),
    ("classification", "int8_residual16", "any"),
    ("similar tokens", "float32", "any"),
]
ALL = [(*case[:3], case[3]) for case in second_reading.cases()]


def check(case, more, folder):
    rows = second_reading.read_twice(case, more, folder)
    assert rows and not [said for row in rows if (said := second_reading.too_far(row))]


@pytest.mark.parametrize("case", QUICK, ids=" ".join)
def test_two_readings_agree(case, tmp_path):
    check(case, {}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL, ids=lambda case: " ".join(map(str, case[:3])))
def test_all_kinds_of_files_agree(case, tmp_path):
    try:
        check(case[:3], case[3], tmp_path)
    except export.MissingDependency as error:
        pytest.skip(str(error))


def test_a_changed_weight_is_seen(tmp_path):
    """The second reading reads the file, not the model."""
    model, path = exported(num_layers=1), tmp_path / "m.tflite"
    export.to_tflite(model, path)
    pixels = second_reading.pixels_of(model, 2)
    litert = export.load(path).all(pixels)
    reading = SecondReading(path)
    assert (
        agreement(litert["output"], reading(pixels)["output"], _end(reading)).sqnr_db
        > 100
    )
    big = max(
        (i for i, t in enumerate(reading.tables.tensors) if t.stored is not None),
        key=lambda i: reading.tables.tensors[i].stored.size,
    )
    reading.constants[big] = reading.constants[big] * 1.1
    apart = agreement(litert["output"], reading(pixels)["output"], _end(reading))
    assert apart.sqnr_db < second_reading.FLOAT_DB
    assert np.isnan(apart.steps)  # floats have none


def _end(reading):
    return reading.outputs["output"]

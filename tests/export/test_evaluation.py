"""Metrics against hand-computed values; runners, check and benchmark on bad files."""

import json
import math
import sys

import numpy as np
import pytest

import export
from export.evaluation.parity import measure_parity
from export.evaluation.tools.integer_scan import float_islands
from export.flatbuffer.operators import Operator
from export.schemes import SCHEMES
from tests.models import exported


def test_compare_by_hand():
    reference = np.array([[3.0, 4.0], [1.0, 0.0]])
    outputs = np.array([[3.0, 4.0], [0.0, 1.0]])
    parity = measure_parity(reference, outputs, threshold_db=20)
    assert parity.images == 2
    assert parity.max_abs == 1.0
    assert parity.cosine == 0.0  # the second row is orthogonal
    # About the mean, 2: 1 + 4 + 1 + 4.
    assert parity.sqnr_db == pytest.approx(10 * math.log10(10 / 2))
    assert parity.agreement == 0.5
    assert not parity.passed


def test_compare_equal_and_nan():
    values = np.ones((2, 3))
    assert measure_parity(values, values, 80).passed
    assert measure_parity(values, values).to_dict()["sqnr_db"] is None
    assert not measure_parity(values, values * np.nan, 0).passed
    assert not measure_parity(values * np.nan, values).passed
    json.dumps(measure_parity(values * np.nan, values).to_dict(), allow_nan=False)
    json.dumps(measure_parity(values, values * np.inf).to_dict(), allow_nan=False)
    assert not measure_parity(values * 0, values, 0).passed  # no signal, only noise


def test_agreement_needs_classes():
    assert measure_parity(np.ones((2, 5, 4)), np.ones((2, 5, 4))).agreement is None
    assert measure_parity(np.ones((2, 1)), np.ones((2, 1))).agreement is None


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="must have the shape"):
        measure_parity(np.ones((2, 3)), np.ones((2, 4)))


def test_every_scheme_gives_a_reason_for_its_threshold():
    for scheme in SCHEMES.values():
        assert scheme.reason and scheme.summary
        assert scheme.input_dtypes and scheme.output_dtypes


def test_float_islands():
    ends = [
        Operator("QUANTIZE", ("UINT8",), ("INT8",)),
        Operator("CONV_2D", ("INT8", "INT8", "INT32"), ("INT8",)),
        Operator("DEQUANTIZE", ("INT8",), ("FLOAT32",)),
    ]
    assert float_islands(ends) == ()
    island = [
        Operator("DEQUANTIZE", ("INT8",), ("FLOAT32",)),
        Operator("NEG", ("FLOAT32",), ("FLOAT32",)),
        Operator("QUANTIZE", ("FLOAT32",), ("INT8",)),
    ]
    found = float_islands([*ends[:2], *island, *ends[1:]])
    assert [refusal.operator for refusal in found] == ["DEQUANTIZE", "NEG", "QUANTIZE"]


def test_check_names_what_an_npu_refuses(tflite_of):
    path, _ = tflite_of()
    report = export.check(path, "npu")
    assert not report.passed
    assert "FULLY_CONNECTED" in str(report) and "unsupported" in str(report)
    assert export.check(path, "cpu").passed


BAD_FILES = {"empty": b"", "text": b"hello, world", "cut": None}


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("function", [export.load, export.check])
def test_bad_files(tflite_of, kind, function, tmp_path):
    path = tmp_path / "m.tflite"
    content = BAD_FILES[kind]
    if content is None:
        content = tflite_of()[0].read_bytes()[:2000]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="m.tflite"):
        function(path)


def test_missing_and_misfit(model, pixels, tflite_of, tmp_path):
    with pytest.raises(FileNotFoundError):
        export.load(tmp_path / "no.tflite")
    with pytest.raises(FileNotFoundError):
        export.check(tmp_path / "no.tflite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="must be a SavedModel"):
        export.load(tmp_path / "folder")
    path, _ = tflite_of()
    with pytest.raises(ValueError, match="`images` must have the shape"):
        export.verify(model, path, pixels[:, :16])
    with pytest.raises(ValueError, match="must have the shape of the model's"):
        export.verify(np.ones((48, 3), "float32"), path, pixels)


def test_verify_sees_a_foreign_artefact(model, pixels, tmp_path):
    path = tmp_path / "m.tflite"
    export.to_tflite(exported(seed=9), path)
    assert not export.verify(model, path, pixels).passed


def test_benchmark(model, tflite_of, tmp_path):
    (one, _), (other, _) = tflite_of(), tflite_of("dynamic_int8")
    paths = [one, other, tmp_path / "s" / "1"]
    export.to_saved_model(model, paths[2])
    rows = export.benchmark(paths, runs=3)
    assert [row.path for row in rows] == [str(path) for path in paths]
    assert rows[0].size_bytes == paths[0].stat().st_size
    assert rows[1].size_bytes < rows[0].size_bytes
    assert all(row.latency_ms > 0 and row.runs == 3 for row in rows)
    with pytest.raises(ValueError, match="`runs`"):
        export.benchmark(paths, runs=0)


@pytest.mark.parametrize("package", ["ai_edge_litert", "litert_quantizer"])
def test_missing_package_is_named_with_its_remedy(
    package, model, pixels, tmp_path, monkeypatch
):
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(export.MissingDependency, match=r"vit-keras-edge\[export\]"):
        export.to_tflite(
            model, tmp_path / "m.tflite", scheme="int8", calibration=pixels
        )
    assert list(tmp_path.iterdir()) == []


def test_missing_tensorflow_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for function in (export.to_tflite, export.to_saved_model):
        with pytest.raises(export.MissingDependency, match="tensorflow is needed"):
            function(model, tmp_path / "x")

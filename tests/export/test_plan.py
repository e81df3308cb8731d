"""The plan of an export is decided in one place; the tables take new rows."""

import ast
import dataclasses
import inspect
import json

import pytest

import export
from export.flatbuffer.operators import read_operators
from export.plan import ExportPlan
from export.quantization import clipping
from export.resolve import CALIBRATION_METHODS, resolve
from export.schemes import SCHEMES
from export.targets import TARGETS, GraphOptions, Target
from export.tflite import writer

PAIRS = [(scheme, name) for name, row in TARGETS.items() for scheme in row.schemes]


@pytest.mark.parametrize(("scheme", "target"), PAIRS, ids="-".join)
def test_plan_goes_to_json_and_back(scheme, target):
    plan = resolve(scheme, target, has_calibration=True, batch=3, input_dtype="float32")
    text = json.dumps(plan.to_dict())
    assert ExportPlan.from_dict(json.loads(text)) == plan


@pytest.mark.parametrize("change", [{"new": 1}, {"graph": {"new": 1}}])
def test_plan_of_another_release_is_refused(change):
    with pytest.raises(ValueError, match="the plan is of another release.*new"):
        ExportPlan.from_dict({**resolve().to_dict(), **change})


def test_plan_is_decided_once():
    assert resolve(target=None) == resolve(target="any")
    assert resolve("int8", "cpu", has_calibration=True).linear_only
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve().scheme = "int8"  # type: ignore[misc]


def test_every_calibration_method_has_a_range():
    assert tuple(clipping.RANGES) == CALIBRATION_METHODS


@pytest.mark.parametrize("name", ["to_tflite", "write_tflite"])
def test_the_way_fits_one_screen(name):
    function = ast.parse(inspect.getsource(getattr(writer, name))).body[0]
    assert isinstance(function, ast.FunctionDef) and function.end_lineno
    body = function.body[1]  # after the docstring
    assert function.end_lineno - body.lineno + 1 <= 60
    arguments = function.body[0].lineno - 1
    assert arguments + function.end_lineno - body.lineno + 1 <= 60


def test_a_row_adds_a_scheme_and_a_target(model, pixels, tmp_path, monkeypatch):
    """Nothing else has to be changed for either: not the graph, nor the checks."""
    int8 = SCHEMES["int8"]
    softmax16 = dataclasses.replace(
        int8, summary="softmax in int16", int16_operators=(("SOFTMAX", ".*"),)
    )
    monkeypatch.setitem(SCHEMES, "int8_softmax16", softmax16)
    row = Target(
        summary="an NPU that nobody sells",
        schemes=("int8_softmax16", "int8"),
        checker="integer_scan",
        integer_only=True,
        graph=GraphOptions(heads_apart=True, gelu="tanh"),
        int8_exp=False,  # so it has softmax
        io_dtypes=("int8",),
    )
    monkeypatch.setitem(TARGETS, "new_npu", row)

    file = tmp_path / "m.tflite"
    report = export.to_tflite(
        *(model, file),
        **{"scheme": "int8_softmax16", "target": "new_npu", "calibration": pixels},
    )
    assert report.scheme == "int8_softmax16" and report.target == "new_npu"
    assert report.input == "int8 (1, 32, 32, 3)"
    assert report.output == "int8 (1, 10)"
    assert report.parity.passed and report.parity.sqnr_db > 20
    assert {"SOFTMAX", "TANH"} <= set(report.operators)
    assert not {"GELU", "EXP"} & set(report.operators)
    heads = model.config.num_layers * model.config.num_heads
    assert report.operators["SOFTMAX"] == heads  # each by itself
    softmax = [row for row in read_operators(file) if row.name == "SOFTMAX"]
    assert {kind for row in softmax for kind in row.outputs} == {"INT16"}
    assert export.check(file, "new_npu").passed
    with pytest.raises(
        ValueError, match="`scheme` must be one of int8_softmax16, int8"
    ):
        export.to_tflite(model, file, target="new_npu")
    with pytest.raises(ValueError, match="outputs are neither int32 nor uint8: any"):
        export.to_tflite(
            *(model, file),
            **{"scheme": "int8", "target": "new_npu", "calibration": pixels},
            decode="classes",
        )
    with pytest.raises(ValueError, match="`input_dtype` must be one of int8"):
        export.to_tflite(
            *(model, file),
            **{"scheme": "int8", "target": "new_npu", "calibration": pixels},
            input_dtype="uint8",
        )

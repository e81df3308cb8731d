"""Qualcomm's compiler and its emulation of the NPU, on small files."""

import csv
import hashlib
import json
import pathlib

import numpy as np
import pytest

import export
from export.evaluation.tools import qualcomm_compiler
from export.evaluation.tools.qualcomm import computed_wrong
from export.evaluation.tools.qualcomm_compiler import compiler_name
from export.evaluation.tools.qualcomm_socs import SOCS
from export.flatbuffer.operators import read_operators
from export.targets import TARGETS
from tests import program
from tests.models import exported

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compiler():
    """Skips where Qualcomm's compiler is not installed, as on other systems."""
    try:
        return compiler_name()
    except export.MissingDependency as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("scheme", ["int8", "int8_attention16", "float32"])
def test_the_npu_takes_the_file_whole(scheme, tflite_of, compiler):
    path, report = tflite_of(scheme, target="qualcomm")
    assert compiler in report.checked_by and "QAIRT 2." in report.checked_by
    for soc in ("SM8750", "SM8550"):
        facts = report.facts[soc]
        assert facts["partitions"] == 1
        assert facts["compiled_mb"] > 0 and facts["dram_read_mb"] > 0


# Of scheme "int8" is left what rounding in another order makes of it, of "float32" the
# 11 bits of the NPU's halves; what is computed wrong has about 0 dB.
@pytest.mark.parametrize(("scheme", "least"), [("int8", 20.0), ("float32", 40.0)])
def test_the_npu_computes_what_litert_does(scheme, least, tflite_of, others, compiler):
    path, _ = tflite_of(scheme, target="qualcomm")
    (parity,) = export.emulate(path, others[:2]).values()
    assert parity.images == 2 and parity.passed
    assert parity.sqnr_db > least


def test_means_in_int16_are_computed_right(tmp_path, compiler):
    """QAIRT 2.50 has -3 dB here: of 192 channels, but not of 32."""
    sizes = {"hidden_size": 192, "num_heads": 3, "mlp_dim": 768, "num_layers": 1}
    model, path = exported(image_size=24, **sizes), tmp_path / "m.tflite"
    images = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3), "uint8")
    options = {"scheme": "int16x8", "target": "qualcomm", "calibration": images}
    export.to_tflite(model, path, **options)
    (parity,) = export.emulate(path, images[:1]).values()
    assert parity.sqnr_db > 25.0  # what is demanded of the scheme itself


@pytest.mark.slow
def test_norms_that_fall_back_to_int16(tflite_of, others, compiler):
    path, report = tflite_of("int8", target="qualcomm", min_sqnr=25.0)
    assert "encoderblock_0/norm" in report.mixed["parts"]
    assert ("MEAN", "INT16") in {(op.name, op.inputs[0]) for op in read_operators(path)}
    (parity,) = export.emulate(path, others[:2]).values()
    assert parity.sqnr_db > 20.0


def test_a_file_for_any_device_is_refused_with_reason_and_cure(tflite_of, compiler):
    """EXP has no kernel; a CAST from pixels has a wrong one, which no compiler says."""
    int8, _ = tflite_of("int8")
    report = export.check(int8, "qualcomm", options={"socs": ["SM8750"]})
    (refused,) = report.unsupported
    assert refused.operator == "EXP" and "QNN refuses it" in refused.reason
    assert "target='qualcomm'" in refused.fix and not report.facts
    float32, _ = tflite_of()
    (refused,) = export.check(
        float32, "qualcomm", options={"socs": ["SM8750"]}
    ).unsupported
    assert refused.operator == "CAST" and "1.0 of every value" in refused.reason


def test_cast_of_pixels_is_computed_wrong(tflite_of, others, compiler):
    """If this fails, CAST from UINT8 may be allowed again."""
    path, _ = tflite_of()
    (parity,) = export.emulate(path, others[:1]).values()
    assert not parity.passed


def test_an_older_soc_lacks_int16_products(tflite_of, compiler):
    path, _ = tflite_of("int8_attention16", target="qualcomm")
    report = export.check(path, "qualcomm", options={"socs": ["SM8450", "SM8550"]})
    (refused,) = report.unsupported
    assert refused.operator == "BATCH_MATMUL" and "SM8450" in refused.reason
    assert "Hexagon v73 or later" in refused.reason
    assert "scheme='int8'" in refused.fix
    assert list(report.facts) == ["SM8550"]


def test_means_in_int16_need_a_newer_compiler(tflite_of):
    path, _ = tflite_of("int16x8")
    found = read_operators(path)
    assert any(op.name == "MEAN" and op.inputs[0] == "INT16" for op in found)
    (problem,) = computed_wrong(found, "2.50.40")
    assert problem.operator == "MEAN" and "onnxruntime-qnn>=2.7" in problem.fix
    assert computed_wrong(found, "2.51.0") == []


def test_the_sdk_for_litert_goes_first_if_it_has_libraries(tmp_path, monkeypatch):
    for package, folder in qualcomm_compiler.SDKS.items():
        (tmp_path / package / folder).mkdir(parents=True)
    monkeypatch.setattr(qualcomm_compiler, "package_folder", lambda p: tmp_path / p)
    with pytest.raises(export.MissingDependency, match=r"vit-keras-edge\[qualcomm\]"):
        qualcomm_compiler.find_sdk()
    for package in reversed(qualcomm_compiler.SDKS):
        folder = tmp_path / package / qualcomm_compiler.SDKS[package]
        (folder / "libQnnHtp.so").touch()
        assert qualcomm_compiler.find_sdk() == (package, folder)


def test_without_the_compiler_the_list_is_asked(tflite_of, monkeypatch):
    monkeypatch.setattr(qualcomm_compiler, "SDKS", {})
    good, _ = tflite_of("int8", target="qualcomm")
    report = export.check(good, "qualcomm")
    assert report.passed and report.tool.startswith("by list of")
    assert "operators supported, by list of" in str(report)
    assert "pip install 'vit-keras-edge[qualcomm]'" in report.tool
    refused = export.check(tflite_of("int8")[0], "qualcomm").unsupported
    assert [problem.operator for problem in refused] == ["EXP"]
    refused = export.check(tflite_of()[0], "qualcomm").unsupported
    assert [problem.operator for problem in refused] == ["CAST"]


@pytest.mark.parametrize(
    ("target", "socs", "message"),
    [
        ("qualcomm", ["SDM865"], "`soc` must be one of SM7325, .* Received: 'SDM865'"),
        ("npu", ["SM8750"], "`options` are those of qualcomm, .* Received: socs"),
    ],
)
def test_bad_socs(target, socs, message, tflite_of):
    path, _ = tflite_of("int8", target="qualcomm")
    with pytest.raises(ValueError, match=message):
        export.check(path, target, options={"socs": socs})


def test_socs_of_a_saved_model(tmp_path):
    with pytest.raises(ValueError, match="`options` must be None"):
        export.check(tmp_path, "tf-serving", options={"socs": ["SM8750"]})


def test_compiled_file_and_its_report(tflite_of, tmp_path, compiler):
    path, _ = tflite_of("int8", target="qualcomm")
    out = tmp_path / "sm8450.tflite"
    report = export.compile_tflite(path, out, "qualcomm", options={"socs": "SM8450"})
    (operator,) = read_operators(out)
    assert operator.name == "CUSTOM:DISPATCH_OP"
    said = json.loads((tmp_path / "sm8450.tflite.json").read_text())
    assert said["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert said["facts"]["SM8450"]["partitions"] == 1
    assert said["size_bytes"] == out.stat().st_size == report.size_bytes
    assert "onnxruntime-qnn" in said["compiled_by"] and "SM8450" in str(report)


def test_nothing_is_written_on_failure(tflite_of, tmp_path, compiler):
    path, _ = tflite_of("int8_attention16", target="qualcomm")
    out = tmp_path / "m.tflite"
    out.write_text("an older file")
    with pytest.raises(export.UnsupportedOperators, match="BATCH_MATMUL.*SM8450"):
        export.compile_tflite(path, out, "qualcomm", options={"socs": "SM8450"})
    with pytest.raises(ValueError, match="`out` must not be the file"):
        export.compile_tflite(path, path, "qualcomm")
    with pytest.raises(ValueError, match="`target` must be one of qualcomm, ethos"):
        export.compile_tflite(path, out, "cpu")
    with pytest.raises(ValueError, match="`options`"):
        export.compile_tflite(path, out, "ethos_u55", options={"socs": "SM8750"})
    assert [file.name for file in tmp_path.iterdir()] == ["m.tflite"]
    assert out.read_text() == "an older file"


def test_compiled_for_ethos(tflite_of, tmp_path):
    path, _ = tflite_of("int8", target="ethos_u55")
    out = tmp_path / "u55.tflite"
    try:
        report = export.compile_tflite(path, out, "ethos_u55")
    except export.MissingDependency as error:
        pytest.skip(str(error))
    assert [op.name for op in read_operators(out)] == ["CUSTOM:ethos-u"]
    assert report.facts["estimate_ms"] > 0 and "ethos-u-vela" in report.compiled_by


def test_commands(tflite_of, others, tmp_path, compiler):
    path, _ = tflite_of("int8", target="qualcomm")
    np.save(tmp_path / "images.npy", others)
    out = tmp_path / "out.tflite"
    options = ("--target", "qualcomm", "--soc", "SM8450")
    done = program.run("vit-export", "compile", path, out, *options)
    assert done.returncode == 0 and "partitions" in done.stdout, done.stderr
    run = ("--run", "2", "--data", tmp_path / "images.npy")
    done = program.run("vit-export", "check", path, *options, *run)
    assert done.returncode == 0, done.stderr
    assert "SM8450: {'partitions': 1" in done.stdout
    assert "on 2 images, emulated against LiteRT" in done.stdout
    done = program.run("vit-export", "check", path, *options, "--run", "2")
    program.refused(done, "vit-export", "`--data` must name images")
    done = program.run("vit-export", "check", path, "--target", "all", *options[2:])
    program.refused(done, "vit-export", "`--target` must be gpu for --data")


# One of each Hexagon version, with and without floats; and the one that stops at them.
SOME = ("SM7325", "SA8295", "SM7450", "SM6450", "SM8550", "SM8650", "SM8750", "SM8850")
SOME += ("SW6100", "SM8350")


@pytest.mark.slow
@pytest.mark.parametrize("soc", SOME)
def test_schemes_of_a_soc(soc, tflite_of, compiler):
    files = {n: tflite_of(n, target="qualcomm")[0] for n in TARGETS["qualcomm"].schemes}
    chip = {"socs": [soc]}
    reports = {n: export.check(f, "qualcomm", options=chip) for n, f in files.items()}
    taken = {n for n, report in reports.items() if report.passed}
    assert taken == set(SOCS[soc].schemes)


def test_table_of_socs_is_what_was_measured():
    """A ViT-Ti in each scheme for each SoC, by the benchmark."""
    with (ROOT / "benchmarks" / "results" / "qualcomm.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "ti16"]
    assert len(rows) == len(SOCS) * len(TARGETS["qualcomm"].schemes)
    for row in rows:
        soc, whole = SOCS[row["soc"]], row["taken"] == row["operators"]
        compiled = whole and row["partitions"] == "1" and row["compiled_mb"] != "0.0"
        assert compiled == (row["scheme"] in soc.schemes), row
        assert row["hexagon"] == f"v{soc.hexagon}"


def test_some_socs_stand_for_all():
    kinds = {(soc.hexagon, soc.floats) for soc in SOCS.values()}
    assert {(SOCS[name].hexagon, SOCS[name].floats) for name in SOME} == kinds
    assert {*TARGETS["qualcomm"].checker_options["socs"]} <= set(SOCS)
    for name in TARGETS["qualcomm"].checker_options["socs"]:
        assert set(SOCS[name].schemes) == set(TARGETS["qualcomm"].schemes)

"""The report of a classifier: its figures found again, its page, and a run resumed."""

import csv
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest

import export
from export.comparison_report import measure_file
from export.errors import ParityError
from export.evaluation.parity import Parity
from tests import program
from tests.export.comparison_report.page_reader import Page
from tests.models import exported
from vit_keras import data, evaluate

ROOT = pathlib.Path(__file__).parents[3]
IMAGES = 60


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    exported(num_layers=1).save(folder / "model.keras")
    (folder / "labels.txt").write_text("\n".join("0123456789") + "\n")
    return folder / "model.keras"


@pytest.fixture(scope="module")
def report(model_file, tmp_path_factory):
    """Files that are made, two that are refused, and pairs that are not possible."""
    real = measure_file.to_tflite

    def fails(scheme, path, **options):
        if scheme == "float16":
            raise ParityError("too far", Parity(1, 1.0, 0.0, 3.0, 0.5, 45.0))
        return real(scheme=scheme, path=path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure_file, "to_tflite", fails)
        return export.write_report(
            model_file,
            "digits",
            tmp_path_factory.mktemp("report"),
            schemes=("float32", "float16", "int8"),
            targets=("any", "edge_tpu"),
            limit=IMAGES,
            runs=2,
        )


def rows_of(report):
    with report.table.open(encoding="utf-8", newline="") as file:
        return {(r["scheme"], r["target"]): r for r in csv.DictReader(file)}


def shown():
    """The images of the report, as 'digits' has them, at the model's size."""
    test = data.digits()[1]
    chosen = np.random.default_rng(0).choice(len(test), IMAGES, replace=False)
    return data.prepare(test.take(np.sort(chosen)), (32, 32), reading())[0]


def reading():
    from vit_keras import Preprocessing

    return Preprocessing()


def in_litert(path, images):
    """Outputs of a file by an interpreter alone."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    entry, end = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = end["quantization"]
    found = []
    for image in images:
        assert entry["dtype"] == np.uint8
        interpreter.set_tensor(entry["index"], image[None])
        interpreter.invoke()
        values = interpreter.get_tensor(end["index"])[0].astype("float64")
        found.append((values - zero) * scale if scale else values)
    return np.array(found)


def test_the_rows(report):
    assert set(rows_of(report)) == {
        ("keras", ""),
        *((scheme, "any") for scheme in ("float32", "float16", "int8")),
        *((scheme, "edge_tpu") for scheme in ("float32", "float16", "int8")),
    }
    rows = rows_of(report)
    assert rows["float16", "any"]["reason"] == "ParityError: too far"
    assert rows["float16", "any"]["file"] == rows["float16", "any"]["value"] == ""
    refused = rows["int8", "edge_tpu"]["reason"]
    assert refused.startswith("UnsupportedOperators: the target does not support")
    assert rows["int8", "any"]["supported"] == "yes"
    assert rows["int8", "any"]["tool"].startswith("ai-edge-litert")
    assert rows["float32", "edge_tpu"]["reason"] == "edge_tpu takes int8"
    for row in rows.values():
        assert row["file"] == "" or float(row["latency_ms"]) > 0
        assert row["file"] == "" or float(row["memory_mb"]) > 0


@pytest.mark.parametrize("pair", [("float32", "any"), ("int8", "any")])
def test_figures_are_those_of_the_file(report, model_file, pair):
    row, images = rows_of(report)[pair], shown()
    path = report.page.parent / row["file"]
    assert int(row["size_bytes"]) == os.stat(path).st_size
    outputs = in_litert(path, images.images)
    right = outputs.argmax(1) == images.labels
    # The page has six digits.
    assert float(row["value"]) == pytest.approx(right.mean(), abs=1e-6)
    p = right.mean()
    noise = np.sqrt(p * (1 - p) / IMAGES)
    assert float(row["noise"]) == pytest.approx(noise, abs=1e-6)
    keras = rows_of(report)["keras", ""]
    drop = 100 * (float(keras["value"]) - p)
    assert float(row["drop"]) == pytest.approx(drop, abs=1e-3)
    assert int(row["images"]) == IMAGES
    expected = export.verify(model_file, path, images.images)
    assert float(row["agreement"]) == pytest.approx(expected.agreement, abs=1e-6)
    # XNNPACK sums in another order with another number of threads.
    assert float(row["sqnr_db"]) == pytest.approx(expected.sqnr_db, rel=0.02)


def test_keras_is_what_evaluate_measures(report, model_file):
    from rich.console import Console

    quiet = Console(quiet=True)
    found = evaluate(model_file, shown(), console=quiet)["accuracy"]
    assert report.keras == pytest.approx(found, abs=1e-9)


def test_calibration_is_of_the_training_part(report):
    pixels = np.load(report.page.with_name("calibration.npy"))
    known = {image.tobytes() for image in shown().images}
    assert len(pixels) == 128 and not known & {image.tobytes() for image in pixels}
    sidecar = json.loads((report.page.parent / "int8_any.tflite.json").read_text())
    assert sidecar["calibration"]["images"] == 128


def test_the_command_makes_the_file(report, model_file, tmp_path):
    file = report.taken["any"]
    words = shlex.split(report.commands["any"])
    assert words[:3] == ["vit-export", "tflite", str(model_file)]
    words[3] = str(tmp_path / "again.tflite")
    assert file is not None and program.run(*words).returncode == 0
    assert (tmp_path / "again.tflite").read_bytes() == file.path.read_bytes()


def test_the_page_needs_nothing_else(report):
    text = report.page.read_text(encoding="utf-8")
    page = Page(text)
    assert page.outside == [] and page.open == []
    assert "url(" not in page.style and "@import" not in page.style
    assert "prefers-color-scheme: dark" in page.style and "@media print" in page.style
    assert all(image.startswith("data:image/jpeg;base64,") for image in page.images)
    assert len(page.images) == 12 and page.charts == 3
    assert "Not possible: 2 pairs" in page.text
    assert "Their ratios count" in page.text and "1 thread" in page.text


def test_the_page_has_all_figures(report):
    page, rows = Page(report.page.read_text(encoding="utf-8")), rows_of(report)
    cells = [cell for row in page.rows for cell in row]
    for row in rows.values():
        if row["file"]:
            assert f"{int(row['size_bytes']) / 1e6:.2f} MB" in cells
            accuracy, noise = 100 * float(row["value"]), 100 * float(row["noise"])
            assert f"{accuracy:.2f} ± {noise:.2f} %" in cells
            assert f"{float(row['latency_ms']):.2f} ms" in cells
    assert any("ParityError: too far" in cell for cell in cells)
    taken = report.taken["any"]
    assert any(f"{taken.planned.scheme}take" == cell for cell in cells)
    for command in report.commands.values():
        assert command in page.text


def test_layers_are_in_order(report):
    (int8,) = (f for f in report.files if f.planned.name == "int8_any")
    assert "encoderblock_0" in int8.blocks and "dB" in int8.worst
    (plain,) = (f for f in report.files if f.planned.name == "float32_any")
    assert plain.blocks == {}


KILLED = """
import os, signal, sys
import export.graph.build
export.graph.build.MEASURED_ON = 8  # as in the tests' own process
import export.comparison_report.write_report as way
real, calls = way.measure_file, []
def counted(*arguments, **options):
    if calls:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(1)
    return real(*arguments, **options)
way.measure_file = counted
way.write_report(sys.argv[1], "digits", sys.argv[2], schemes=("float32", "int8"),
                 limit=20, runs=1, layers=False)
"""


def test_goes_on_after_a_kill(model_file, tmp_path, monkeypatch):
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, model_file, tmp_path / "out"],
        **{"cwd": ROOT, "env": environment, "capture_output": True},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    first = tmp_path / "out" / "float32_any.tflite"
    before = first.stat().st_mtime_ns
    (tmp_path / "out" / ".partial-int8_any.tflite.abc").mkdir()  # of a writing process
    assert not (tmp_path / "out" / "report.html").exists()
    made, real = [], measure_file.to_tflite

    def counted(scheme, **options):
        made.append(scheme)
        return real(scheme=scheme, **options)

    monkeypatch.setattr(measure_file, "to_tflite", counted)
    options = {"schemes": ("float32", "int8"), "runs": 1, "layers": False}
    out = tmp_path / "out"
    report = export.write_report(model_file, "digits", out, limit=20, **options)
    assert made == ["int8"] and first.stat().st_mtime_ns == before
    assert not list(out.glob(".partial-*"))
    assert [file.failed for file in report.files] == [None, None]
    # Other images: the file stays, the scores do not, and that is said.
    options["schemes"] = ("float32",)
    with pytest.warns(UserWarning, match="scores: found anew, .*: images, truth"):
        export.write_report(model_file, "digits", out, limit=21, **options)
    assert made == ["int8"]
    # A file that somebody changed is made again.
    first.write_bytes(first.read_bytes() + b"\\0")
    export.write_report(model_file, "digits", out, limit=21, **options)
    assert made == ["int8", "float32"]

    # No page stays beside files that it does not describe.
    def killed(**options):
        raise KeyboardInterrupt

    assert report.page.exists() and report.table.exists()
    monkeypatch.setattr(measure_file, "to_tflite", killed)
    with pytest.raises(KeyboardInterrupt):
        options["schemes"] = "float16"
        export.write_report(model_file, "digits", out, limit=21, **options)
    assert not report.page.exists() and not report.table.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schemes": ("int9",)}, "`scheme` must be one of float32"),
        ({"targets": ("toaster",)}, "`target` must be one of any, cpu"),
        ({"limit": 0}, "`limit` must be at least 1"),
        ({"max_mb": -1}, "`max_mb` must be above 0"),
    ],
)
def test_refused_before_anything_is_read(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        export.write_report("missing.keras", "digits", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()

"""`vit-export report`, and `benchmark` with images, as a user types them."""

import re

import pytest

import export
from tests import program
from tests.export.comparison_report.page_reader import Page
from tests.models import exported


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    exported(num_layers=1).save(folder / "model.keras")
    return folder


def run(*arguments):
    return program.run("vit-export", *arguments)


def refused(done, *words):
    program.refused(done, "vit-export", *words)


def test_report_and_benchmark(folder):
    out = folder / "out"
    arguments = ("report", folder / "model.keras", "--data", "digits", "--out", out)
    arguments += ("--schemes", "float32", "--limit", 20, "--runs", 1, "--no-layers")
    done = run(*arguments, "--max-mb", 0.001)
    assert done.returncode == 0, done.stderr
    assert " s  1/1 float32 for any: file" in done.stderr
    assert "take for any: none" in done.stdout and "at most 0.001 MB" in done.stdout
    text = Page((out / "report.html").read_text(encoding="utf-8")).text
    assert f"vit-export report {folder / 'model.keras'} --data digits" in text
    assert "No file is within it. The most accurate one, float32" in text

    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "float32 for any: kept from the run before" in done.stderr
    assert "take for any: float32" in done.stdout
    file = out / "float32_any.tflite"
    assert f"next: vit-export tflite {folder / 'model.keras'} {file}" in done.stdout

    given = ("--model", folder / "model.keras", "--data", "digits", "--limit", 20)
    done = run("benchmark", file, "--runs", 1, *given)
    assert done.returncode == 0, done.stderr
    assert "100.00%" in done.stdout and "+0.00 ± 0.00 points" in done.stdout
    assert re.search(r"│ \d+\.\d MB +│ any: yes", done.stdout)  # memory, verdict
    assert "Keras: accuracy" in done.stdout and "20 of 359 images" in done.stdout
    refused(run("benchmark", file, "--data", "digits"), "`--model` and `--data`")


def test_benchmark_names_the_file_of_another_model(folder, tmp_path):
    other = tmp_path / "other.tflite"
    export.to_tflite(exported(num_layers=1, classes=7), other)
    given = ("--model", folder / "model.keras", "--data", "digits", "--limit", 5)
    words = (f"outputs of '{other}' must have the shape of the model's", "(1, 7)")
    refused(run("benchmark", other, "--runs", 1, *given), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--schemes", "int9"), ("`scheme` must be one of float32", "'int9'")),
        (("--targets", "cpu,toaster"), ("`target` must be one of any", "'toaster'")),
        (("--max-drop", "-1"), ("`max_drop`",)),
        (("--part", "validation"), ("`part` must be one of test",)),
    ],
)
def test_refused(folder, options, words):
    arguments = (folder / "model.keras", "--data", "digits", "--out", folder / "none")
    refused(run("report", *arguments, *options), *words)
    assert not (folder / "none").exists()

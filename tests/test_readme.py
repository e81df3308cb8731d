"""The README's words are true: its code runs, its commands exist, its figures are those
of the benchmarks."""

import csv
import importlib
import pathlib
import re
import tomllib

import pytest

from vit_keras import RECIPES

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_first_lines_are_the_two_commands():
    block = README.split("```")[1].splitlines()
    assert [line.split("#")[0].strip() for line in block[1:3]] == [
        "make demo",
        "make test",
    ]
    makefile = (ROOT / "Makefile").read_text()
    assert "\ndemo:" in makefile and "\ntest:" in makefile


def test_it_is_read_at_one_go():
    assert len(README.splitlines()) <= 130
    prose = re.sub(r"```.*?```", "", README, flags=re.S)
    prose = "\n".join(line for line in prose.splitlines() if line[:1] != "|")
    assert re.findall(r"[\d.]+ ?(?:%|dB|ms|[kM]B)", prose) == []  # those are in tables


def test_python_blocks_run(tmp_path, monkeypatch):
    """One after the other, with one step of a run of one block."""
    digits = RECIPES["digits"]
    small = digits.replace(
        model={**digits.model, "num_layers": 1}, epochs=1, optimizer="adamw"
    )
    monkeypatch.setitem(RECIPES, "digits", small)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(compile(block, "README.md", "exec"), names)
    assert names["maps"].shape == (1, 32, 32)
    assert (tmp_path / "again" / "model.keras").is_file()
    assert (tmp_path / "int8.tflite").is_file()
    assert (tmp_path / "served" / "digits" / "2" / "saved_model.pb").is_file()


def test_outputs_are_those_of_the_tutorials():
    """A script writes what the commands print into the documentation; what is here is
    some lines of that."""
    known = {}
    for page in (ROOT / "docs").rglob("*.md"):
        known |= _outputs(page.read_text("utf-8"))
    ours = _outputs(README)
    assert len(ours) == 6
    for command, lines in ours.items():
        assert lines <= known[command], command


def _outputs(text):
    """{command: lines that it prints} of the transcripts in a text."""
    found = {}
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *lines = part.strip().splitlines()
            found[command] = {line.strip() for line in lines if line.strip()}
    return found


def _result(results, **values):
    """The row of a benchmark that has these values."""
    with (ROOT / "benchmarks" / "results" / f"{results}.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    (row,) = (r for r in rows if all(r[k] == v for k, v in values.items()))
    return row


def test_figures_are_those_of_the_benchmarks():
    streets, cpu = {"photos": "camvid"}, {"model": "s16", "threads": "1"}
    u85 = {"model": "ti16", "accelerator": "ethos-u85-512"}
    u55 = {"model": "ti16", "accelerator": "ethos-u55-256"}
    figures = [
        _result("fidelity_vit_s14", **streets, scheme=scheme)["cls_sqnr_db"]
        for scheme in ("stock", "int8")
    ]
    figures += [
        _result("latency_cpu", **cpu, contestant=name)["ratio_to_stock_litert"]
        for name in ("stock LiteRT dynamic int8", "ours int8")
    ]
    figures += [_result("npu", **u85, file=f)["estimate_ms"] for f in ("stock", "ours")]
    figures += [_result("npu", **u55, file=f)["sram_kb"] for f in ("stock", "ours")]
    accuracy = [
        _result("accuracy_cifar10", scheme=scheme)["accuracy"]
        for scheme in ("float32", "int8")
    ]
    figures += [100 * float(share) for share in accuracy]
    table = README.split("| measured by |")[1].split("## ")[0]
    table = re.sub(r"ViT-\w+/\d+|Ethos-U\w+-\d+|CIFAR-10|int8|U85-512|= 1", "", table)
    shown = re.findall(r"\d[\d,.]*", table.replace(",", ""))
    assert len(shown) == len(figures)
    for text, figure in zip(shown, figures, strict=True):
        decimals = len(text.partition(".")[2])
        # Half of the last digit that is shown.
        assert abs(float(text) - float(figure)) <= 0.501 * 10**-decimals, text


def test_folders_are_there():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    # A folder in the first column, what is in it in the second.
    rows = re.findall(r"^\| `(\w+/)` \| (.*) \|$", text, re.M)
    assert len(rows) == 6
    for folder, words in rows:
        assert (ROOT / folder).is_dir()
        for name in re.findall(r"`([a-z_]+(?:/|\.py))`", words):
            assert (ROOT / folder / name).exists(), name


@pytest.mark.parametrize("program", ["vit-keras", "vit-export"])
def test_commands_of_the_readme_exist(program):
    module = {"vit-keras": "vit_keras.cli", "vit-export": "export.cli"}[program]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"][program] == f"{module}:main"
    commands = set(re.findall(rf"`{program} ([a-z-]+)", README))
    app = importlib.import_module(module).app
    known = {c.name or c.callback.__name__ for c in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    assert commands and commands <= known


def test_every_dependency_has_a_floor():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    for line in (line for lines in lists for line in lines):
        assert line.startswith("vit-keras-edge") or re.search(r">=|==", line), line

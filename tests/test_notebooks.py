"""The notebooks run from top to bottom, and are committed as they ran."""

import json
import pathlib
import re

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "examples" / "notebooks"
NAMES = ("train_and_export", "fine_tune_and_attention", "segment_and_deploy")
LARGEST = 400_000  # bytes, with pictures
# What makes a notebook small enough for `make test`: text, and what takes its place.
SMALL = {
    "segment_and_deploy": (
        ("EPOCHS, SCENES = 16, 1200", "EPOCHS, SCENES = 1, 32"),
        ("num_layers=4", "num_layers=1"),
        ('("float32", "dynamic_int8", "int8")', '("int8",)'),
    ),
}


def cells_of(name, kind="code"):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def executed(name, monkeypatch, small=False):
    """Run the code of a notebook where it lies; return the names that it defined."""
    code = ["".join(cell["source"]) for cell in cells_of(name)]
    for old, new in SMALL[name] if small else ():
        assert sum(text.count(old) for text in code) == 1
        code = [text.replace(old, new) for text in code]
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    monkeypatch.chdir(FOLDER)
    names = {}
    with matplotlib.rc_context():
        for number, text in enumerate(code):
            exec(compile(text, f"{name}, cell {number}", "exec"), names)
            plt.close("all")
    return names


def test_all_notebooks_are_known():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)
    assert set(SMALL) <= set(NAMES)
    text = (FOLDER / "README.md").read_text()
    assert re.findall(r"\((\w+)\.ipynb\)", text) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_kept_as_it_ran(name):
    """In order, without an error, small, and without what is of one machine alone."""
    cells = cells_of(name)
    numbers = [cell["execution_count"] for cell in cells]
    assert numbers == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 3
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < LARGEST
    text = json.dumps([o.get("text", "") for o in outputs])
    assert not re.search(r"/tmp/|/home/|/root/|Users", text)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    text = "".join("".join(cell["source"]) for cell in cells_of(name, "markdown"))
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        assert (FOLDER / link).exists(), link


@pytest.mark.parametrize("name", SMALL)
def test_notebook_runs_small(name, monkeypatch, eager):
    names = executed(name, monkeypatch, small=True)
    assert set(names["found"]) == {"Keras", "int8"}
    assert names["mask"].shape == names["photo"].shape[:2]


def figures(name, names):
    """What a notebook shows, with the least that its text promises."""
    if name == "train_and_export":
        shares = (names["outputs"]["int8"].argmax(-1) == names["labels"]).mean()
        return {"int8 accuracy": (shares, 0.95)}
    if name == "fine_tune_and_attention":
        curves = {k: (v[-1], 90) for k, v in names["curves"].items() if "CIFAR" in k}
        return {**curves, "correlation": (names["both"], 0.95)}
    iou = names["mean_iou"](names["found"]["int8"], names["test_masks"])
    return {"int8 mean IoU": (iou, 0.7)}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_notebook_shows_what_it_says(name, monkeypatch):
    for figure, (value, least) in figures(name, executed(name, monkeypatch)).items():
        assert value > least, figure

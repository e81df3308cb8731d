"""The documentation is true: its code runs, its commands and links exist."""

import dataclasses
import importlib
import json
import pathlib
import re
import shlex
import sys
import tomllib

import keras
import numpy as np
import pytest
from PIL import Image

import vit_keras
from export.schemes import SCHEMES
from export.targets import TARGETS
from tests import program
from tests.test_contracts import HOMES, commands_of
from vit_keras import PRESETS, PUBLISHED, RECIPES, Recipe
from vit_keras.heads import HEADS
from vit_keras.weights.layout import LAYOUTS

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(DOCS)): path.read_text("utf-8") for path in DOCS.rglob("*.md")
}
PYTHON = [name for name, text in PAGES.items() if "\n```python" in text]
SHELL = [name for name, text in PAGES.items() if "\n```sh" in text]
NO_GPU = "a GPU with a Vulkan driver is needed here and not found"
OTHERS = ("pip", "cd", "docker", "python")  # programs in blocks beside ours

sys.path.append(str(DOCS / "scripts"))
transcripts = importlib.import_module("transcripts")
code_tables = importlib.import_module("code_tables")
command_pages = importlib.import_module("command_pages")
result_tables = importlib.import_module("result_tables")


def blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[name], re.M | re.S)


def commands(name):
    """What a page has one type, line by line, in order."""
    text = "\n".join(blocks(name, "sh")).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    for block in blocks(name, "console"):
        lines += transcripts.commands(block)
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture
def small(monkeypatch):
    """Presets of one narrow block, and recipes of one short epoch."""
    for name, preset in PRESETS.items():
        sizes = {"hidden_size": 96, "num_heads": 3, "mlp_dim": 384, "num_layers": 1}
        config = preset.config.replace(**sizes, head_dim=None)
        monkeypatch.setitem(PRESETS, name, dataclasses.replace(preset, config=config))
    for name, recipe in RECIPES.items():
        changes = {"epochs": 1, "batch_size": 8, "warmup": 0.0, "repeats": 1}
        if recipe.preset is not None and "image_size" not in recipe.model:
            changes["model"] = {**recipe.model, "image_size": 64}
        monkeypatch.setitem(RECIPES, name, recipe.replace(**changes))


def picture(number, size=(48, 40)):
    """A smooth picture in a colour of its own."""
    draws = np.random.default_rng(number)
    coarse = draws.integers(0, 256, (4, 5, 3)).astype("uint8")
    colour = 120 * np.eye(3)[number % 3]
    smooth = np.asarray(Image.fromarray(coarse).resize(size), "float32")
    return Image.fromarray((0.5 * smooth + colour).clip(0, 255).astype("uint8"))


@pytest.fixture
def here(small, tmp_path, monkeypatch):
    """A folder with what the pages name: photographs, masks, weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    rows = ["file,label"]
    for number, kind in enumerate(("daisy", "rose", "tulip")):
        (tmp_path / "flowers" / kind).mkdir(parents=True)
        for i in range(8):
            file = f"flowers/{kind}/{i + 1:03d}.jpg"
            picture(3 * i + number).save(file)
            rows.append(f"{file},{kind}")
    pathlib.Path("labels.csv").write_text("\n".join(rows))
    for folder in ("images", "masks"):
        (tmp_path / "streets" / folder).mkdir(parents=True)
    for i in range(8):
        picture(i, (90, 60)).save(f"streets/images/{i + 1:03d}.jpg")
        mask = np.random.default_rng(i).integers(0, 3, (4, 6)).astype("uint8")
        mask = mask.repeat(15, 0).repeat(15, 1)
        Image.fromarray(mask).save(f"streets/masks/{i + 1:03d}.png")
    names = ["road", "sky", "tree"]
    pathlib.Path("streets/classes.json").write_text(json.dumps(names))
    keras.utils.set_random_seed(0)
    weights = vit_keras.ViTConfig(
        **{"image_size": 28, "patch_size": 14, "num_layers": 2, "hidden_size": 32},
        **{"num_heads": 2, "mlp_dim": 64, "classes": 5},
    )
    vit_keras.save_checkpoint(
        vit_keras.create_model(weights), "checkpoint", layout="timm"
    )
    return tmp_path


def trained(folder):
    """What a run leaves there, of flowers."""
    keras.utils.set_random_seed(0)
    config = vit_keras.ViTConfig(
        **{"image_size": 32, "patch_size": 8, "num_layers": 2, "hidden_size": 32},
        **{"num_heads": 2, "mlp_dim": 64, "classes": 3},
    )
    model = vit_keras.create_model(config)
    draws = np.random.default_rng(0)
    model.set_weights([w + draws.normal(0, 0.1, w.shape) for w in model.get_weights()])
    folder.mkdir()
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("daisy\nrose\ntulip\n")


def test_pages_say_where_their_run_comes_from():
    """A reader may come to any page first."""
    for name in SHELL:
        lines = commands(name)
        uses = any(re.search(r" run(/model.keras)?( |$)", line) for line in lines)
        makes = any("--out run" in line for line in lines)
        if uses and not makes:
            assert "train.md#a-folder-of-class-folders" in PAGES[name], name


# Pages whose blocks export as others do, or take long.
LONG = (
    *("how-to/accuracy_fallback.md", "how-to/foreign_models.md"),
    *("how-to/quantisation_aware.md", "tutorials/android.md"),
    *("tutorials/tf_serving.md", "tutorials/fine_tune.md"),
    *("tutorials/raspberry_pi.md", "how-to/smaller.md", "how-to/attention.md"),
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in PYTHON],
)
def test_python_blocks_run(name, here, eager):
    """One after the other; a page that does not train `run` finds one."""
    if '"run/model.keras"' in PAGES[name]:
        trained(here / "run")
    names = {}
    for block in blocks(name, "python"):
        exec(compile(block, name, "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHELL)
def test_shell_blocks_run(name, here):
    """In order, in one folder; a page that does not train `run` finds one."""
    lines = ["\n".join(blocks(name, "sh"))][0].replace("\\\n", " ").splitlines()
    if not any("train" in line and "--out run" in line for line in lines):
        trained(here / "run")
    for line in lines:
        words = shlex.split(line, comments=True)
        if words and words[0] in program.MODULES:
            done = program.run(*words)
            if NO_GPU in done.stderr:
                continue
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", [n for n in PAGES if commands(n)])
def test_commands_exist(name):
    """Each is parsed by the program itself; names in the tables are there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = extras["optional-dependencies"]
    for line in commands(name):
        words = shlex.split(line, comments=True)
        if words[0] in program.MODULES:
            check_command(words, line)
        else:
            assert words[0] in OTHERS, line
        for extra in re.findall(r"vit-keras-edge\[([\w,-]+)\]", line):
            assert set(extra.split(",")) <= set(extras), line


def check_command(words, line):
    known = commands_of(program.MODULES[words[0]])
    length = 2 if tuple(words[1:3]) in known else 1
    command = known[tuple(words[1 : 1 + length])]
    given = command.make_context(line, list(words[1 + length :])).params
    valid = {"scheme": SCHEMES, "target": {**TARGETS, "all": 0, "tf-serving": 0}}
    valid["recipe"] = RECIPES
    for option, table in valid.items():
        value = given.get(option)
        is_file = str(value).endswith(".json")
        assert value is None or value in table or is_file, f"{line}: {value}"


def test_commands_are_checked():
    """What is misspelt is seen."""
    check_command(shlex.split("vit-export schemes"), "")
    for line in ("tflite a b --no-such", "tflite a b --scheme int9", "tflite a"):
        with pytest.raises(Exception, match="--no-such|int9|Missing"):
            check_command(["vit-export", *line.split()], line)


def test_transcripts_are_what_their_script_wrote():
    digests = json.loads(transcripts.DIGESTS.read_text())
    found = {
        str(p.relative_to(DOCS)): transcripts.digest(p) for p in transcripts.pages()
    }
    assert found == digests


@pytest.mark.slow
def test_transcripts_are_still_so(tmp_path):
    """But for numbers, which differ from processor to processor."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for page in transcripts.pages():
        for block in transcripts.BLOCK.findall(page.read_text("utf-8")):
            again = transcripts.rerun(block, str(tmp_path))
            assert unnumbered(again) == unnumbered(block), page


def unnumbered(text):
    """A text's words; how often a training says where it is, depends on its speed."""
    lines = (line for line in text.splitlines() if not line.startswith("step "))
    return set(re.findall(r"[A-Za-z_]+", " ".join(lines)))


@pytest.mark.parametrize("name", PAGES)
def test_links_are_there(name):
    """Of pages and pictures; mkdocs also checks headings, which it makes."""
    text = re.sub(r"^```.*?^```$", "", PAGES[name], flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[\w.-]*)?\)", text):
        if not link.startswith(("http://", "https://")):
            assert (DOCS / name).parent.joinpath(link).exists(), link


@pytest.mark.parametrize("package", HOMES)
def test_the_reference_has_every_public_name(package):
    page = PAGES[f"reference/api/{package}.md"]
    there = re.findall(rf"^::: {package}\.(\w+)$", page, re.M)
    assert sorted(there) == sorted(HOMES[package])


def test_every_page_is_in_the_menu():
    menu = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    assert set(PAGES) <= menu


def test_generated_names_are_known():
    """What a page asks the hooks of mkdocs for."""
    hooks = (DOCS / "scripts" / "hooks.py").read_text()
    for name, text in PAGES.items():
        for kind, wanted in re.findall(r"^<!-- (\w+): (.+?) -->$", text, re.M):
            if kind == "generated":
                assert f'"{wanted}": ' in hooks, name
            if kind in ("results", "bars"):
                assert (ROOT / "benchmarks" / "results" / f"{wanted}.csv").is_file()


@pytest.mark.parametrize(
    "name, table",
    [
        ("schemes", SCHEMES),
        ("targets", TARGETS),
        ("presets", PRESETS),
        ("recipes", RECIPES),
        ("layouts", LAYOUTS),
        ("published", PUBLISHED),
        ("heads", HEADS),
    ],
)
def test_tables_have_a_line_for_each_row(name, table):
    lines = getattr(code_tables, name)().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| `{n}`" for n in table]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_fields_of_a_recipe_have_their_docstring():
    lines = code_tables.recipe_fields().splitlines()[2:]
    fields = [f.name for f in dataclasses.fields(Recipe) if f.name != "reference"]
    assert [line.split(" | ")[0] for line in lines] == [f"| `{n}`" for n in fields]
    assert "| `beta2` | `0.999` | second decay rate of AdamW" in "\n".join(lines)


@pytest.mark.parametrize("name", program.MODULES)
def test_every_command_has_a_section(name):
    text = command_pages.reference(name)
    for words in commands_of(program.MODULES[name]):
        assert f"\n\n### {' '.join((name, *words))}\n\n" in f"\n\n{text}"


def test_results_are_shown():
    """Every file of them, with the words of the script that wrote it."""
    text = result_tables.everything()
    assert "**Accuracy of exported files on a folder of class folders" in text
    for path in result_tables.RESULTS.glob("*.csv"):
        assert f"`benchmarks/results/{path.name}`" in text
    table = result_tables.table("export_cost")
    assert "| int8@cpu | 36.1 | 49.9 | 4451 |" in table
    assert "model: vit_b16; images: 64" in table  # the same in all rows
    assert "<rect" in result_tables.bars("npu")
    assert "| `int8` | 30 of 30 | v68 |" in result_tables.qualcomm_chips()

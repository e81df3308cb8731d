"""`vit-keras attention`: pictures of what a classifier looks at."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from tests import program
from tests.models import randomise, tiny
from vit_keras import attention_maps, create_model
from vit_keras.cli.attention_command import seen_part
from vit_keras.preprocessing import Preprocessing

CLASSES = ["ant", "bee", "cat", "dog", "elk"]


def run(*arguments):
    return program.run("vit-keras", "attention", *arguments)


def failed(done, *words):
    program.refused(done, "vit-keras", *words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention") / "run"
    folder.mkdir()
    config = tiny(preprocessing=Preprocessing(crop=0.5))
    randomise(create_model(config)).save(folder / "model.keras")
    (folder / "labels.txt").write_text("\n".join(CLASSES))
    return folder


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype("uint8")
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_of_each_photograph_and_method(trained, photo, tmp_path):
    second, out = tmp_path / "second.jpg", tmp_path / "new" / "pictures"
    Image.open(photo).save(second)
    methods = ("--method", "rollout", "--method", "relevance")
    done = run(trained, photo, second, "--out", out, *methods, "--class", "bee")
    assert done.returncode == 0, done.stderr
    names = [f"{p}.{m}.png" for p in ("photo", "second") for m in methods[1::2]]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert done.stdout.split("\n") == [*(f"wrote {out / n}" for n in names), ""]


def test_what_is_shown_of_a_photograph():
    photo = np.random.default_rng(0).integers(0, 256, (40, 100, 3)).astype("uint8")
    wide = seen_part(photo, (16, 16), Preprocessing(resize="contain"))
    assert wide.shape == (100, 100, 3)
    np.testing.assert_array_equal(wide[30:70], photo)
    assert (wide[:30] == 128).all() and (wide[70:] == 128).all()  # 0.5 of 255
    np.testing.assert_array_equal(
        seen_part(photo, (16, 16), Preprocessing(resize="stretch")), photo
    )
    cut = seen_part(photo, (16, 16), Preprocessing())
    np.testing.assert_array_equal(cut, photo[:, 30:70])


def test_it_lies_over_what_the_model_saw(trained, photo, tmp_path, monkeypatch):
    """The lower left of four patches is all that the map shows. The model sees the
    middle 150 x 150 pixels, each of which is drawn as 4 x 4."""
    asked = []

    def attention_map(model, images, method, **options):
        asked.append({"method": method, **options})
        return np.array([[[0.0, 0.0], [1.0, 0.0]]], "float32")

    monkeypatch.setattr(attention_maps, "attention_map", attention_map)
    options = ("--method", "attention", "--layer", "1", "--head", "0")
    done = run(trained / "model.keras", photo, "--out", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    expected = {"method": "attention", "layer": 1, "head": 0, "per_patch": True}
    assert asked == [expected]
    drawn = np.asarray(Image.open(tmp_path / "photo.attention.png").convert("RGB"))
    assert drawn.shape[1] == 600 and drawn.shape[0] > 600
    assert (drawn[:-600] == 0).any() and (drawn[:-600] == 255).any()  # the title
    seen = np.asarray(Image.open(photo))[75:225, 125:275]
    difference = np.abs(drawn[-600:].astype(int) - seen.repeat(4, 0).repeat(4, 1))
    # From the centre of a patch outwards nothing is interpolated.
    assert not difference[:150].any() and not difference[:, 450:].any()
    assert difference[450:, :150].mean() > 40  # 70 % of a colour over random pixels


def test_a_photograph_keeps_its_resolution(trained, tmp_path):
    large = tmp_path / "large.png"
    Image.new("RGB", (1000, 1100)).save(large)
    done = run(trained, large, "--out", tmp_path, "--method", "rollout")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "large.rollout.png") as picture:
        assert picture.size[0] == 500


def test_without_names_of_classes(trained, photo, tmp_path):
    file = tmp_path / "model.keras"
    shutil.copy(trained / "model.keras", file)
    done = run(file, photo, "--out", tmp_path, "--class", "4")
    assert done.returncode == 0, done.stderr
    failed(run(file, photo, "--out", tmp_path, "--class", "5"), "below 5", "5")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--class", "bees"), ("`--class`", "ant, bee, cat", "bees")),
        (("--method", "grad"), ("`method`", "rollout", "grad")),
        (("--method", "rollout", "--class", "bee"), ("`class_index`", "relevance")),
        (("--layer", "0"), ("`layer`", "method='attention'")),
        (("--method", "attention", "--layer", "2"), ("`layer`", "-2 to 1")),
    ],
)
def test_bad_options_are_named(trained, photo, tmp_path, options, words):
    failed(run(trained, photo, "--out", tmp_path / "out", *options), *words)
    assert not list((tmp_path / "out").glob("*"))


def test_bad_files_are_named(trained, photo, tmp_path):
    out = tmp_path / "out"
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:900])
    failed(run(trained, broken, "--out", out), "cannot read", str(broken))
    failed(run(trained, tmp_path / "no.png", "--out", out), "no.png")
    twin = tmp_path / "photo.jpg"
    failed(run(trained, photo, twin, "--out", out), "different names", str(twin))
    failed(run(tmp_path, photo, "--out", out), "no model file")
    failed(run(trained, photo, "--out", photo), str(photo))
    assert not list(out.glob("*"))


def test_matplotlib_is_asked_for(trained, photo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run(trained, photo, "--out", tmp_path / "out")
    failed(done, "matplotlib", 'pip install "vit-keras-edge[plot]"')
    assert not (tmp_path / "out").exists()

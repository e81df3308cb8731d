"""The code for devices in `examples/device` runs, and its answers are the package's."""

import json
import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
import typer
from PIL import Image

import export
import vit_keras
from export.cli import app
from tests.export.dense_models import dense, pictures
from tests.models import exported, slow_but
from tests.program import run
from vit_keras import preprocessing as pp
from vit_keras.heads import probabilities

DEVICE = pathlib.Path(__file__).parents[2] / "examples" / "device"
PI = DEVICE / "raspberry_pi.py"
LABELS = tuple(f"digit {i}" for i in range(10))
# The script alone, in a process where nothing else of this project can be imported.
ALONE = """
import runpy, sys
class Refuse:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras", "vit_keras", "export", "jax"):
            raise ImportError(f"{name} is not on this device")
sys.meta_path.insert(0, Refuse)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def pi():
    """The functions of the script."""
    return runpy.run_path(str(PI))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photograph that lies on its side, as cameras save it: path, upright pixels."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    coarse = np.random.default_rng(2).integers(0, 256, (5, 7, 3)).astype("uint8")
    image = Image.fromarray(coarse).resize((70, 50), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    return path, pp.read_image(path)


def alone(*arguments, python=sys.executable):
    """What the script prints where only LiteRT, NumPy and Pillow are."""
    done = subprocess.run(
        [python, "-I", "-c", ALONE, PI, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shares(text):
    """{label: probability in percent} of what the script prints."""
    found = re.findall(r"^ *([\d.]+)%  (.*)$", text, re.M)
    assert re.search(r"^[\d.]+ ms with \d threads, \w+$", text, re.M), text
    return {label: float(share) for share, label in found}


def expected_shares(path, photo, config):
    """The same by this package's interpreter."""
    pixels = pp.load_image(photo, config.image_size, config.preprocessing)
    outputs = export.load(path)(pixels[None])
    return 100 * probabilities(outputs, config.head, config.activation)[0]


@pytest.mark.parametrize("resize", pp.RESIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pi_resizes_to_the_pixels_of_training(pi, photo, resize, interpolation):
    _, pixels = photo
    for crop in (1.0,) if resize == "contain" else (1.0, 0.875):
        how = vit_keras.Preprocessing(
            interpolation=interpolation, crop=crop, resize=resize
        )
        record = json.loads(json.dumps(vars(how)))  # as it comes from the file
        for size in ((32, 32), (24, 48), (96, 40), pixels.shape[:2]):
            found = pi["fit"](Image.fromarray(pixels), size, record)
            np.testing.assert_array_equal(found, pp.fit(pixels, size, how))
    grey = Image.fromarray(pixels[..., 0])
    how = vit_keras.Preprocessing(mean=(0.2,), std=(0.3,), resize=resize)
    found = pi["fit"](grey, (32, 40), vars(how))
    np.testing.assert_array_equal(found, pp.fit(pixels[..., :1], (32, 40), how))


@pytest.fixture(scope="module")
def labelled(tflite_of):
    """A function of scheme: the path of a file with labels."""
    return lambda scheme: tflite_of(scheme, labels=LABELS)[0]


@pytest.mark.parametrize("scheme", ["int8", "float32"])
def test_pi_classifies(scheme, labelled, model, photo):
    path = labelled(scheme)
    found = shares(alone(path, photo[0], "--threads", 1))
    expected = expected_shares(path, photo[0], model.config)
    best = np.argsort(-expected, kind="stable")[:5]
    assert list(found) == [LABELS[i] for i in best]
    # Printed with two digits.
    np.testing.assert_allclose(list(found.values()), expected[best], atol=0.0051)


def test_pi_reads_16_bits(pi, tmp_path):
    grey = np.random.default_rng(0).integers(0, 2**16, (20, 30)).astype("uint16")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for channels in (1, 3):
        found = np.asarray(pi["read_photo"](tmp_path / "grey.png", channels))
        expected = pp.read_image(tmp_path / "grey.png", channels)
        assert np.array_equal(found.reshape(expected.shape), expected)


def test_pi_refuses_what_it_cannot_mean(
    pi, model, pixels, photo, tmp_path, monkeypatch
):
    """Several outputs, of which it would take any, and files of other programs."""
    several, other = tmp_path / "several.tflite", tmp_path / "other.tflite"
    export.to_tflite(model, several, outputs=("attention", "logits"))
    other.write_bytes(b"no zip")
    for path, words in (
        (several, "must have one output, not 2"),
        (other, "not written"),
    ):
        monkeypatch.setattr(sys, "argv", ["pi", str(path), str(photo[0])])
        with pytest.raises(SystemExit, match=f"'{path}' .*{words}"):
            pi["main"]()


def test_pi_says_what_predict_says(labelled, model, photo, tmp_path):
    model.save(tmp_path / "model.keras")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    done = run("vit-keras", "predict", tmp_path / "model.keras", photo[0], "--top", 3)
    assert done.returncode == 0, done.stderr
    answer = re.findall(r"(digit \d) ([\d.]+)%", done.stdout)
    found = list(shares(alone(labelled("float32"), photo[0])).items())[:3]
    assert [label for label, _ in found] == [label for label, _ in answer]
    # One digit is printed there, of float32 in another order.
    for (_, share), (_, said) in zip(found, answer, strict=True):
        assert share == pytest.approx(float(said), abs=0.06)


@pytest.mark.parametrize(
    ("head", "activation", "classes"),
    [
        ("softmax", "softmax", 4),
        ("sigmoid", "linear", 1),
        ("sigmoid", "sigmoid", 1),
        ("multi_label", "linear", 4),
    ],
)
def test_pi_makes_probabilities(pi, head, activation, classes):
    outputs = np.random.default_rng(0).uniform(0, 1, classes).astype("float32")
    outputs = outputs / outputs.sum() if activation == "softmax" else outputs
    found = pi["probabilities"](outputs, {"head": head, "activation": activation})
    expected = probabilities(outputs[None], head, activation)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32 and float64


def test_the_file_says_what_is_applied(tmp_path):
    model = exported(activation="softmax", num_layers=1)
    export.to_tflite(model, tmp_path / "m.tflite")
    assert export.read_metadata(tmp_path / "m.tflite")["export"]["activation"] == (
        "softmax"
    )


@pytest.mark.parametrize("resize", pp.RESIZES)
def test_pi_masks_are_those_of_the_package(pi, resize):
    """Where two classes are equal but for rounding, either is right."""
    how = vit_keras.Preprocessing(resize=resize)
    maps = np.random.default_rng(0).normal(size=(8, 12, 3)).astype("float32")
    for size in ((50, 70), (90, 30), (7, 9)):
        found = pi["in_photograph"](maps, size, vars(how))
        scores = pp.to_photograph(maps, size, how)
        unseen = np.isnan(scores[..., 0])
        np.testing.assert_array_equal(found == 255, unseen)
        first, second = np.sort(scores, axis=-1)[..., :-3:-1].transpose(2, 0, 1)
        clear = ~unseen & (first - second > 1e-5)
        assert clear.sum() > 0.99 * (~unseen).sum()
        np.testing.assert_array_equal(found[clear], scores.argmax(-1)[clear])


@pytest.mark.slow
@pytest.mark.parametrize("decode", slow_but((None,), (None, "classes")))
def test_pi_segments(decode, photo, tmp_path):
    model, path, out = dense(), tmp_path / "m.tflite", tmp_path / "mask.png"
    options = {"calibration": pictures(), "decode": decode}
    export.to_tflite(model, path, scheme="int8", **options)
    text, config = alone(path, photo[0], "--out", out), model.config
    with Image.open(out) as picture:
        assert picture.mode == "P"
        found = np.asarray(picture)
    pixels = pp.fit(photo[1], config.image_size, config.preprocessing)
    outputs = export.load(path)(pixels[None])[0]
    if decode is not None:  # classes: as maps of 0 and 1
        outputs = np.eye(config.classes, dtype="float32")[outputs.astype(int)]
    values = pp.to_photograph(outputs, photo[1].shape[:2], config.preprocessing)
    unseen = np.isnan(values[..., 0])
    expected = np.where(unseen, 255, values.argmax(-1))
    # Scores of int8 are often equal, but for the rounding of their interpolation.
    assert (found == expected).mean() > 0.99
    np.testing.assert_array_equal(found == 255, unseen)
    counts = {
        name: (found[~unseen] == i).mean() for i, name in enumerate(config.labels)
    }
    for label, share in shares(text).items():
        assert share == pytest.approx(100 * counts[label], abs=0.0051)


@pytest.mark.slow
def test_pi_needs_three_packages(labelled, photo, tmp_path):
    """In an environment that has those of its first lines, and nothing else."""
    (line,) = re.findall(r"^ +pip install (.*)$", PI.read_text(), re.M)
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, *line.split()], check=True)
    path = labelled("float32")
    assert shares(alone(path, photo[0], python=python)) == shares(alone(path, photo[0]))


def test_what_was_not_run_says_so():
    """And the commands that the files give parse."""
    commands = typer.main.get_command(app)
    for path in [
        *DEVICE.rglob("*.kt"),
        *DEVICE.rglob("*.swift"),
        *DEVICE.rglob("*.cc"),
    ]:
        text = path.read_text()
        assert "Not run here: " in text or path.suffix == ".cc"
        lines = re.findall(r"^// +vit-export (.*)$", text, re.M)
        assert lines, path
        for line in lines:
            name, *arguments = line.split()
            getattr(commands, "commands", {})[name].make_context(name, arguments)
        assert f"({path.relative_to(DEVICE)})" in (DEVICE / "README.md").read_text()

"""Fine-tuning by one command: the model and its head come from the checkpoint."""

import json
import pathlib
import shutil
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import vit_keras
from tests.models import run, slow_but, tiny
from tests.vit_keras.training.runs import few, quiet
from vit_keras import cli
from vit_keras.data import Dataset
from vit_keras.training import RECIPES, train
from vit_keras.training.probe import fit_probe
from vit_keras.training.start import open_start
from vit_keras.weights import CheckpointError

pytestmark = [
    pytest.mark.usefixtures("eager"),
    pytest.mark.filterwarnings("ignore:.*nothing in the file tells"),
]

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
CASES = {c["case"]: c for c in json.loads((GOLDEN / "cases.json").read_text())}
# A file of each library. What a bare file does not tell is an option.
LIBRARIES = ("augreg-token", "hf-vit", "hf-deit", "timm-folder", "timm-map", "kh-token")
# One step too short to change a float32.
STILL = {"steps": 1, "learning_rate": 1e-12, "weight_decay": 0, "ema": None}
STILL |= {"warmup": 0, "validation_split": 0, "precision": "float32"}
SHORT = RECIPES["finetune"].replace(epochs=1, batch_size=10, precision="float32")


def photographs(folder, names="abcde"):
    """A folder of two small images for each class."""
    pixels = np.random.default_rng(0).integers(0, 256, (2 * len(names), 20, 24, 3))
    for i, image in enumerate(pixels.astype("uint8")):
        file = folder / names[i // 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return folder


def finetune(weights, data, out, **settings):
    """`vit-keras train --weights`; returns the model and what was printed."""
    options = [f"--set={name}={json.dumps(value)}" for name, value in settings.items()]
    command = ["train", "--weights", weights, "--data", data, "--out", out, *options]
    result = CliRunner().invoke(cli.app, list(map(str, command)))
    if result.exception:
        raise result.exception
    return keras.models.load_model(out / "model.keras"), result.output


@pytest.mark.parametrize(
    "case", slow_but(set(LIBRARIES) - {"hf-vit", "timm-map"}, LIBRARIES)
)
def test_the_first_step_starts_where_the_library_ended(case, tmp_path):
    file = GOLDEN / case / CASES[case]["file"]
    needs = {f"model.{n}": v for n, v in CASES[case]["needs"].items()}
    data = photographs(tmp_path / "data")
    model, printed = finetune(file, data, tmp_path / "run", **STILL, **needs)
    assert "its head too: 5 outputs, without names" in printed
    with np.load(GOLDEN / case / "expected.npz") as expected:
        shape, outputs = tuple(expected["images_shape"]), expected["outputs"]
    images = np.random.default_rng(0).standard_normal(shape).astype("float32")
    # float32 over two blocks and a head; outputs are of order 1
    np.testing.assert_allclose(run(model, images), outputs, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run on five classes, with another image size than any default."""
    out = tmp_path_factory.mktemp("earlier")
    model = vit_keras.create_model(tiny(image_size=16, classes=5, labels="abcde"))
    model.save(out / "model.keras")
    return out, model


@pytest.mark.parametrize("source", ["run", "file", "labels beside"])
def test_an_output_follows_its_name(source, earlier, tmp_path):
    folder, model = earlier
    weights = folder if source == "run" else folder / "model.keras"
    if source == "labels beside":  # as runs of release 0.1 have them
        plain = vit_keras.create_model(model.config.replace(labels=None))
        plain.set_weights(model.get_weights())
        weights = tmp_path / "model.keras"
        plain.save(weights)
        (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    start = open_start(RECIPES["finetune"].replace(weights=str(weights)), ("d", "b"))
    kept = start.build("vit")
    assert start.said.endswith("its head too: 2 of its 5 classes")
    assert kept.config.labels == ("d", "b")
    images = np.random.default_rng(0).standard_normal((2, 16, 16, 3))
    np.testing.assert_allclose(
        run(kept, images), run(model, images)[:, [3, 1]], rtol=0, atol=1e-6
    )  # sums of other lengths


def test_two_names_beside_a_file_of_one_output(tmp_path):
    vit_keras.create_model(tiny(classes=1, head="sigmoid")).save(tmp_path / "m.keras")
    (tmp_path / "labels.txt").write_text("b\na\n")
    recipe = RECIPES["finetune"].replace(weights=str(tmp_path / "m.keras"))
    said = open_start(recipe, ("a", "b"), "sigmoid").said
    assert said.endswith("a new head for 2 classes: its own has b, a")  # the other p
    said = open_start(recipe, ("b", "a"), "sigmoid").said
    assert said.endswith("its head too: 1 outputs, with the same names")


def test_labels_of_another_model_beside_a_file(earlier, tmp_path):
    shutil.copy(earlier[0] / "model.keras", tmp_path)
    (tmp_path / "labels.txt").write_text("x\ny\n")
    with pytest.raises(ValueError, match="must have a line for each .* 5 .* 2 lines"):
        vit_keras.evaluate(tmp_path, "digits", console=quiet())


@pytest.mark.parametrize(
    ("names", "why"),
    [("abdex", "'x' is not one of its labels"), ("abcdef", "'f' is not one")],
)
def test_a_new_head_for_other_names(earlier, names, why, tmp_path):
    """Also for as many: five other classes are not those of the checkpoint."""
    folder, model = earlier
    data = photographs(tmp_path / "data", names)
    tuned, printed = finetune(folder, data, tmp_path / "run", **STILL)
    assert f"a new head for {len(names)} classes: {why}" in printed
    assert tuned.config.labels == tuple(names)
    for layer in model.layers:
        new = tuned.get_layer(layer.name).get_weights()
        if layer.name == "head":
            assert not np.array_equal(new[0][:, :5], layer.get_weights()[0])
        else:
            for ours, theirs in zip(new, layer.get_weights(), strict=True):
                # The step moves a zero by its rate.
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)


def test_what_a_run_saves_needs_no_optimizer(earlier, tmp_path):
    """`keras.models.load_model` compiles, and `import vit_keras` knows no optimizer."""
    data = photographs(tmp_path / "data")
    still = RECIPES["finetune"].replace(**STILL)
    (tmp_path / "best.keras").touch()  # of a run with other images held out
    options = {"weights": earlier[0], "overwrite": True, "console": quiet()}
    model = train(data, still, out=tmp_path, **options)
    assert not (tmp_path / "best.keras").exists()
    assert model.compiled and model.optimizer.name.startswith("layerwise_adam_w")
    with zipfile.ZipFile(tmp_path / "model.keras") as file:
        assert not json.loads(file.read("config.json")).get("compile_config")


def test_a_head_behind_another_layer_is_not_kept(earlier):
    """With that layer new, the head would not be the file's, whatever is said."""
    recipe = RECIPES["finetune"].replace(
        weights=str(earlier[0]), model={"representation_size": 8}
    )
    start = open_start(recipe, tuple("abcde"))
    assert start.said.endswith("its representation_size is None, not 8")
    with pytest.raises(CheckpointError, match="missing from the file: pre_logits"):
        start.build("vit")


def test_image_size_resizes_the_positions(earlier, tmp_path):
    folder, _ = earlier
    data = photographs(tmp_path / "data")
    options = ["--weights", str(folder), "--image-size", "24"]
    options += ["--data", str(data), "--out", str(tmp_path / "run")]
    options += [f"--set={n}={json.dumps(v)}" for n, v in STILL.items()]
    result = CliRunner().invoke(cli.app, ["train", *options])
    assert result.exit_code == 0, result.output
    tuned = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert tuned.config.image_size == (24, 24)


def hugging_face(folder, id2label):
    shutil.copytree(GOLDEN / "hf-vit", folder)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = id2label
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_names_of_hugging_face_that_are_numbers_are_text(tmp_path):
    folder = hugging_face(tmp_path / "hf", {str(i): 7 * i for i in range(5)})
    start = open_start(RECIPES["finetune"].replace(weights=str(folder)), ("14", "0"))
    assert start.said.endswith("its head too: 2 of its 5 classes")


def test_a_name_that_stands_there_twice(tmp_path):
    folder = hugging_face(tmp_path / "hf", dict(zip("01234", "aabcd", strict=True)))
    start = open_start(RECIPES["finetune"].replace(weights=str(folder)), ("a", "b"))
    assert start.said.endswith("a new head for 2 classes: 'a' stands there twice")


@pytest.mark.parametrize("keys", ["01245", "12345"])
def test_an_output_without_a_name_is_refused(keys, tmp_path):
    """The names behind a gap would be those of other outputs, or None."""
    folder = hugging_face(tmp_path / "hf", dict(zip(keys, "abcde", strict=True)))
    lacking = next(n for n in "01234" if n not in keys)
    with pytest.raises(CheckpointError, match=f"`id2label` .*none for: {lacking}"):
        vit_keras.from_checkpoint(folder)


@pytest.mark.filterwarnings("ignore:timm computes with norm_epsilon")
def test_names_of_hugging_face_and_timm(tmp_path):
    folder = tmp_path / "hf"
    shutil.copytree(GOLDEN / "hf-vit", folder)
    config = json.loads((folder / "config.json").read_text())
    names = ("cat", "dog", "eel", "fox", "gnu")
    config["id2label"] = {str(i): name for i, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))
    model = vit_keras.from_checkpoint(folder)
    assert model.config.labels == names
    with pytest.warns(UserWarning, match="left fresh"):
        assert vit_keras.from_checkpoint(folder, classes=3).config.labels is None
    assert vit_keras.create_model("vit_ti16").config.labels is None
    for layout, key in (("huggingface", "id2label"), ("timm", "label_names")):
        vit_keras.save_checkpoint(model, tmp_path / layout, layout)
        written = json.loads((tmp_path / layout / "config.json").read_text())
        found = written[key]
        found = found.values() if layout == "huggingface" else found
        assert tuple(found) == names
        again = vit_keras.from_checkpoint(tmp_path / layout)
        assert again.config.labels == names


def test_probe_trains_the_head_alone(earlier, tmp_path):
    folder, model = earlier
    data = few(60)
    recipe = RECIPES["linear_probe"].replace(epochs=2, validation_split=0.3)
    tuned = train(data, recipe, weights=folder, out=tmp_path, console=quiet())
    for layer in model.layers:
        if layer.name != "head":
            for ours, theirs in zip(
                tuned.get_layer(layer.name).get_weights(),
                layer.get_weights(),
                strict=True,
            ):
                np.testing.assert_array_equal(ours, theirs)
    rows = (tmp_path / "history.csv").read_text().splitlines()
    assert rows[0] == "learning_rate,accuracy,loss,val_accuracy,val_loss"
    assert len(rows) == 1 + len(recipe.probe_rates or ())
    assert keras.models.load_model(tmp_path / "model.keras").config.classes == 10


def test_what_a_probe_says_is_what_the_model_does(tmp_path):
    """The accuracy in the history, of standardised features, is that of the saved
    model on images."""
    vit_keras.create_model(tiny(image_size=16)).save(tmp_path / "m.keras")
    recipe = RECIPES["linear_probe"].replace(
        epochs=8, validation_split=0.0, probe_rates=(1e-2,), flip=False
    )
    data, out = few(200), tmp_path / "run"
    train(data, recipe, weights=tmp_path / "m.keras", out=out, console=quiet())
    said = float((out / "history.csv").read_text().splitlines()[1].split(",")[1])
    measured = vit_keras.evaluate(out, data, console=quiet())["accuracy"]
    assert said > 0.3  # ten classes: it has learned
    assert abs(said - measured) <= 0.01  # two images of 200 near a boundary


def probed(held_out, **settings):
    """Rows of a probe of two labels, the loss of its model on the images held out, all
    of which have `held_out`, and the model."""
    labels = np.zeros((24, 2), "float32")
    labels[::2, 0] = labels[::3, 1] = 1
    labels[16:] = held_out
    data = Dataset(few(24).images, labels, ("a", "b"), "multi_label")
    parts = data.take(np.arange(16)), data.take(np.arange(16, 24))
    model = vit_keras.create_model(
        tiny(image_size=16, classes=2, head="multi_label", labels=("a", "b"))
    )
    recipe = RECIPES["linear_probe"].replace(epochs=4, **settings)
    rows = fit_probe(model, *parts, recipe, quiet())
    return rows, vit_keras.evaluate(model, parts[1], console=quiet())["loss"], model


@pytest.mark.parametrize(
    ("held_out", "precision"),
    [(1, 1.0), pytest.param(0, np.nan, marks=pytest.mark.slow)],
)
def test_of_equal_rates_a_probe_takes_that_of_less_loss(held_out, precision):
    """All images held out have both labels, or none: no ranking is better."""
    for rates in ((1e-4, 1e-2), (1e-2, 1e-4)):
        rows, loss, model = probed(held_out, probe_rates=rates)
        found = [row["val_mean_average_precision"] for row in rows]
        np.testing.assert_array_equal(found, precision)
        least, most = sorted(row["val_loss"] for row in rows)
        # float32 sums of standardised features, and of features
        assert abs(loss - least) < 1e-4 < most - least
        assert keras.ops.convert_to_numpy(model.get_layer("head").bias.value).any()


def test_a_probe_of_which_no_rate_is_finite(monkeypatch):
    nothing = {"mean_average_precision": 1.0, "loss": np.nan}
    monkeypatch.setattr("vit_keras.training.probe.measure", lambda *_: nothing)
    with pytest.raises(FloatingPointError, match=r"each of the `probe_rates`.*0\.01"):
        probed(1, probe_rates=(1e-2,))


def test_a_probe_has_nothing_for_tensorboard(tmp_path):
    with pytest.raises(ValueError, match="`tensorboard` must be False for a probe"):
        recipe = RECIPES["linear_probe"]
        train("digits", recipe, out=tmp_path, tensorboard=True, console=quiet())


def test_weights_that_tell_no_architecture(tmp_path):
    model = vit_keras.create_model(tiny())
    model.save_weights(tmp_path / "m.weights.h5")
    for weights in (None, str(tmp_path / "m.weights.h5")):
        with pytest.raises(ValueError, match="`weights` must be a checkpoint that"):
            open_start(SHORT.replace(weights=weights), ("a", "b"))

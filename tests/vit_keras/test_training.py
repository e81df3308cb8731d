"""The training run at tiny size: what it leaves, what it refuses, that it learns."""

import csv
import dataclasses
import io
import json

import keras
import numpy as np
import pytest
from rich.console import Console

from tests.models import tiny
from vit_keras import create_model, data
from vit_keras.training import RECIPES, Recipe, train
from vit_keras.training.augment import make_augment
from vit_keras.training.fit import evaluate, log_probabilities
from vit_keras.training.optimizers import make_optimizer

FAST = dataclasses.replace(
    RECIPES["digits"],
    epochs=2,
    model={
        "image_size": 8,
        "patch_size": 4,
        "num_layers": 2,
        "hidden_size": 32,
        "num_heads": 2,
        "mlp_dim": 32,
    },
)


def quiet():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, train("digits", FAST, out, console=quiet())


def test_run_leaves_its_files(run):
    out, model = run
    names = ["history.csv", "labels.txt", "model.keras", "recipe.json"]
    assert sorted(p.name for p in out.iterdir()) == names
    assert (out / "labels.txt").read_text().split() == list("0123456789")
    assert Recipe(**json.loads((out / "recipe.json").read_text())) == FAST
    with open(out / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert 0 <= float(rows[1]["val_accuracy"]) <= 1
    saved = keras.models.load_model(out / "model.keras")
    for a, b in zip(saved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert saved.config == model.config


def test_it_learns(run):
    _, model = run
    result = evaluate(model, "digits", console=quiet())
    assert result["images"] == 359
    # Two epochs of a tiny model; guessing gives 0.10.
    assert result["accuracy"] > 0.4
    assert result["loss"] < np.log(10)


def test_same_seed_same_weights(run, tmp_path):
    _, first = run
    second = train("digits", FAST, tmp_path, console=quiet())
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        # One machine, one backend, one seed; threads may still sum in another order.
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_existing_run_is_kept(run):
    out, _ = run
    before = (out / "model.keras").read_bytes()
    with pytest.raises(FileExistsError, match="holds a run already"):
        train("digits", FAST, out, console=quiet())
    assert (out / "model.keras").read_bytes() == before


def test_folder_with_a_corrupt_file(tmp_path):
    from PIL import Image

    digits, _ = data.digits()
    for i in range(40):
        label = digits.classes[digits.labels[i] % 2]
        path = tmp_path / "data" / label / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[i]).save(path)
    (tmp_path / "data" / "0" / "bad.png").write_bytes(b"\x89PNG")
    recipe = dataclasses.replace(
        FAST, epochs=1, model={**FAST.model, "num_register_tokens": 1}
    )
    console = quiet()
    model = train(tmp_path / "data", recipe, tmp_path / "run", console=console)
    assert model.output_shape == (None, 2)
    text = console.file.getvalue()
    assert "bad.png" in text and "1 of 41 files skipped" in text
    with pytest.raises(ValueError, match="bad.png"):
        train(
            tmp_path / "data",
            recipe,
            tmp_path / "strict",
            strict=True,
            console=quiet(),
        )
    assert not (tmp_path / "strict" / "model.keras").exists()


def test_full_disk_leaves_no_half_model(tmp_path, monkeypatch):
    def full(self, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(OSError, match="No space left"):
        train("digits", dataclasses.replace(FAST, epochs=1), tmp_path, console=quiet())
    names = ["history.csv", "labels.txt", "recipe.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_nan_loss_ends_the_run(tmp_path):
    recipe = dataclasses.replace(FAST, learning_rate=1e30, clip_norm=1e30, warmup=0.0)
    with pytest.raises(FloatingPointError, match="smaller `learning_rate`"):
        train("digits", recipe, tmp_path, console=quiet())
    assert not (tmp_path / "model.keras").exists()


def test_evaluate_by_hand():
    model = create_model(tiny(image_size=8, patch_size=4, classes=10))
    _, held_out = data.digits()
    result = evaluate(model, held_out, console=quiet())
    from vit_keras.preprocessing import normalize

    logits = model.predict(
        normalize(held_out.images, model.config.preprocessing), verbose=0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert result["accuracy"] == np.mean(logits.argmax(1) == held_out.labels)
    # Float32 against float64 sums over 359 images.
    assert result["loss"] == pytest.approx(float(loss(held_out.labels, logits)), 1e-4)
    with pytest.raises(ValueError, match="model's 10 classes"):
        evaluate(model, dataclasses.replace(held_out, classes=("a",)))


def test_log_probabilities():
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 1000.0]])
    expected = np.log([[0.25, 0.75], [0.5, 0.5]])
    # Exact up to the last bits of float64, also where exp(1000) would overflow.
    np.testing.assert_allclose(log_probabilities(logits, "linear"), expected, 1e-12)
    shares = np.exp(expected)
    np.testing.assert_allclose(log_probabilities(shares, "softmax"), expected, 1e-12)
    with pytest.raises(ValueError, match="`activation` must be 'linear' or 'softmax'"):
        log_probabilities(logits, "sigmoid")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("clip_norm", -1.0),
        ("warmup", 1.0),
        ("shift", -0.1),
        ("validation_split", 1.0),
        ("label_smoothing", 1.0),
        ("weight_decay", -0.1),
    ],
)
def test_bad_recipe(name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*{value}"):
        Recipe(**{name: value})


def test_every_recipe_states_its_promise():
    assert all(recipe.promise for recipe in RECIPES.values())


def test_schedule_rises_and_falls():
    recipe = dataclasses.replace(FAST, learning_rate=0.5, warmup=0.1)
    optimizer = make_optimizer(recipe, 100)
    schedule = optimizer._learning_rate
    rates = [float(schedule(step)) for step in (0, 5, 10, 55, 100)]
    assert rates[0] == 0
    np.testing.assert_allclose(rates[1:], [0.25, 0.5, 0.25, 0], atol=1e-6)


def test_weight_decay_spares_vectors_and_embeddings():
    model = create_model(tiny(num_register_tokens=1, layer_scale_init_value=0.1))
    optimizer = make_optimizer(FAST, 10)
    optimizer.build(model.trainable_variables)
    decayed = {
        v.path for v in model.trainable_variables if optimizer._use_weight_decay(v)
    }
    assert decayed == {
        v.path for v in model.trainable_variables if v.path.endswith("kernel")
    }


def test_augment_moves_and_mirrors():
    images = np.zeros((200, 8, 8, 1), "uint8")
    images[:, 4, 2] = 255
    draws = np.random.default_rng(0)
    moved = make_augment(0.125, True)(images, draws)
    assert moved.shape == images.shape
    places = {tuple(np.argwhere(m[..., 0])[0]) for m in moved}
    columns = {2 + d for d in (-1, 0, 1)} | {5 + d for d in (-1, 0, 1)}
    assert places == {(r, c) for r in (3, 4, 5) for c in columns}
    assert make_augment(0.0, False) is None

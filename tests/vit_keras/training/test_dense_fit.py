"""Training of models with outputs at each pixel: it learns, resumes, and is refused."""

import contextlib
import csv
import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import vit_keras
from tests.models import eagerly, slow_but
from tests.vit_keras.training.runs import quiet, same
from tests.vit_keras.training.shapes import NAMES, SHORT, SIZES, shapes
from vit_keras import create_model, train
from vit_keras.data import Dataset
from vit_keras.decoder_sizes import DECODERS, OPTIONS
from vit_keras.training import Recipe, checkpoint, evaluate, frozen_tokens
from vit_keras.training.devices import jit_compile, predictor
from vit_keras.training.objective import freeze


def copy_after_first(data, recipe, out, copy, monkeypatch, console):
    """An unbroken run, and what was there of it after its first checkpoint."""
    write = checkpoint.SaveCheckpoint.on_epoch_end

    def write_and_copy(self, epoch, logs=None):
        write(self, epoch, logs)
        if not copy.exists():
            shutil.copytree(out, copy)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.SaveCheckpoint, "on_epoch_end", write_and_copy)
        return train(data, recipe, out=out, console=console)


def rows_of(out):
    with open(out / "history.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_tiny_model_learns_shapes(tmp_path):
    # Patches of 4: those of 8 are too coarse for edges; 225 images, 15 passes.
    recipe = SHORT.replace(
        model={**SIZES, "patch_size": 4, "hidden_size": 64, "num_heads": 4},
        epochs=15,
        batch_size=16,
        learning_rate=3e-3,
        warmup=0.1,
        validation_split=0.1,
    )
    console = quiet()
    model = train(shapes(250), recipe, out=tmp_path, console=console)
    said = console.file.getvalue()
    assert "250 images in 3 classes, 225 to train on" in said
    assert "unequal pixels: ground 7" in said and "times the smallest" in said
    found = evaluate(tmp_path, shapes(40, seed=1), console=quiet())
    assert found["mean_iou"] >= 0.9 and found["accuracy"] > 0.95
    assert found["mean_iou"] == pytest.approx(
        np.mean([found[f"iou/{name}"] for name in NAMES])
    )
    last = rows_of(tmp_path)[-1]
    assert float(last["val_mean_iou"]) > 0.85
    assert model.task == "segment" and model.config.labels == NAMES
    assert model.config.preprocessing.resize == "stretch"
    page = (tmp_path / "report.html").read_text()
    for word in ("Curves", "<td>circle</td>", "Worst images", "data:image/jpeg"):
        assert word in page


# All that draws or remembers, with a batch norm.
EVERYTHING = SHORT.replace(
    model={**SIZES, "num_layers": 1, "taps": 1}
    | {"decoder": "upconv", "decoder_width": 8, "drop_path_rate": 0.2},
    epochs=2,
    scale=(0.5, 2.0),
    **dict(randaugment=2, three_augment=True, ema=0.9, layer_decay=0.8, warmup=0.2),
    **dict(class_weights="balanced", loss="softmax_dice"),
)


@pytest.mark.parametrize("how", slow_but(("eagerly",), ("eagerly", "in a graph")))
def test_a_stopped_run_ends_with_the_same_bits(how, tmp_path, monkeypatch):
    data, console = shapes(32), quiet()
    folders = tmp_path / "whole", tmp_path / "stopped"
    with eagerly() if how == "eagerly" else contextlib.nullcontext():
        whole = copy_after_first(data, EVERYTHING, *folders, monkeypatch, quiet())
        model = train(data, EVERYTHING, out=tmp_path / "stopped", console=console)
    assert "resuming from step 3" in console.file.getvalue()
    assert same(model, whole)
    names = ["best.keras", "history.csv", "labels.txt", "model.keras", "recipe.json"]
    found = sorted(p.name for p in (tmp_path / "stopped").iterdir())
    assert found == [*names, "report.html"]
    assert rows_of(tmp_path / "stopped")[0].keys() >= {"val_mean_iou", "val_accuracy"}


FROZEN = SHORT.replace(
    model={**SIZES, "decoder": "upconv", "decoder_width": 8}, freeze="backbone"
)


@pytest.mark.usefixtures("eager")
# In memory, the next test has them.
@pytest.mark.parametrize("stored", slow_but((True,), (False, True)))
def test_tokens_are_computed_once(stored, tmp_path, monkeypatch):
    if stored:
        monkeypatch.setattr(frozen_tokens, "IN_MEMORY", 0)
    data, console = shapes(32), quiet()
    recipe = FROZEN.replace(epochs=2)
    folders = tmp_path / "run", tmp_path / "stopped"
    model = copy_after_first(data, recipe, *folders, monkeypatch, console)
    said = console.file.getvalue()
    # 24 images and mirror images, 36 patches, two taps of 32 values in 16 bits.
    assert "tokens of 24 images and their mirror images: 0.2 MB" in said
    assert ("in memory" in said) != stored
    assert not (tmp_path / "run" / "tokens").exists()
    keras.utils.set_random_seed(recipe.seed)
    fresh = create_model("vit_ti16", task="segment", classes=3, **recipe.model)
    for layer, before in zip(model.layers, fresh.layers, strict=True):
        equal = all(map(np.array_equal, layer.get_weights(), before.get_weights()))
        changes = layer.name.startswith("decoder_") and bool(layer.weights)
        assert equal != changes, layer.name
    losses = [float(row["loss"]) for row in rows_of(tmp_path / "run")]
    assert losses[-1] < losses[0]
    again = train(data, recipe, out=tmp_path / "stopped", console=quiet())
    assert same(again, model)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("decoder", slow_but(("upconv",), ("linear", "upconv")))
def test_tokens_give_what_images_give(decoder, tmp_path, monkeypatch):
    """The frozen model on images, and its decoder on kept tokens, learn the same."""
    recipe = FROZEN.replace(model={**SIZES, "decoder": decoder}, epochs=1)
    data, console = shapes(16), quiet()
    kept = train(data, recipe, out=tmp_path / "kept", console=console)
    said = console.file.getvalue()
    assert "tokens of 12 images and their mirror images" in said and "in memory" in said
    monkeypatch.setattr(frozen_tokens, "keeps_tokens", lambda *_: False)
    monkeypatch.setattr("vit_keras.training.fit.keeps_tokens", lambda *_: False)
    anew = train(data, recipe, out=tmp_path / "anew", console=quiet())
    before, after = (
        model.get_layer("decoder_head").get_weights()[0] for model in (kept, anew)
    )
    # Tokens are rounded to 11 bits, and Adam's first step, of 2e-3, takes the sign.
    assert np.abs(before - after).max() < 2 * 2e-3
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.99


def test_blocks_in_front_are_frozen_and_no_other():
    model = create_model(
        "vit_ti16", task="segment", classes=3, **{**SIZES, "num_layers": 3, "taps": 3}
    )
    freeze(model, 2)
    frozen = {layer.name for layer in model.layers if not layer.trainable}
    assert {"embedding", "posembed_input", "encoderblock_0", "encoderblock_1"} <= frozen
    trained = {"encoderblock_2", "encoder_norm", "decoder_head"}
    assert not trained & frozen


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_decoder_is_kept_with_its_classes(tmp_path):
    data = shapes(24)
    first = train(data, SHORT, out=tmp_path / "first", console=quiet())
    # The same classes in another order, and one of them missing.
    order = (2, 0)
    table = np.full(256, 255, "uint8")
    table[list(order)] = range(2)
    fewer = Dataset(
        data.images, table[data.labels], tuple(NAMES[i] for i in order), data.head
    )
    still = SHORT.replace(preset=None, epochs=1, learning_rate=1e-12, weight_decay=0.0)
    console = quiet()
    run = {"weights": tmp_path / "first", "console": console}
    second = train(fewer, still, out=tmp_path / "second", **run)
    assert "its decoder too: 2 of its 3 classes" in console.file.getvalue()
    kernels = (m.get_layer("decoder_head").get_weights() for m in (first, second))
    for before, after in zip(*kernels, strict=True):
        assert np.array_equal(before[..., list(order)], after)
    other = still.replace(model={**SIZES, "decoder": "upconv"})
    console = run["console"] = quiet()
    train(fewer, other, out=tmp_path / "third", **run)
    said = console.file.getvalue()
    assert "a new decoder: its decoder is linear, not upconv" in said


@pytest.mark.usefixtures("eager")
@pytest.mark.filterwarnings("ignore:.*left fresh")
def test_a_classifier_gets_a_decoder(tmp_path):
    sizes = {**SIZES, "taps": 1, "pooling": "map"}
    classifier = create_model("vit_ti16", classes=4, **sizes)
    path = tmp_path / "classifier.keras"
    classifier.save(path)
    console = quiet()
    still = vit_keras.RECIPES["segment"].replace(
        epochs=1, learning_rate=1e-12, weight_decay=0.0
    )
    model = train(
        shapes(16), still, out=tmp_path / "run", weights=path, console=console
    )
    assert "a new decoder for 3 classes" in console.file.getvalue()
    assert model.config.taps == 2  # four, or as many blocks as there are
    pairs = (m.get_layer("encoderblock_1").get_weights() for m in (classifier, model))
    for before, after in zip(*pairs, strict=True):
        np.testing.assert_allclose(before, after, atol=1e-9)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("mixup", 0.5, "`mixup` must be 0.0 for head='segmentation'"),
        ("cutmix", 0.5, "`cutmix` must be 0.0"),
        ("label_smoothing", 0.1, "`label_smoothing` must be 0.0"),
        ("erase", 0.1, "`erase` must be 0.0"),
        ("crop", 0.5, "`crop` must be None.*--set crop=null"),
        ("shift", 0.1, "`shift` must be 0.0"),
        ("repeats", 2, "`repeats` must be 1"),
        ("teacher", "a.keras", "`teacher` must be None"),
        ("loss", "sigmoid", "`loss` must be one of softmax, dice, softmax_dice"),
    ],
)
def test_what_means_nothing_is_refused(field, value, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        train(shapes(4), SHORT.replace(**{field: value}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_all_that_means_nothing_is_said_at_once(tmp_path):
    words = r"`shift`, `mixup` must be 0.0, 0.0 .* .--set shift=0.0 --set mixup=0.0."
    with pytest.raises(ValueError, match=words):
        train(shapes(4), SHORT.replace(shift=0.1, mixup=0.5), out=tmp_path / "run")


def test_classifiers_refuse_what_is_for_maps(tmp_path):
    digits = Dataset(np.zeros((4, 8, 8, 3), "uint8"), np.arange(4) % 2, ("a", "b"))
    for changes, words in (
        ({"scale": (0.5, 2.0), "model": {}}, "`scale` must be None for head='softmax'"),
        ({"model": {"decoder": "upconv"}}, "`model` must not hold 'decoder'"),
        ({"model": {}, "loss": "dice"}, "`loss` must be one of softmax, sigmoid for"),
    ):
        with pytest.raises(ValueError, match=words):
            train(digits, SHORT.replace(**changes), out=tmp_path / "run")
    with pytest.raises(ValueError, match="`data` must have head='segmentation' for"):
        train(digits, SHORT, out=tmp_path / "run", task="segment", console=quiet())
    with pytest.raises(ValueError, match="`task` must be one of classify, segment"):
        train(digits, SHORT, out=tmp_path / "run", task="detect")


@pytest.mark.parametrize("scale", [(2.0, 0.5), (0.0, 1.0), (1.0,), 2.0, "1"])
def test_scales_that_are_none(scale):
    with pytest.raises(ValueError, match="`scale` must be"):
        Recipe(scale=scale)


def test_a_recipe_with_a_scale_survives_json():
    text = json.dumps(EVERYTHING.to_dict())
    assert Recipe.from_dict(json.loads(text)) == EVERYTHING


def test_depth(tmp_path):
    """Redder is nearer: a linear layer can tell."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (96, 3, 3, 3), "uint8").repeat(8, 1).repeat(8, 2)
    depth = (20 - 15 * (images[..., 0] / 255)).astype("float32")
    depth[:, :4] = np.nan
    data = Dataset(images, depth, ("depth",), "depth")
    sizes = {**SIZES, "image_size": 24, "num_layers": 1, "taps": 1}
    # Many steps in few epochs: each epoch evaluates and writes.
    steps = {"epochs": 5, "batch_size": 4, "learning_rate": 1e-2, "warmup": 0.1}
    recipe = SHORT.replace(model=sizes, **steps)
    out = tmp_path / "run"
    model = train(data, recipe, out=out, console=quiet())
    assert model.config.activation == "softplus" and model.output_shape[-1] == 1
    found = evaluate(out, data, console=quiet())
    assert found.keys() == {"images", *METRICS}
    guess = np.exp(np.log(depth[depth > 0]).mean())
    known = depth[depth > 0]
    assert found["absolute_relative_error"] < 0.6 * np.mean(np.abs(guess / known - 1))
    assert float(rows_of(out)[-1]["val_absolute_relative_error"]) < 0.3
    assert "error" in (out / "report.html").read_text()
    with pytest.raises(ValueError, match="`scale` must be None for head='depth'"):
        train(data, recipe.replace(scale=(0.5, 2.0)), out=tmp_path / "other")
    with pytest.raises(ValueError, match="`class_weights` must be None unless"):
        train(data, recipe.replace(class_weights="balanced"), out=tmp_path / "other")


METRICS = ("absolute_relative_error", "delta_1", "root_mean_squared_error", "loss")


@pytest.mark.usefixtures("eager")
def test_evaluate_at_the_size_of_each_mask(tmp_path):
    """Masks of other sizes than the input; classes in another order; pictures."""
    recipe = SHORT.replace(epochs=1)
    model = train(shapes(24), recipe, out=tmp_path / "run", console=quiet())
    large = [shapes(1, seed, size=60 + 5 * seed) for seed in range(3)]
    images = [part.images[0] for part in large]
    masks = [part.labels[0] for part in large]
    data = Dataset(images, masks, NAMES, "segmentation")
    found = evaluate(model, data, console=quiet())
    pixels = right = 0
    for image, mask in zip(images, masks, strict=True):
        # Pillow's and ours: without antialiasing, bilinear enlarging is the same.
        small = Image.fromarray(image).resize((48, 48), Image.Resampling.BICUBIC)
        logits = model.predict(np.asarray(small)[None] / 127.5 - 1.0, verbose=0)[0]
        size = mask.shape[::-1]
        bands = [
            Image.fromarray(band).resize(size, Image.Resampling.BILINEAR)
            for band in np.moveaxis(logits, -1, 0)
        ]
        right += (np.argmax(bands, 0) == mask).sum()
        pixels += mask.size
    # A pixel between two classes may fall to the other, by a last bit.
    assert found["accuracy"] == pytest.approx(right / pixels, abs=1e-3)
    order = (1, 2, 0)
    table = np.argsort(order).astype("uint8")
    other = dataclasses.replace(
        data,
        labels=[table[mask] for mask in masks],
        classes=tuple(NAMES[i] for i in order),
    )
    pictures = tmp_path / "worst"
    again = evaluate(tmp_path / "run", other, out=pictures, console=quiet())
    assert again == pytest.approx(found)
    names = sorted(path.name for path in pictures.iterdir())
    assert len(names) == 3 and names[0].startswith("01-")
    with pytest.raises(ValueError, match="unknown: moon"):
        names = ("moon", *NAMES[1:])
        evaluate(tmp_path / "run", dataclasses.replace(data, classes=names))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("decoder", DECODERS)
def test_two_parts_are_the_model(decoder):
    options = {"taps": {"eomt": 1}.get(decoder, 4), "num_layers": 4}
    options |= {"decoder_depth": 2} if "decoder_depth" in OPTIONS[decoder] else {}
    model = create_model(
        "vit_ti16", task="segment", classes=3, decoder=decoder, **{**SIZES, **options}
    )
    freeze(model, "backbone")
    backbone, decoder_part = frozen_tokens.split_at_decoder(model)
    assert not backbone.trainable_weights
    trained = [weight.path for weight in decoder_part.trainable_weights]
    assert trained == [weight.path for weight in model.trainable_weights] != []
    images = np.random.default_rng(0).normal(size=(5, 48, 48, 3)).astype("float32")
    between = backbone.predict_on_batch(images)
    between = keras.tree.map_structure(np.asarray, between)
    found = predictor(decoder_part)(between)
    expected = np.asarray(model.predict_on_batch(images))
    # Sums of float32 values of order 1, compiled apart.
    np.testing.assert_allclose(found, expected, atol=1e-5)
    decoder_part.compile("sgd", "mse", jit_compile=jit_compile())
    batches = (batch for batch in [(between, found + 1)])
    decoder_part.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)
    assert np.abs(model.predict_on_batch(images) - expected).max() > 1e-4

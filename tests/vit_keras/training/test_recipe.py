"""Recipes as data: what they refuse, and that each row says where it comes from."""

import json

import pytest

from vit_keras.model import configure
from vit_keras.training import RECIPES, Recipe, ReferenceResult
from vit_keras.training.steps import checkpoint_intervals

IMAGENET = 1_281_167


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("epochs", None),
        ("steps", 0),
        ("batch_size", 0),
        ("accumulate", 0),
        ("repeats", 0),
        ("checkpoint_steps", 0),
        ("randaugment", -1),
        ("seed", -1),
        ("freeze", -1),
        ("freeze", "head"),
        ("probe_rates", 0.1),
        ("probe_rates", "all"),
        ("model", 5),
        ("patience", 0),
        ("learning_rate", 0.0),
        ("learning_rate", "fast"),
        ("learning_rate", None),
        ("learning_rate", float("nan")),
        ("clip_norm", -1.0),
        ("layer_decay", 0.0),
        ("temperature", 0),
        ("warmup", 1.0),
        ("label_smoothing", 1.0),
        ("shift", -0.1),
        ("validation_split", 1.0),
        ("beta2", 1.0),
        ("magnitude", 1.1),
        ("erase", -0.1),
        ("distillation_weight", 2),
        ("ema", 1.0),
        ("ema", 0),
        ("crop", 0.0),
        ("weight_decay", -0.1),
        ("mixup", -1),
        ("cutmix", -1),
        ("optimizer", "adam"),
        ("loss", "mse"),
        ("class_weights", "equal"),
        ("precision", "float16"),
        ("distillation", "warm"),
    ],
)
def test_bad_value_is_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*{name}={value!r}"):
        Recipe(**{name: value})


def test_batch_must_divide():
    with pytest.raises(ValueError, match="multiple of `accumulate`.*64, accumulate=3"):
        Recipe(accumulate=3)


def test_what_does_not_go_together():
    with pytest.raises(ValueError, match="`layer_decay` must be 1.*=0.8, .*'muon'"):
        Recipe(layer_decay=0.8, optimizer="muon")
    with pytest.raises(ValueError, match="`validation_split` must be above 0"):
        Recipe(patience=2, validation_split=0)
    with pytest.raises(ValueError, match="`freeze` must be 'backbone'.*freeze=3"):
        Recipe(probe_rates=(0.1,), freeze=3)
    with pytest.raises(ValueError, match="`validation_split`.* one of several"):
        Recipe(probe_rates=(0.1, 1.0), freeze="backbone", validation_split=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", 0.1), ("mixup", 0.2), ("steps", 10), ("teacher", "m.keras")],
)
def test_what_a_probe_would_not_use_is_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*`probe_rates`.*{name}={value!r}"):
        RECIPES["linear_probe"].replace(**{name: value})


@pytest.mark.parametrize(
    "name", ["classes", "labels", "activation", "include_top", "preset", "weights"]
)
def test_what_the_data_decides_is_no_setting_of_the_model(name):
    with pytest.raises(ValueError, match=f"`model` must not hold '{name}'"):
        Recipe(model={name: 5})


def test_a_frozen_part_of_release_0_1():
    assert Recipe.from_dict({"train_last": 0}).freeze == "backbone"
    assert Recipe.from_dict({"train_last": None}).freeze is None
    with pytest.raises(ValueError, match="`train_last=2` of release 0.1 is `freeze`"):
        Recipe.from_dict({"train_last": 2})


def test_none_where_it_means_something():
    names = "steps freeze probe_rates clip_norm ema crop patience teacher".split()
    Recipe(**dict.fromkeys(names))


def test_replace():
    recipe = Recipe().replace(mixup=0.2, reference=ReferenceResult(data="x"))
    assert (recipe.mixup, recipe.reference.data) == (0.2, "x")
    with pytest.raises(ValueError, match="`mixups` is not.*mean `mixup`.*epochs"):
        recipe.replace(mixups=0.2)
    with pytest.raises(ValueError, match="`zzz` is not a field of a recipe. Valid"):
        recipe.replace(zzz=1)


@pytest.mark.parametrize("name", RECIPES)
def test_row(name):
    recipe = RECIPES[name]
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert recipe.reference.data
    assert recipe.reference.command.startswith("vit-keras train ")
    preset = recipe.preset or "vit_s16"  # else that of the weights
    config = configure(
        **{**recipe.model_arguments(10), "weights": None, "preset": preset}
    )
    assert config.classes == 10 and config.activation == "linear"
    steps, intervals = checkpoint_intervals(recipe, IMAGENET)
    assert steps <= recipe.checkpoint_steps * recipe.accumulate
    wanted = recipe.steps or recipe.epochs * (IMAGENET // recipe.batch_size)
    # All intervals are of one length.
    assert wanted <= steps * intervals < wanted + recipe.epochs * steps


@pytest.mark.parametrize(
    ("name", "steps"), [("better_plain_vit", 112_590), ("augreg_finetune", 20_000)]
)
def test_steps_are_those_of_the_source(name, steps):
    each, intervals = checkpoint_intervals(RECIPES[name], IMAGENET)
    assert steps <= each * intervals < steps + intervals  # all of one length


@pytest.mark.parametrize(
    ("steps", "expected"), [(250, (84, 3)), (100, (100, 1)), (40, (40, 1))]
)
def test_few_steps_are_not_filled_up_to_whole_passes(steps, expected):
    assert checkpoint_intervals(Recipe(steps=steps, batch_size=10), 1000) == expected

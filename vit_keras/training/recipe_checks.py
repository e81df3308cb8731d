"""Checks of a `Recipe`: numbers, choices, and values that do not fit together."""

import dataclasses

OPTIMIZERS = ("adamw", "lamb", "muon", "sgd")
LOSSES = ("softmax", "sigmoid", "dice", "softmax_dice")
CLASS_WEIGHTS = (None, "balanced")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
DISTILLATIONS = ("hard", "soft")
# Fields that a linear probe does not use, so that a value in them would be lost.
UNPROBED = ("learning_rate", "steps", "accumulate", "layer_decay", "ema", "crop")
UNPROBED += ("randaugment", "three_augment", "erase", "mixup", "cutmix", "repeats")
UNPROBED += ("teacher", "patience", "scale")
# Arguments of `create_model` that are the data's, or a recipe's own fields.
NOT_OF_MODEL = ("classes", "labels", "activation", "include_top", "preset", "weights")

# Fields that None switches off.
OPTIONAL = ("freeze", "steps", "clip_norm", "ema", "crop", "patience")


def check_recipe(recipe) -> None:
    """Check all fields of a `Recipe`.

    Raises:
        ValueError: a value or a combination is invalid.
    """
    for name, least in (
        *(("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("repeats", 1)),
        *(("checkpoint_steps", 1), ("randaugment", 0), ("seed", 0)),
        *(("steps", 1), ("patience", 1)),
    ):
        _check(recipe, name, int, lambda v, least=least: v >= least, f">= {least}")
    for name in ("learning_rate", "clip_norm", "layer_decay", "temperature"):
        _check(recipe, name, (int, float), lambda v: v > 0, "above 0")
    for name in ("warmup", "label_smoothing", "shift", "validation_split", "beta2"):
        _check(recipe, name, (int, float), lambda v: 0 <= v < 1, "in [0, 1)")
    for name in ("magnitude", "erase", "distillation_weight"):
        _check(recipe, name, (int, float), lambda v: 0 <= v <= 1, "in [0, 1]")
    for name in ("ema", "crop"):
        _check(recipe, name, (int, float), lambda v: 0 < v < 1, "in (0, 1)")
    for name in ("weight_decay", "mixup", "cutmix"):
        _check(recipe, name, (int, float), lambda v: v >= 0, "not negative")
    for name, valid in (
        ("optimizer", OPTIMIZERS),
        ("loss", LOSSES),
        ("class_weights", CLASS_WEIGHTS),
        ("precision", PRECISIONS),
        ("distillation", DISTILLATIONS),
    ):
        if getattr(recipe, name) not in valid:
            raise ValueError(
                f"`{name}` must be one of {', '.join(map(str, valid))}. "
                f"Received: {name}={getattr(recipe, name)!r}"
            )
    if not isinstance(recipe.model, dict):
        raise ValueError(
            "`model` must be a dict of arguments of `create_model`. "
            f"Received: model={recipe.model!r}"
        )
    for name in NOT_OF_MODEL:
        if name in recipe.model:
            raise ValueError(
                f"`model` must not hold {name!r}: the data, or the recipe itself, "
                f"gives it. Received: model={recipe.model!r}"
            )
    _check_frozen(recipe)
    _check_scale(recipe)
    if recipe.patience is not None and not recipe.validation_split:
        raise ValueError(
            "`validation_split` must be above 0 when `patience` is set, which "
            "needs held-out images. Received: validation_split=0"
        )
    if recipe.layer_decay != 1 and recipe.optimizer != "adamw":
        raise ValueError(
            "`layer_decay` must be 1 unless the optimizer is adamw. Received: "
            f"layer_decay={recipe.layer_decay}, optimizer={recipe.optimizer!r}"
        )
    if recipe.batch_size % recipe.accumulate:
        raise ValueError(
            "`batch_size` must be a multiple of `accumulate`. Received: "
            f"batch_size={recipe.batch_size}, accumulate={recipe.accumulate}"
        )


def _check_frozen(recipe):
    if recipe.freeze != "backbone":
        words = '>= 0, "backbone" or None'
        _check(recipe, "freeze", int, lambda v: v >= 0, words)
    if recipe.probe_rates is None:
        return
    defaults = {field.name: field.default for field in dataclasses.fields(recipe)}
    rates = recipe.probe_rates
    if not isinstance(rates, tuple) or not rates or not all(map(_positive, rates)):
        raise ValueError(
            "`probe_rates` must be learning rates above 0, or None. Received: "
            f"probe_rates={rates!r}"
        )
    if recipe.freeze != "backbone":
        raise ValueError(
            "`freeze` must be 'backbone' when `probe_rates` are given. "
            f"Received: freeze={recipe.freeze!r}"
        )
    for name in UNPROBED:
        if getattr(recipe, name) != defaults[name]:
            raise ValueError(
                f"`{name}` must be {defaults[name]} with `probe_rates`: "
                "heads see the features of whole images, with these rates. "
                f"Received: {name}={getattr(recipe, name)!r}"
            )
    if not recipe.validation_split and len(rates) > 1:
        raise ValueError(
            "`validation_split` must be above 0 to choose one of several "
            "`probe_rates`. Received: validation_split=0"
        )


def _check_scale(recipe):
    scale = recipe.scale
    if scale is None:
        return
    pair = isinstance(scale, tuple) and len(scale) == 2
    if not pair or not all(map(_positive, scale)) or scale[0] > scale[1]:
        raise ValueError(
            "`scale` must be (smallest, largest), both above 0, or None. Received: "
            f"scale={scale!r}"
        )


def _check(recipe, name, kind, good, words):
    value = getattr(recipe, name)
    if value is None and name in OPTIONAL:
        return
    fits = isinstance(value, kind) and not isinstance(value, bool)
    if not fits or not good(value):
        number = "an integer" if kind is int else "a number"
        raise ValueError(
            f"`{name}` must be {number} {words}. Received: {name}={value!r}"
        )


def _positive(value):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and value > 0

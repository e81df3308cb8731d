"""`vit-keras train`, `evaluate` and `predict`."""

import json
import pathlib
import sys
from typing import Annotated

import typer

Run = Annotated[
    pathlib.Path, typer.Argument(help="A folder from `train`, or a .keras file.")
]
Data = Annotated[
    str,
    typer.Option(
        help="'digits', a folder of class folders, alone or in train, val and test, "
        "a .csv or .jsonl table of files and labels, an .npz file, "
        "'tfds:NAME[:SPLIT]' or 'grain:MODULE:ATTRIBUTE'."
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        help="Fail on unreadable images, duplicates and files that are no images, "
        "instead of naming them."
    ),
]
FROM_RECIPE = "Default: the recipe's."


def train_command(
    data: Data,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the results.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="A name from `vit-keras recipes`, or a run's recipe.json."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Initial weights, and without --preset the whole model: a file, a "
            "folder, a name from `weights list`, or an earlier run."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help=f"Model size, a name from `presets`. {FROM_RECIPE}"),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help=f"Input height and width in pixels. {FROM_RECIPE}"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help=f"Number of epochs. {FROM_RECIPE}")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help=f"Images per step. {FROM_RECIPE}")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help=f"Peak learning rate. {FROM_RECIPE}")
    ] = None,
    validation_split: Annotated[
        float | None,
        typer.Option(help=f"Fraction of images held out. {FROM_RECIPE}"),
    ] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(help=f"'balanced' for classes of unequal size. {FROM_RECIPE}"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help=f"Seed of weights, order, augmentation. {FROM_RECIPE}"),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any field of the recipe or its model, such as mixup=0.2 or "
            "model.num_layers=6; repeatable.",
        ),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            help="Devices for data parallelism. Default: 1, or all if several "
            "processes train."
        ),
    ] = None,
    model_parallel: Annotated[
        int, typer.Option(help="Number of devices that share one copy of the weights.")
    ] = 1,
    freeze: Annotated[
        str | None,
        typer.Option(
            help="'backbone' trains the head only, a number N freezes the first N "
            f"blocks. {FROM_RECIPE}"
        ),
    ] = None,
    strict: Strict = False,
    tensorboard: Annotated[
        bool, typer.Option(help="Write TensorBoard logs to OUT/tensorboard.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Replace an earlier run in OUT.")
    ] = False,
):
    """Train a classifier, from scratch or from weights.

    Writes model.keras, labels.txt, recipe.json, history.csv.

    An interrupted run resumes when the same command is given again.
    """
    from ..training.recipes import default_recipe

    base = read_recipe(recipe or default_recipe(data, weights))
    options = {
        "preset": preset,
        "weights": weights,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "validation_split": validation_split,
        "class_weights": class_weights,
        "seed": seed,
        "freeze": int(freeze) if freeze and freeze.isdecimal() else freeze,
    }
    # A preset replaces the sizes of the recipe's own model.
    model = dict(base.model) if preset is None else {}
    if image_size is not None:
        model["image_size"] = image_size
    given = {k: v for k, v in options.items() if v is not None}
    for text in set_ or []:
        name, value = read_setting(text)
        if name.startswith("model."):
            model[name.removeprefix("model.")] = value
        else:
            given[name] = value
    base = base.replace(**{"model": model, **given})

    from ..training.checkpoint import find_last
    from ..training.fit import train
    from ..training.processes import process_index

    try:
        train(
            data,
            base,
            out=out,
            strict=strict,
            overwrite=overwrite,
            devices=devices,
            model_parallel=model_parallel,
            tensorboard=tensorboard,
        )
    except KeyboardInterrupt:
        kept = "the same command resumes from the last checkpoint"
        if find_last(out) is None:
            kept = "there was no checkpoint yet"
        print(f"vit-keras: stopped; {kept}", file=sys.stderr)
        raise typer.Exit(130) from None  # as shells report Ctrl-C
    if process_index()[0] == 0:  # the process that writes
        print(f"wrote {out / 'model.keras'}")


def evaluate_command(run: Run, data: Data, strict: Strict = False):
    """Measure accuracy, or error, of a run; for 'digits' on the held-out images."""
    from ..training.evaluation import evaluate

    result = evaluate(run, data, strict=strict)
    number = result.pop("images")
    found = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in result.items()]
    print(f"{', '.join(found)} on {number} images")


def predict_command(
    run: Run,
    files: Annotated[list[pathlib.Path], typer.Argument(help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 3,
):
    """Print the most probable classes of images, all probable labels, or values."""
    import numpy as np

    from .. import preprocessing as pp
    from ..model_file import open_classifier
    from .answers import describe_outputs

    model, labels = open_classifier(run)
    config = model.config
    for file in files:
        pixels = pp.load_image(file, config.image_size, config.preprocessing)
        inputs = pp.normalize(pixels[None], config.preprocessing)
        outputs = np.asarray(model.predict_on_batch(inputs))
        answer = describe_outputs(outputs[0], labels, config, top)
        print(f"{file}: {answer}")


def read_recipe(name):
    """Return the recipe of a name, or of a JSON file."""
    from ..training.recipe import Recipe
    from ..training.recipes import RECIPES

    if name in RECIPES:
        return RECIPES[name]
    path = pathlib.Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"`--recipe` must be one of {', '.join(RECIPES)}, or a recipe.json. "
            f"Received: {name}"
        )
    try:
        return Recipe.from_dict(json.loads(path.read_text()))
    except (ValueError, TypeError, AttributeError) as error:  # no JSON, other fields
        raise ValueError(f"'{path}' holds no recipe: {error}") from error


def read_setting(text):
    """Parse `"mixup=0.2"` to ("mixup", 0.2); a value that is no JSON stays text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"`--set` must be FIELD=VALUE. Received: {text}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value

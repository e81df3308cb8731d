"""The command line `vit-keras`: presets, train, evaluate, predict, weights.

Exit status: 0 good, 2 wrong usage or bad input with one clear line on stderr, 130
stopped by Ctrl-C.
"""

import dataclasses
import json
import pathlib
import sys
from typing import Annotated

import numpy as np
import rich
import rich.table
import typer

from .. import preprocessing as pp
from ..data.sources import open_source
from ..model import open_model
from ..presets import PRESETS
from ..training import RECIPES, Recipe, train
from ..training.checkpoint import find_last
from ..training.evaluate import evaluate as evaluate_model
from ..training.evaluate import log_probabilities
from ..training.processes import process
from .weights_commands import app as weights_app

app = typer.Typer(
    help="Vision Transformers in Keras 3.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(weights_app, name="weights")

Run = Annotated[
    pathlib.Path, typer.Argument(help="Folder that `train` made, or a .keras file.")
]
Data = Annotated[
    str,
    typer.Option(
        help="'digits', a folder of class folders, an .npz file, "
        "'tfds:NAME[:SPLIT]' or 'grain:MODULE:ATTRIBUTE'."
    ),
]
Strict = Annotated[bool, typer.Option(help="Fail on an unreadable image.")]


@app.command()
def presets():
    """List the model sizes with their weights and papers."""
    table = rich.table.Table("name", "image", "weights", "source")
    for name, preset in PRESETS.items():
        size = "x".join(map(str, preset.config.image_size))
        table.add_row(name, size, f"{preset.parameters:,}", preset.paper)
    rich.print(table)


@app.command("train")
def train_command(
    data: Data,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the run.")],
    preset: Annotated[str | None, typer.Option(help="See `presets`.")] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option()] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    validation_split: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    image_size: Annotated[int | None, typer.Option()] = None,
    patch_size: Annotated[int | None, typer.Option()] = None,
    num_layers: Annotated[int | None, typer.Option()] = None,
    hidden_size: Annotated[int | None, typer.Option()] = None,
    num_heads: Annotated[int | None, typer.Option()] = None,
    mlp_dim: Annotated[int | None, typer.Option()] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A name that `recipes` shows, or a recipe.json of a run."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any field of the recipe: mixup=0.2, model.dropout=0.1"
        ),
    ] = None,
    devices: Annotated[int | None, typer.Option(help="That share a batch.")] = None,
    model_parallel: Annotated[
        int, typer.Option(help="Devices that share one copy of the weights.")
    ] = 1,
    strict: Strict = False,
    tensorboard: Annotated[bool, typer.Option(help="Write OUT/tensorboard.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier run.")] = False,
):
    """Train a classifier; leaves model.keras, labels.txt, recipe.json, history.csv.

    A run that was cut off goes on when the same command is given again.
    """
    base = read_recipe(recipe or ("digits" if data == "digits" else "folder"))
    sizes = {
        "image_size": image_size,
        "patch_size": patch_size,
        "num_layers": num_layers,
        "hidden_size": hidden_size,
        "num_heads": num_heads,
        "mlp_dim": mlp_dim,
    }
    options = {
        "preset": preset,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "validation_split": validation_split,
        "seed": seed,
    }
    # Naming a preset means its sizes, not those of the recipe's own small model.
    model = base.model if preset is None else {}
    model = {**model, **{k: v for k, v in sizes.items() if v is not None}}
    given = {k: v for k, v in options.items() if v is not None}
    for text in set_ or []:
        name, value = read_setting(text)
        if name.startswith("model."):
            model[name.removeprefix("model.")] = value
        else:
            given[name] = value
    base = base.replace(**{"model": model, **given})
    try:
        train(
            *(data, base, out),
            strict=strict,
            overwrite=overwrite,
            devices=devices,
            model_parallel=model_parallel,
            tensorboard=tensorboard,
        )
    except KeyboardInterrupt:
        kept = "the same command goes on from the last checkpoint"
        if find_last(out) is None:
            kept = "there was no checkpoint yet"
        print(f"vit-keras: stopped; {kept}", file=sys.stderr)
        raise typer.Exit(130) from None  # as a shell says it
    if process()[0] == 0:  # the one that writes
        rich.print(f"wrote {out}/model.keras")


@app.command()
def recipes():
    """List the recipes with their sources and what they reach."""
    name = rich.table.Column("name", no_wrap=True)  # it is what one types
    table = rich.table.Table(name, "model", "data", "top-1", "hardware", "source")
    for key, row in RECIPES.items():
        promise = row.promise
        facts = (promise.data, promise.accuracy, promise.hardware, promise.paper)
        table.add_row(key, row.preset, *facts)
    rich.print(table)


@app.command()
def evaluate(
    run: Run,
    data: Data,
    strict: Strict = False,
):
    """Measure the accuracy of a run; for 'digits' on the held-out images."""
    model, labels = open_run(run)
    dataset = open_source(data, held_out=True)
    if labels is not None:
        dataset = match_labels(dataset, labels)
    result = evaluate_model(model, dataset, strict=strict)
    print(
        f"accuracy {result['accuracy']:.4f}, loss {result['loss']:.4f} "
        f"on {result['images']} images"
    )


@app.command()
def predict(
    run: Run,
    files: Annotated[list[pathlib.Path], typer.Argument(help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to print.")] = 3,
):
    """Print the most probable classes of images."""
    model, labels = open_run(run)
    config = model.config
    labels = labels or [str(i) for i in range(model.output_shape[-1])]
    for file in files:
        pixels = pp.load_image(file, config.image_size, config.preprocessing)
        inputs = pp.normalize(pixels[None], config.preprocessing)
        outputs = np.asarray(model.predict_on_batch(inputs))
        shares = np.exp(log_probabilities(outputs, config.activation))[0]
        best = np.argsort(-shares)[:top]
        print(f"{file}: " + ", ".join(f"{labels[i]} {shares[i]:.1%}" for i in best))


def open_run(path):
    """Model and labels (None without labels.txt) of a run folder or `.keras` file."""
    path = pathlib.Path(path)
    file = path / "model.keras" if path.is_dir() else path
    model = open_model(file)
    config = getattr(model, "config", None)
    if config is None or not config.include_top or model.task != "classify":
        raise ValueError(f"'{file}' is no classifier of this package")
    labels = file.with_name("labels.txt")
    return model, labels.read_text(
        encoding="utf-8"
    ).splitlines() if labels.is_file() else None


def match_labels(dataset, labels):
    """Number the classes of a folder as the model does."""
    unknown = sorted(set(dataset.classes) - set(labels))
    if unknown:
        raise ValueError(
            f"`data` must hold classes of the model ({', '.join(labels[:5])} ...); "
            f"unknown: {', '.join(unknown)}"
        )
    numbers = np.array([labels.index(name) for name in dataset.classes])
    return dataclasses.replace(
        dataset, labels=numbers[dataset.labels], classes=tuple(labels)
    )


def read_recipe(name):
    """The recipe of a name, or in a JSON file."""
    if name in RECIPES:
        return RECIPES[name]
    path = pathlib.Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"`--recipe` must be one of {', '.join(RECIPES)}, or a recipe.json. "
            f"Received: {name}"
        )
    try:
        return Recipe(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:  # no JSON, or other names
        raise ValueError(f"'{path}' holds no recipe: {error}") from error


def read_setting(text):
    """`"mixup=0.2"` as ("mixup", 0.2); what is no JSON is a word."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"`--set` must be FIELD=VALUE. Received: {text}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main():
    """Run, and turn expected errors into one line and exit status 2."""
    try:
        app()
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"vit-keras: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)

"""`vit-keras train`, `evaluate` and `predict`."""

import pathlib
import sys
from typing import Annotated

import typer

from .options import check_task, read_recipe, read_setting, read_size, read_taps

Run = Annotated[
    pathlib.Path, typer.Argument(help="A folder from `train`, or a .keras file.")
]
Data = Annotated[
    str,
    typer.Option(
        help="'digits', a folder of class folders, alone or in train, val and test, "
        "a .csv or .jsonl table of files and labels, an .npz file, "
        "'tfds:NAME[:SPLIT]' or 'grain:MODULE:ATTRIBUTE'; for the tasks segment and "
        "depth a folder of images and masks or depths, COCO's .json, or an .npz file."
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
Task = Annotated[
    str,
    typer.Option(
        help="'classify' images, 'segment' (a class at each pixel) or 'depth' (a "
        "distance at each pixel)."
    ),
]


def train_command(
    data: Data,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the results.")],
    task: Task = "classify",
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
        str | None,
        typer.Option(
            help="Input height and width in pixels, a number such as 224, or two such "
            f"as 252x336. {FROM_RECIPE}"
        ),
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(
            help="From tokens to pixels: 'linear', 'upconv', 'mask', 'dpt' or 'eomt'. "
            f"{FROM_RECIPE}"
        ),
    ] = None,
    taps: Annotated[
        str | None,
        typer.Option(
            help="Blocks that the decoder reads: their number, or indices such as "
            f"2,5,8,11. {FROM_RECIPE}"
        ),
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
            help="'backbone' trains the head or decoder only, a number N freezes the "
            f"first N blocks. {FROM_RECIPE}"
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
    """Train a model, from scratch or from weights.

    Writes model.keras, labels.txt, recipe.json, history.csv.

    An interrupted run resumes when the same command is given again.
    """
    from ..training.recipes import default_recipe

    base = read_recipe(recipe or default_recipe(data, weights, check_task(task)))
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
        model["image_size"] = read_size(image_size)
    if decoder is not None:
        model["decoder"] = decoder
    if taps is not None:
        model["taps"] = read_taps(taps)
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
            task=task,
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


def evaluate_command(
    run: Run,
    data: Data,
    part: Annotated[
        str | None,
        typer.Option(
            help="Of the data: train, validation or test. Default: test, else "
            "validation."
        ),
    ] = None,
    strict: Strict = False,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Folder for pictures of the worst images, truth and prediction; for "
            "the tasks segment and depth."
        ),
    ] = None,
):
    """Measure accuracy, or error, of a run; for 'digits' on the held-out images."""
    from ..training.dense_evaluation import IOU
    from ..training.evaluation import evaluate
    from .tables import escaped, new_table, print_table

    result = evaluate(run, data, part=part, strict=strict, out=out)
    number = result.pop("images")
    classes = {name: result.pop(name) for name in list(result) if name.startswith(IOU)}
    if classes:
        table = new_table("class", "IoU")
        for name, value in classes.items():
            table.add_row(*escaped(name.removeprefix(IOU), f"{value:.4f}"))
        print_table(table)
    found = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in result.items()]
    print(f"{', '.join(found)} on {number} images")


def predict_command(
    run: Run,
    files: Annotated[list[pathlib.Path], typer.Argument(help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 3,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Folder for masks or depths; for the tasks segment and depth."
        ),
    ] = None,
):
    """Print the most probable classes of images, all probable labels, or values.

    A segmentation or depth model writes its maps, and pictures of them, to --out.
    """
    import numpy as np

    from .. import preprocessing as pp
    from ..heads import HEADS
    from ..model_file import open_trained
    from .answers import describe_outputs
    from .map_answers import write_maps

    model, labels = open_trained(run)
    config = model.config
    if HEADS[config.head].dense != (out is not None):
        needed = "must be a folder" if out is None else "must not be given"
        raise ValueError(
            f"`--out` {needed} for a model of the head {config.head}. Received: {out}"
        )
    if out is not None:
        write_maps(model, labels, files, out)
        return
    for file in files:
        pixels = pp.load_image(file, config.image_size, config.preprocessing)
        inputs = pp.normalize(pixels[None], config.preprocessing)
        outputs = np.asarray(model.predict_on_batch(inputs))
        answer = describe_outputs(outputs[0], labels, config, top)
        print(f"{file}: {answer}")

"""`train`: the training run, from data and recipe to the files of a run."""

import contextlib
import json
import os
import pathlib
import shutil
from typing import Any

import keras
from rich.console import Console

from .. import data as images
from ..atomic import remove_leftovers, sole_writer
from ..heads import DENSE, HEADS
from ..network import VisionTransformer
from .callbacks import TensorBoard
from .checkpoint import (
    FOLDER,
    check_room,
    find_last,
    write_csv,
)
from .class_weights import imbalance
from .dense_evaluation import score_maps
from .dense_page import map_sections
from .devices import (
    distribute,
    dtype_policy,
    predictor,
    resolve_devices,
)
from .evaluation import batches_for, read
from .fitting import BATCH, BEST, fit_resumable, held_out_outputs
from .frozen_tokens import fit_on_tokens, keeps_tokens
from .head_checks import check_objective
from .objective import freeze, open_teacher, start_at_distance, start_at_mean
from .opening import open_data
from .page import make_page
from .probe import fit_probe
from .processes import init_processes, process_index, undistributed
from .recipe import Recipe
from .recipes import RECIPES, default_recipe
from .run_files import write_run
from .start import open_start
from .steps import check_devices
from .stream import Stream


def train(
    data: Any,
    recipe: Recipe | str | None = None,
    *,
    out: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    task: str | None = None,
    strict: bool = False,
    overwrite: bool = False,
    devices: int | None = None,
    model_parallel: int = 1,
    tensorboard: bool = False,
    console: Console | None = None,
) -> VisionTransformer:
    """Train a model and write the run to a folder.

    The head is that of the data's labels, or the recipe's `model["head"]`: "sigmoid"
    and "multi_label" also take data of classes.

    `out` receives `model.keras`, `labels.txt` (a class per line), `recipe.json`,
    `history.csv`, and `report.html` (curves, confusion matrix, largest mistakes).
    `model.keras` has the last weights, with `patience` the best ones; if images were
    held out, `best.keras` has those of the best validation metric (that of the head in
    `HEADS`). A killed run leaves checkpoints there, and the same call resumes from the
    last one, to the same weights. For several processes see `processes.py`.

    Arguments:
        data: a source of `data.open_source`: "digits", a folder of class folders, a
            table, arrays, names such as "tfds:mnist", data sets of Grain, PyTorch,
            tf.data; for "segment" and "depth" a folder of pairs, COCO's JSON, arrays. A
            validation part of it takes the place of the recipe's `validation_split`.
        recipe: a `Recipe`, or a name in `RECIPES`; None is "segment" or "depth" for the
            tasks of that name, else "digits" for the digits and "folder" for anything
            else, or "finetune" if there are `weights`.
        out: folder to write to; created if missing.
        weights: initial checkpoint, instead of the recipe's: a file or folder as in
            `load_weights`, a name in `PUBLISHED`, or the folder of an earlier run.
            Its settings (GELU, epsilon, pooling, preprocessing), and without a preset
            its sizes, are used. See `start.open_start` for its head.
        task: "classify", "segment" or "depth", see `create_model`; None is that of the
            data's labels, for a `Dataset`, else "classify".
        strict: fail on unreadable images, duplicates and other files instead of naming
            them.
        overwrite: replace an earlier run in `out`, finished or not.
        devices: number of devices that share each batch, of all processes together;
            None means one, or with several processes all.
        model_parallel: number of devices that share one copy of the weights; on JAX.
        tensorboard: whether to write `out/tensorboard` as well.
        console: for messages and progress; None means the terminal.

    Returns:
        The trained model.

    Raises:
        ValueError: data or recipe are invalid, or `out` has another recipe's run.
        FileNotFoundError: the folder of data, or the weights, do not exist.
        FileExistsError: `out` has a run and `overwrite` is not set.
        CheckpointError: `weights` cannot be read, or have other sizes.
        OSError: `out` cannot be written to, or has too little space.
        FloatingPointError: the loss is NaN or infinite.
    """
    if task is None:
        task = HEADS[data.head].task if isinstance(data, images.Dataset) else "classify"
    if task not in ("classify", *DENSE):
        raise ValueError(
            f"`task` must be one of classify, {', '.join(DENSE)}. "
            f"Received: task={task!r}"
        )
    recipe = _named_recipe(recipe, data, weights, task)
    if weights is not None:
        recipe = recipe.replace(weights=os.fspath(weights))
    if tensorboard and recipe.probe_rates is not None:
        raise ValueError(
            "`tensorboard` must be False for a probe, which has no steps to log. "
            f"Received: tensorboard=True, probe_rates={recipe.probe_rates}"
        )
    index, _ = init_processes()
    console = Console(quiet=True) if index else console or Console()
    out = pathlib.Path(out)
    if (out / "model.keras").exists() and not overwrite:
        remove_leftovers(out)  # of a process that was killed at its very end
        raise FileExistsError(
            f"'{out}' holds a run already; choose another folder, or overwrite it "
            "(overwrite=True, --overwrite)"
        )
    splits = open_data(data, strict, console, task=task)
    head = recipe.model.get("head")
    dataset = images.with_head(splits.part(held_out=False), head)
    validation = splits.validation
    if validation is not None:
        validation = images.with_head(validation, head)
    check_objective(recipe, dataset.head)
    _check_lines(dataset.classes)
    start = open_start(recipe, dataset.classes, dataset.head)
    config = start.config
    devices = resolve_devices(devices, model_parallel, config)
    alone = contextlib.nullcontext() if index else sole_writer(out, "each run")
    with alone:
        more = [TensorBoard(out / "tensorboard")] if tensorboard and not index else []
        last = None if overwrite else find_last(out)
        if last is not None and not _same(last[1]["recipe"], recipe):
            raise ValueError(
                f"`out` must be another folder, or overwrite be set: '{out}' holds the "
                "checkpoint of another recipe"
            )
        policy = dtype_policy(recipe.precision)
        with policy, distribute(devices, model_parallel):
            # Check everything that may fail before the images are read.
            keras.utils.set_random_seed(recipe.seed)
            model = start.build(recipe.preset or "vit")
            freeze(model, recipe.freeze)
            if start.said:
                console.print(start.said, markup=False, soft_wrap=True)
            if index == 0:
                check_room(out, model)
            with undistributed():  # threads call it, without other processes
                teacher = open_teacher(recipe, config)
            training, validation = _open(
                dataset, validation, recipe, config, strict, console
            )
            check_devices(recipe, len(training), devices, model_parallel)
            if dataset.head == "regression":
                if warning := start_at_mean(model, images.targets(training)):
                    console.print(warning, style="yellow")
            elif dataset.head == "depth":
                start_at_distance(model, training)
            if overwrite and index == 0:
                shutil.rmtree(out / FOLDER, ignore_errors=True)
                (out / BEST).unlink(missing_ok=True)
            shard = process_index()
            if recipe.probe_rates is not None:
                history = fit_probe(model, training, validation, recipe, console)
                write_csv(out / "history.csv", history)
            elif HEADS[config.head].dense and keeps_tokens(recipe, devices):
                history = fit_on_tokens(
                    model, training, validation, recipe, out, last, console, more
                )
            else:
                stream = Stream(training, config, recipe, teacher=teacher, shard=shard)
                held_out = batches_for(model, validation, BATCH) if validation else None
                history = fit_resumable(
                    model, stream, held_out, out, last, devices, console, more
                )
            page = _page(model, history, validation, console)
        texts = {
            "report.html": page,
            "recipe.json": _json(recipe) + "\n",
            "labels.txt": "\n".join(dataset.classes) + "\n",
        }
        write_run(out, model, texts)
    return model


def _page(model, history, validation, console):
    """Return `report.html`, in every process, because all compute the outputs."""
    config = model.config
    if validation is None or not HEADS[config.head].dense:
        outputs = held_out_outputs(model, validation) if validation else None
        return make_page(config, history, validation, outputs)
    found = score_maps(model, validation, BATCH, console, predictor(model))
    sections = map_sections(model, validation, found)
    return make_page(config, history, validation, sections=sections)


def _named_recipe(recipe, data, weights, task):
    """Return a `Recipe`, by name, or the default one."""
    if isinstance(recipe, Recipe):
        return recipe
    recipe = recipe or default_recipe(data, weights, task)
    if recipe not in RECIPES:
        raise ValueError(
            f"`recipe` must be a Recipe or one of {', '.join(RECIPES)}. "
            f"Received: recipe={recipe!r}"
        )
    return RECIPES[recipe]


def _open(dataset, validation, recipe, config, strict, console):
    """Read all images once; return those to train on and those held out, or None."""
    # A random part needs the whole photograph.
    keep_pixels = recipe.crop is None and recipe.scale is None
    training = read(dataset, config, strict, console, keep_pixels)
    number = len(training)
    if validation is not None:
        validation = read(validation, config, strict, console)
        number += len(validation)
    elif recipe.validation_split:
        parts = images.split(training, recipe.validation_split, recipe.seed)
        training, validation = parts[0], parts[1] if len(parts[1]) else None
    if recipe.patience is not None and validation is None:
        raise ValueError(
            "`patience` must be None: no image can be held out for it, because each "
            f"class has one. Received: patience={recipe.patience}"
        )
    console.print(
        f"{number} images in {len(training.classes)} "
        f"{HEADS[training.head].things}, {len(training)} to train on"
    )
    if line := imbalance(training):
        console.print(line, markup=False, soft_wrap=True)
    return training, validation


def _check_lines(names):
    """Refuse names of classes that `labels.txt` cannot hold, a line each."""
    broken = [name for name in names if len(name.splitlines()) > 1]
    if broken:
        raise ValueError(
            "`data` must have class names of one line each. Received: "
            f"{', '.join(map(repr, broken))}"
        )


def _same(stored, recipe):
    """Whether a recipe is that of a checkpoint, also of an earlier release."""
    return _json(Recipe.from_dict(stored)) == _json(recipe)


def _json(recipe):
    return json.dumps(recipe.to_dict(), indent=2)

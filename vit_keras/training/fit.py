"""The training run: data, recipe, `fit`, and what is left on disk."""

import json
import os
import pathlib
import shutil
from typing import Any

import keras
from rich.console import Console

from .. import data as images
from ..atomic import publishing
from ..data.sources import open_source
from ..model import configure, create_model
from ..network import VisionTransformer
from .callbacks import InputSpeed, StopOnNaN, TensorBoard, Validate
from .checkpoint import (
    FOLDER,
    SaveCheckpoint,
    check_room,
    check_writable,
    find_last,
    restore,
)
from .devices import distribute, dtype_policy, resolve_devices, training_input
from .evaluation import read
from .objective import compiled, freeze, open_teacher
from .processes import barrier, init_processes, process_index, undistributed
from .progress import ProgressBar, new_bar
from .recipe import Recipe
from .recipes import RECIPES
from .steps import check_devices, checkpoint_intervals, images_per_step
from .stream import Stream

# Weights with the best validation accuracy, until the end.
BEST = "best.weights.h5"


def train(
    data: Any,
    recipe: Recipe | str | None = None,
    *,
    out: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    strict: bool = False,
    overwrite: bool = False,
    devices: int | None = None,
    model_parallel: int = 1,
    tensorboard: bool = False,
    console: Console | None = None,
) -> VisionTransformer:
    """Train a classifier and leave the run in a folder.

    `out` receives `model.keras`, `labels.txt` (a class per line), `recipe.json` and
    `history.csv`. `model.keras` has the last weights, with `patience` the best ones;
    where images were held out, `best.keras` has those of the best validation accuracy.
    A run that was killed leaves checkpoints there, and the same call resumes from the
    last one, to the same weights. `processes.py` says how several processes do it.

    Arguments:
        data: what `data.open_source` takes: "digits", a folder of class folders,
            arrays, names such as "tfds:mnist", data sets of Grain, PyTorch, tf.data.
        recipe: how to train: a `Recipe`, or a name in `RECIPES`; None is "digits" for
            the digits and "folder" for anything else.
        out: folder to write to; made if missing.
        weights: a checkpoint to start from, as `create_model` takes it, in place of
            the recipe's. What it was trained with and the sizes do not say (GELU,
            epsilon, pooling, preprocessing) comes from it.
        strict: fail on an unreadable image instead of leaving it out.
        overwrite: replace an earlier run in `out`, finished or not.
        devices: number of devices that share each batch, of all processes together;
            None means one, or with several processes all.
        model_parallel: devices that share one copy of the weights; on JAX.
        tensorboard: write `out/tensorboard` as well.
        console: for messages and progress; None means the terminal.

    Returns:
        The trained model.

    Raises:
        ValueError: data or recipe cannot work, or `out` holds another recipe's run.
        FileNotFoundError: no such folder of data, or no such weights.
        FileExistsError: `out` holds a run and `overwrite` is not set.
        CheckpointError: `weights` cannot be read, or are of another size.
        OSError: `out` cannot be written to, or has no room.
        FloatingPointError: the loss is no longer a number.
    """
    recipe = _named_recipe(recipe, data)
    if weights is not None:
        recipe = recipe.replace(weights=os.fspath(weights))
    index, _ = init_processes()
    console = Console(quiet=True) if index else console or Console()
    out = pathlib.Path(out)
    if (out / "model.keras").exists() and not overwrite:
        raise FileExistsError(
            f"'{out}' holds a run already; choose another folder, or overwrite it "
            "(overwrite=True, --overwrite)"
        )
    dataset = open_source(data)
    arguments = recipe.model_arguments(len(dataset.classes))
    config = configure(**arguments)
    devices = resolve_devices(devices, model_parallel, config)
    if index == 0:
        check_writable(out)
    more = [TensorBoard(out / "tensorboard")] if tensorboard and not index else []
    last = None if overwrite else find_last(out)
    if last is not None and last[1]["recipe"] != json.loads(_json(recipe)):
        raise ValueError(
            f"`out` must be another folder, or overwrite be set: '{out}' holds the "
            "checkpoint of another recipe"
        )
    policy = dtype_policy(recipe.precision)
    with policy, distribute(devices, model_parallel):
        # What can be wrong here is found before the images are read.
        keras.utils.set_random_seed(recipe.seed)
        model = create_model(name=recipe.preset, **arguments)
        freeze(model, recipe.train_last)
        if index == 0:
            check_room(out, model)
        with undistributed():  # threads ask it, which wait for no other process
            teacher = open_teacher(recipe, config)
        training, validation = _open(dataset, recipe, config, strict, console)
        check_devices(recipe, len(training), devices, model_parallel)
        if overwrite and index == 0:
            shutil.rmtree(out / FOLDER, ignore_errors=True)
            (out / BEST).unlink(missing_ok=True)
        shard = process_index()
        stream = Stream(training, config, recipe, teacher=teacher, shard=shard)
        _fit_resumable(model, stream, validation, out, last, devices, console, more)
    _write(out / "recipe.json", _json(recipe) + "\n")
    _write(out / "labels.txt", "\n".join(dataset.classes) + "\n")
    if (out / BEST).is_file():
        last_weights = model.get_weights()
        model.load_weights(out / BEST)
        _save(model, out / "best.keras")
        model.set_weights(last_weights)
    _save(model, out / "model.keras")  # the last one: where it is, the run is over
    barrier()  # until all have read, and all is written
    if index == 0:
        (out / BEST).unlink(missing_ok=True)
        shutil.rmtree(out / FOLDER, ignore_errors=True)
    barrier()
    return model


def _named_recipe(recipe, data):
    """A `Recipe`, of its name or of what there is to learn."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe is None:
        recipe = "digits" if isinstance(data, str) and data == "digits" else "folder"
    if recipe not in RECIPES:
        raise ValueError(
            f"`recipe` must be a Recipe or one of {', '.join(RECIPES)}. "
            f"Received: recipe={recipe!r}"
        )
    return RECIPES[recipe]


def _open(dataset, recipe, config, strict, console):
    """The images to train on and those held out, or None; all of them are read once."""
    keep_pixels = recipe.crop is None  # a random crop needs the whole photograph
    dataset = read(dataset, config, strict, console, keep_pixels)
    training, validation = dataset, None
    if recipe.validation_split:
        parts = images.split(dataset, recipe.validation_split, recipe.seed)
        training, validation = parts[0], parts[1] if len(parts[1]) else None
    if recipe.patience is not None and validation is None:
        raise ValueError(
            "`patience` must be None: no image can be held out for it, because each "
            f"class has one. Received: patience={recipe.patience}"
        )
    console.print(
        f"{len(dataset)} images in {len(dataset.classes)} classes, "
        f"{len(training)} to train on"
    )
    return training, validation


def _fit_resumable(model, stream, validation, out, last, devices, console, more):
    """Fit from the last checkpoint if there is one, and write checkpoints."""
    recipe = stream.recipe
    steps, _ = checkpoint_intervals(recipe, len(stream.dataset))
    fitted = compiled_for(model, stream)
    state = {"interval": 0, "history": [], "recipe": json.loads(_json(recipe))}
    if last is not None:
        folder, state = last
        restore(fitted, folder, state)
        console.print(f"resuming from step {state['interval'] * steps}")
    held_out = _whole(validation, model.config) if validation else None
    watch, best = StopOnNaN(steps, state), out / BEST
    if not state.get("finished"):
        batch = images_per_step(recipe, len(stream.dataset))
        fit_stream(
            fitted,
            stream,
            console,
            watch,
            [
                InputSpeed(stream, steps * batch, console.print),
                Validate(model, held_out, best, state, recipe.patience, watch),
            ],
            [*more, SaveCheckpoint(out, state, watch)],
            first=state["interval"],
            devices=devices,
        )
    barrier()  # for what process 0 has written
    if recipe.patience is not None and best.is_file():
        with undistributed():
            model.load_weights(best)


def compiled_for(model, stream: Stream):
    """The model to fit on a stream, with its losses and optimizer."""
    steps, intervals = checkpoint_intervals(stream.recipe, len(stream.dataset))
    return compiled(model, stream.recipe, steps * intervals // stream.recipe.accumulate)


def fit_stream(
    fitted, stream, console, watch, before=(), after=(), first=0, devices=None
) -> keras.callbacks.History:
    """`fit` on a stream with a progress bar: the one training loop.

    Arguments:
        fitted: of `compiled_for`.
        stream: the `Stream`.
        console: where the bar goes.
        watch: a `StopOnNaN`.
        before, after: callbacks that come before and after the bar.
        first: interval to begin with; each is an epoch of `fit`.
        devices: that share a batch, or None.

    Raises:
        FloatingPointError: the loss is no longer a number.
    """
    recipe, number = stream.recipe, len(stream.dataset)
    steps, intervals = checkpoint_intervals(recipe, number)
    with new_bar(console) as bar:
        progress = ProgressBar(bar, steps, images_per_step(recipe, number), first)
        history = fitted.fit(
            training_input(stream, first * steps, devices),
            steps_per_epoch=steps,
            shuffle=False,  # the stream has its own order
            epochs=intervals,
            initial_epoch=first,
            verbose=0,
            callbacks=[watch, *before, progress, *after],
        )
    if watch.message:
        raise FloatingPointError(watch.message)
    return history


def _json(recipe):
    return json.dumps(recipe.to_dict(), indent=2)


def _whole(dataset, config):
    return images.Batches(dataset, config.image_size, config.preprocessing, 256)


def _save(model, path):
    if process_index()[0]:
        return
    with publishing(path) as work:
        model.save(work, include_optimizer=False)


def _write(path, text):
    if process_index()[0]:
        return
    with publishing(path) as work:
        work.write_text(text, encoding="utf-8")

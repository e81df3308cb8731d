"""The training run: data, recipe, `fit`, and what is left on disk."""

import json
import pathlib
import shutil

import keras
from rich.console import Console

from .. import data as images
from ..atomic import staged
from ..data.sources import open_source
from ..model import VisionTransformer, create_model
from .callbacks import InputSpeed, StopOnNaN, TensorBoard, Validate
from .checkpoint import (
    FOLDER,
    Checkpoint,
    check_room,
    check_writable,
    find_last,
    restore,
)
from .devices import choose, feed, precision, spread
from .evaluate import read
from .objective import compiled, freeze, open_teacher
from .processes import alone, process, start, wait
from .progress import ProgressBar, new_bar
from .recipe import Recipe
from .steps import batch_size, check_devices, configure, plan
from .stream import Stream

# Weights with the best validation accuracy, until the end.
BEST = "best.weights.h5"


def train(
    data,
    recipe: Recipe,
    out,
    *,
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
    A run that was killed leaves checkpoints there, and the same call goes on from the
    last one, to the same weights. `processes.py` says how several processes do it.

    Arguments:
        data: what `sources.open_source` takes: "digits", a folder of class folders,
            arrays, names such as "tfds:mnist", data sets of Grain, PyTorch, tf.data.
        recipe: how to train.
        out: folder to write to; made if missing.
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
        ValueError: data or recipe can not work, or `out` holds another recipe's run.
        FileNotFoundError: no such folder of data.
        FileExistsError: `out` holds a run and `overwrite` is not set.
        OSError: `out` can not be written to, or has no room.
        FloatingPointError: the loss is no longer a number.
    """
    index, _ = start()
    console = Console(quiet=True) if index else console or Console()
    out = pathlib.Path(out)
    if (out / "model.keras").exists() and not overwrite:
        raise FileExistsError(f"'{out}' holds a run already; choose another folder")
    dataset = open_source(data)
    config = configure(recipe, len(dataset.classes))
    devices = choose(devices, model_parallel, config)
    if index == 0:
        check_writable(out)
    more = [TensorBoard(out / "tensorboard")] if tensorboard and not index else []
    last = None if overwrite else find_last(out)
    if last is not None and last[1]["recipe"] != json.loads(_json(recipe)):
        raise ValueError(
            f"`out` must be another folder, or overwrite be set: '{out}' holds the "
            "checkpoint of another recipe"
        )
    with precision(recipe.precision), spread(devices, model_parallel):
        # What can be wrong here is found before the images are read.
        keras.utils.set_random_seed(recipe.seed)
        model = create_model(config, name=recipe.preset, weights=recipe.weights)
        freeze(model, recipe.train_last)
        if index == 0:
            check_room(out, model)
        with alone():  # threads ask it, which do not wait for those of other processes
            teacher = open_teacher(recipe, config)
        training, validation = _open(dataset, recipe, config, strict, console)
        check_devices(recipe, len(training), devices, model_parallel)
        if overwrite and index == 0:
            shutil.rmtree(out / FOLDER, ignore_errors=True)
            (out / BEST).unlink(missing_ok=True)
        stream = Stream(training, config, recipe, teacher=teacher, shard=process())
        _fit(model, stream, validation, out, last, devices, console, more)
    _write(out / "recipe.json", _json(recipe) + "\n")
    _write(out / "labels.txt", "\n".join(dataset.classes) + "\n")
    if (out / BEST).is_file():
        last_weights = model.get_weights()
        model.load_weights(out / BEST)
        _save(model, out / "best.keras")
        model.set_weights(last_weights)
    _save(model, out / "model.keras")  # the last one: where it is, the run is over
    wait()  # until all have read, and all is written
    if index == 0:
        (out / BEST).unlink(missing_ok=True)
        shutil.rmtree(out / FOLDER, ignore_errors=True)
    wait()
    return model


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


def _fit(model, stream, validation, out, last, devices, console, more):
    """`model.fit` in segments, from the last checkpoint if there is one."""
    recipe, number = stream.recipe, len(stream.dataset)
    steps, segments = plan(recipe, number)
    images_per_step = batch_size(recipe, number)
    fitted = compiled(model, recipe, steps * segments // recipe.accumulate)
    state = {"segment": 0, "history": [], "recipe": json.loads(_json(recipe))}
    if last is not None:
        folder, state = last
        restore(fitted, folder, state)
        console.print(f"going on after step {state['segment'] * steps}")
    held_out = _whole(validation, model.config) if validation else None
    watch, best = StopOnNaN(steps, state), out / BEST
    if not state.get("finished"):
        with new_bar(console) as bar:
            fitted.fit(
                feed(stream, state["segment"] * steps, devices),
                steps_per_epoch=steps,
                shuffle=False,  # the stream has its own order
                epochs=segments,
                initial_epoch=state["segment"],
                verbose=0,
                callbacks=[
                    watch,
                    InputSpeed(stream, steps * images_per_step, console.print),
                    Validate(model, held_out, best, state, recipe.patience, watch),
                    ProgressBar(bar, steps, images_per_step, state["segment"]),
                    *more,
                    Checkpoint(out, state, watch),
                ],
            )
    if watch.message:
        raise FloatingPointError(watch.message)
    wait()  # for what process 0 has written
    if recipe.patience is not None and best.is_file():
        with alone():
            model.load_weights(best)


def _json(recipe):
    return json.dumps(recipe.to_dict(), indent=2)


def _whole(dataset, config):
    return images.Batches(dataset, config.image_size, config.preprocessing, 256)


def _save(model, path):
    if process()[0]:
        return
    with staged(path) as beside:
        model.save(beside, include_optimizer=False)


def _write(path, text):
    if process()[0]:
        return
    with staged(path) as beside:
        beside.write_text(text, encoding="utf-8")

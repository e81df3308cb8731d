"""The training run: data, recipe, `fit`, and what is left on disk."""

import contextlib
import json
import os
import pathlib
import shutil
import threading

import keras
import numpy as np
from rich.console import Console

from .. import data as images
from ..config import ViTConfig
from ..layers import EncoderBlock
from ..model import VisionTransformer, create_model, open_model
from ..presets import get_config
from .checkpoint import FOLDER, Checkpoint, check_room, find_last, restore
from .devices import feed, on_accelerator, spread
from .optimizers import make_optimizer
from .progress import ProgressBar, new_bar
from .recipe import Recipe
from .stream import Stream
from .watch import InputSpeed, StopOnNaN, Validate


def train(
    data,
    recipe: Recipe,
    out,
    *,
    strict: bool = False,
    overwrite: bool = False,
    devices: int | None = None,
    console: Console | None = None,
) -> VisionTransformer:
    """Train a classifier and leave the run in a folder.

    `out` receives `model.keras`, `labels.txt` (a class per line), `recipe.json` and
    `history.csv`. A run that was killed leaves checkpoints there, and the same call
    goes on from the last one, to the same weights.

    Arguments:
        data: "digits", a folder of class folders, or a `data.Dataset`.
        recipe: how to train.
        out: folder to write to; made if missing.
        strict: fail on an unreadable image instead of leaving it out.
        overwrite: replace an earlier run in `out`, finished or not.
        devices: number of devices that share each batch; None means one.
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
    console = console or Console()
    out = pathlib.Path(out)
    if (out / "model.keras").exists() and not overwrite:
        raise FileExistsError(f"'{out}' holds a run already; choose another folder")
    dataset = open_data(data)
    config = configure(recipe, len(dataset.classes))
    out.mkdir(parents=True, exist_ok=True)
    last = None if overwrite else find_last(out)
    if last is not None and last[1]["recipe"] != json.loads(_json(recipe)):
        raise ValueError(
            f"`out` must be another folder, or overwrite be set: '{out}' holds the "
            "checkpoint of another recipe"
        )
    keep_pixels = recipe.crop is None  # a random crop needs the whole photograph
    dataset = read(dataset, config, strict, console, keep_pixels)
    training, validation = dataset, None
    if recipe.validation_split:
        training, validation = images.split(
            dataset, recipe.validation_split, recipe.seed
        )
    console.print(
        f"{len(dataset)} images in {len(dataset.classes)} classes, "
        f"{len(training)} to train on"
    )
    if devices and (recipe.batch_size // recipe.accumulate) % devices:
        raise ValueError(
            "`batch_size` / `accumulate` must be a multiple of `devices`. Received: "
            f"batch_size={recipe.batch_size}, accumulate={recipe.accumulate}, "
            f"devices={devices}"
        )
    with precision(recipe.precision), spread(devices):
        keras.utils.set_random_seed(recipe.seed)
        model = create_model(config, name=recipe.preset, weights=recipe.weights)
        freeze(model, recipe.train_last)
        check_room(out, model)
        _fit(
            *(model, recipe, training, validation, out, last),
            *(overwrite, devices, console),
        )
    _write(out / "recipe.json", _json(recipe) + "\n")
    _write(out / "labels.txt", "\n".join(dataset.classes) + "\n")
    with _staged(out / "model.keras") as staged:
        model.save(staged, include_optimizer=False)
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    (out / BEST).unlink(missing_ok=True)
    return model


BEST = "best.weights.h5"


def _fit(model, recipe, training, validation, out, last, overwrite, devices, console):
    """`model.fit` in segments, from the last checkpoint if there is one."""
    if overwrite:
        shutil.rmtree(out / FOLDER, ignore_errors=True)
        (out / BEST).unlink(missing_ok=True)
    steps, segments = plan(recipe, len(training))
    micro = min(recipe.batch_size // recipe.accumulate, len(training))
    fitted = compiled(model, recipe, steps * segments // recipe.accumulate)
    state = {"segment": 0, "history": [], "recipe": json.loads(_json(recipe))}
    if last is not None:
        folder, state = last
        restore(fitted, folder, state)
        console.print(f"going on after step {state['segment'] * steps}")
    stream = Stream(
        training,
        model.config,
        recipe,
        teacher=open_teacher(recipe),
    )
    held_out = _whole(validation, model.config) if validation else None
    watch, best = StopOnNaN(steps), out / BEST
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
                    InputSpeed(stream, steps * micro, console.print),
                    Validate(model, held_out, best, state, recipe.patience),
                    ProgressBar(bar, state["segment"]),
                    Checkpoint(out, state, watch),
                ],
            )
    if watch.message:
        raise FloatingPointError(watch.message)
    if recipe.patience is not None and best.is_file():
        model.load_weights(best)


def plan(recipe: Recipe, number: int) -> tuple[int, int]:
    """Batches of a segment, and segments of the run.

    A segment is what lies between two checkpoints: a pass over the data, or an equal
    part of one that is longer than `checkpoint_steps`.
    """
    each = max(number // (recipe.batch_size // recipe.accumulate), 1)
    parts = -(-each // (recipe.checkpoint_steps * recipe.accumulate))
    total = (recipe.steps or 0) * recipe.accumulate or each * recipe.epochs
    steps = min(-(-each // parts), total)
    return steps, -(-total // steps)


def configure(recipe: Recipe, classes: int) -> ViTConfig:
    """The model of a recipe."""
    given = {**recipe.model, "classes": classes, "activation": "linear"}
    return get_config(recipe.preset).replace(**given)


@contextlib.contextmanager
def precision(name: str):
    """Keras' dtype policy for what is built inside."""
    if name == "auto":
        name = "mixed_bfloat16" if on_accelerator() else "float32"
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def freeze(model, train_last: int | None) -> None:
    """Train only the last blocks, the last norm and the head.

    Raises:
        ValueError: more blocks than there are.
    """
    if train_last is None:
        return
    blocks = [layer for layer in model.layers if isinstance(layer, EncoderBlock)]
    if train_last > len(blocks):
        raise ValueError(
            f"`train_last` must be at most {len(blocks)}, the number of blocks. "
            f"Received: train_last={train_last}"
        )
    first = blocks[len(blocks) - train_last].name if train_last else "encoder_norm"
    for layer in model.layers:
        if layer.name == first:
            break
        layer.trainable = False
    if not train_last:  # a linear probe: the features stay as they are
        for name in ("encoder_norm", "fc_norm", "pooling", "pre_logits"):
            if name in (layer.name for layer in model.layers):
                model.get_layer(name).trainable = False


def compiled(model, recipe: Recipe, total_steps: int):
    """The model to fit: with a teacher, one of two outputs and two losses.

    A model with a distillation token learns the teacher at that token's head, any
    other at its one head (arXiv 2012.12877).
    """
    if recipe.loss == "sigmoid":
        loss = keras.losses.BinaryCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        )
    else:
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        )
    optimizer = make_optimizer(recipe, total_steps, model)
    if recipe.teacher is None:
        model.compile(optimizer, loss, metrics=["accuracy"])
        fitted = model
    else:
        distilled = model.config.distillation_token
        head = model.get_layer("head").output
        other = model.get_layer("head_dist").output if distilled else head
        scaled = keras.layers.Rescaling(1 / recipe.temperature, dtype="float32")
        fitted = keras.Model(model.input, {"label": head, "teacher": scaled(other)})
        share = recipe.distillation_weight
        soft = keras.losses.CategoricalCrossentropy(from_logits=True)
        fitted.compile(
            optimizer,
            {"label": loss, "teacher": soft},
            loss_weights={
                "label": 1 - share,
                "teacher": share * recipe.temperature**2,
            },
            metrics={"label": ["accuracy"]},
        )
    fitted.optimizer.build(fitted.trainable_variables)
    return fitted


def open_teacher(recipe: Recipe):
    """Function from images to what the student is to answer, or None."""
    if recipe.teacher is None:
        return None
    teacher = open_model(recipe.teacher)
    lock = threading.Lock()  # threads ask it, and on JAX a model answers one at a time

    def answer(batch):
        with lock:
            outputs = keras.ops.convert_to_numpy(teacher.predict_on_batch(batch))
        if recipe.distillation == "hard":
            return np.eye(outputs.shape[-1], dtype="float32")[outputs.argmax(-1)]
        scaled = outputs / recipe.temperature
        shares = np.exp(scaled - scaled.max(-1, keepdims=True))
        return (shares / shares.sum(-1, keepdims=True)).astype("float32")

    return answer


def _json(recipe):
    return json.dumps(recipe.to_dict(), indent=2)


def open_data(data, held_out: bool = False) -> images.Dataset:
    """What the user named as a `Dataset`; of the digits, one of the two parts."""
    if isinstance(data, images.Dataset):
        return data
    return images.digits()[held_out] if data == "digits" else images.folder(data)


def read(
    dataset, config: ViTConfig, strict, console, keep_pixels=True
) -> images.Dataset:
    """Read all images, with a bar; name the unreadable ones."""
    with new_bar(console, transient=True) as bar:
        task = bar.add_task("reading images", total=len(dataset), text="")
        readable, bad = images.prepare(
            dataset,
            config.image_size,
            config.preprocessing,
            strict=strict,
            keep_pixels=keep_pixels,
            advance=lambda: bar.advance(task),
        )
    for line in bad:
        console.print(f"skipped: {line}", style="yellow", markup=False, soft_wrap=True)
    if bad:
        console.print(f"{len(bad)} of {len(dataset)} files skipped", style="yellow")
    return readable


def evaluate(
    model,
    data,
    *,
    batch_size: int = 64,
    strict: bool = False,
    console: Console | None = None,
) -> dict[str, float]:
    """Top-1 accuracy and cross-entropy of a classifier.

    Arguments:
        model: a ViT of this package with a head, linear or softmax.
        data: "digits" (its held-out part), a folder of class folders, or a `Dataset`;
            its classes in the order of the model's outputs.
        batch_size: images per step.
        strict: fail on an unreadable image instead of leaving it out.
        console: for messages and progress; None means the terminal.

    Returns:
        {"images", "accuracy", "loss"}; the loss is the mean negative log-likelihood.

    Raises:
        ValueError: the number of classes differs from the model's.
    """
    dataset = open_data(data, held_out=True)
    if len(dataset.classes) != model.output_shape[-1]:
        raise ValueError(
            f"`data` must have the model's {model.output_shape[-1]} classes. "
            f"Received: {len(dataset.classes)} classes"
        )
    config = model.config
    dataset = read(dataset, config, strict, console or Console())
    batches = images.Batches(
        dataset, config.image_size, config.preprocessing, batch_size
    )
    outputs = np.concatenate(
        [np.asarray(model.predict_on_batch(batches[i][0])) for i in range(len(batches))]
    )
    log_likelihood = log_probabilities(outputs, config.activation)
    chosen = log_likelihood[np.arange(len(dataset)), dataset.labels]
    correct = outputs.argmax(axis=1) == dataset.labels
    return {
        "images": len(dataset),
        "accuracy": float(correct.mean()),
        "loss": float(-chosen.mean()),
    }


def log_probabilities(outputs, activation):
    """Logarithm of the classes' probabilities.

    Arguments:
        outputs: (N, C), of a head.
        activation: of this head, "linear" or "softmax".

    Returns:
        float64 array (N, C).

    Raises:
        ValueError: another activation, whose outputs are no distribution.
    """
    outputs = np.asarray(outputs, "float64")
    if activation == "softmax":
        return np.log(np.maximum(outputs, np.finfo("float64").tiny))
    if activation != "linear":
        raise ValueError(
            "`activation` must be 'linear' or 'softmax' to give probabilities. "
            f"Received: activation={activation!r}"
        )
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _whole(dataset, config):
    return images.Batches(dataset, config.image_size, config.preprocessing, 256)


def _write(path, text):
    with _staged(path) as staged:
        staged.write_text(text)


@contextlib.contextmanager
def _staged(path):
    """A path to write to that becomes `path` in one step, or leaves nothing."""
    staged = path.with_name(f".partial-{path.name}")
    try:
        yield staged
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)

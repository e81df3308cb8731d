"""The training run: data, recipe, `fit`, and what is left on disk."""

import contextlib
import json
import os
import pathlib

import keras
import numpy as np
from rich.console import Console

from .. import data as images
from ..config import ViTConfig
from ..model import VisionTransformer, create_model
from ..presets import get_config
from .augment import make_augment
from .optimizers import make_optimizer
from .progress import ProgressBar, new_bar
from .recipe import Recipe


def train(
    data,
    recipe: Recipe,
    out,
    *,
    strict: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> VisionTransformer:
    """Train a classifier and leave the run in a folder.

    `out` receives `model.keras`, `labels.txt` (a class per line), `recipe.json` and
    `history.csv`. They appear when the run has succeeded, the history during it.

    Arguments:
        data: "digits", a folder of class folders, or a `data.Dataset`.
        recipe: how to train.
        out: folder to write to; made if missing.
        strict: fail on an unreadable image instead of leaving it out.
        overwrite: replace an earlier run in `out`.
        console: for messages and progress; None means the terminal.

    Returns:
        The trained model.

    Raises:
        ValueError: data or recipe can not work.
        FileNotFoundError: no such folder of data.
        FileExistsError: `out` holds a run and `overwrite` is not set.
        OSError: `out` can not be written to.
        FloatingPointError: the loss is no longer a number.
    """
    console = console or Console()
    out = pathlib.Path(out)
    if (out / "model.keras").exists() and not overwrite:
        raise FileExistsError(f"'{out}' holds a run already; choose another folder")
    dataset = open_data(data)
    given = {**recipe.model, "classes": len(dataset.classes), "activation": "linear"}
    config = get_config(recipe.preset).replace(**given)
    out.mkdir(parents=True, exist_ok=True)
    dataset = read(dataset, config, strict, console)
    training, validation = dataset, None
    if recipe.validation_split:
        training, validation = images.split(
            dataset, recipe.validation_split, recipe.seed
        )
    console.print(
        f"{len(dataset)} images in {len(dataset.classes)} classes, "
        f"{len(training)} to train on"
    )

    keras.utils.set_random_seed(recipe.seed)
    model = create_model(config, name=recipe.preset)
    batches = images.Batches(
        training,
        config.image_size,
        config.preprocessing,
        recipe.batch_size,
        shuffle=True,
        augment=make_augment(recipe.shift, recipe.flip),
        seed=recipe.seed,
    )
    model.compile(
        make_optimizer(recipe, len(batches) * recipe.epochs),
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        metrics=["accuracy"],
    )
    watch = StopOnNaN()
    with new_bar(console) as bar:
        model.fit(
            batches,
            epochs=recipe.epochs,
            validation_data=_whole(validation, config) if validation else None,
            verbose=0,
            callbacks=[
                keras.callbacks.CSVLogger(str(out / "history.csv")),
                watch,
                ProgressBar(bar, len(training)),
            ],
        )
    if watch.message:
        raise FloatingPointError(watch.message)
    _write(out / "recipe.json", json.dumps(recipe.to_dict(), indent=2) + "\n")
    _write(out / "labels.txt", "\n".join(dataset.classes) + "\n")
    with _staged(out / "model.keras") as staged:
        model.save(staged)
    return model


class StopOnNaN(keras.callbacks.Callback):
    """End a run whose loss is no longer a number; `message` then says so."""

    message = ""

    def on_epoch_end(self, epoch, logs=None):
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss):
            self.message = (
                f"the loss became {loss} in epoch {epoch + 1}: use a smaller "
                "`learning_rate`, or more `warmup`"
            )
            self.model.stop_training = True


def open_data(data, held_out: bool = False) -> images.Dataset:
    """What the user named as a `Dataset`; of the digits, one of the two parts."""
    if isinstance(data, images.Dataset):
        return data
    return images.digits()[held_out] if data == "digits" else images.folder(data)


def read(dataset, config: ViTConfig, strict, console) -> images.Dataset:
    """Read all images, with a bar; name the unreadable ones."""
    with new_bar(console, transient=True) as bar:
        task = bar.add_task("reading images", total=len(dataset), text="")
        readable, bad = images.prepare(
            dataset,
            config.image_size,
            config.preprocessing,
            strict=strict,
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

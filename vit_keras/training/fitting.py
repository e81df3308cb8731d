"""Fitting on a stream, with checkpoints or without."""

import keras
import numpy as np

from .callbacks import InputSpeed, StopOnNaN, Validate
from .checkpoint import SaveCheckpoint, restore
from .devices import predictor, training_input
from .evaluation import outputs_on
from .objective import compiled
from .processes import barrier, undistributed
from .progress import ProgressBar, new_bar
from .steps import checkpoint_intervals, images_per_step
from .stream import Stream

# Weights with the best validation metric; deleted at the end.
BEST = "best.weights.h5"
BATCH = 256  # held-out images per step


def fit_resumable(
    model, stream, held_out, out, last, devices, console, more=(), part=None
) -> list[dict]:
    """Fit from the last checkpoint, if any, and write checkpoints; return history.

    Arguments:
        model: whose weights are kept.
        stream: the `Stream`.
        held_out: batches to validate on, or None.
        out: folder of the run.
        last: from `find_last`.
        devices: number of devices that share a batch, or None.
        console: for messages.
        more: callbacks.
        part: the part of the model that takes the stream's inputs, and is fitted; None
            for all of it.
    """
    recipe = stream.recipe
    steps, _ = checkpoint_intervals(recipe, len(stream.dataset))
    part = model if part is None else part
    fitted = compiled_for(part, stream)
    state = {"interval": 0, "history": [], "recipe": recipe.to_dict()}
    if last is not None:
        folder, state = last
        restore(fitted, folder, state)
        console.print(f"resuming from step {state['interval'] * steps}")
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
                Validate(model, held_out, best, state, recipe.patience, watch, part),
            ],
            [*more, SaveCheckpoint(out, state, watch)],
            first=state["interval"],
            devices=devices,
        )
    barrier()  # wait for the files of process 0
    if recipe.patience is not None and best.is_file():
        with undistributed():
            model.load_weights(best)
    return state["history"]


def compiled_for(model, stream: Stream):
    """Return the model to fit on a stream, compiled with losses and optimizer."""
    steps, intervals = checkpoint_intervals(stream.recipe, len(stream.dataset))
    total = steps * intervals // stream.recipe.accumulate
    return compiled(model, stream.recipe, total, stream.pixel_weights)


def fit_stream(
    fitted, stream, console, watch, before=(), after=(), first=0, devices=None
) -> keras.callbacks.History:
    """Fit a model on a stream, with a progress bar.

    Arguments:
        fitted: from `compiled_for`.
        stream: the `Stream`.
        console: for the progress bar.
        watch: a `StopOnNaN`.
        before, after: callbacks to run before and after the progress bar.
        first: interval to start with; each is an epoch of `fit`.
        devices: number of devices that share a batch, or None.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    recipe, number = stream.recipe, len(stream.dataset)
    steps, intervals = checkpoint_intervals(recipe, number)
    with new_bar(console) as bar:
        progress = ProgressBar(bar, steps, images_per_step(recipe, number), first)
        history = fitted.fit(
            training_input(stream, first * steps, devices),
            steps_per_epoch=steps,
            shuffle=False,  # the stream is shuffled
            epochs=intervals,
            initial_epoch=first,
            verbose=0,
            callbacks=[watch, *before, progress, *after],
        )
    if watch.message:
        raise FloatingPointError(watch.message)
    return history


def held_out_outputs(model, validation) -> np.ndarray:
    """Return the outputs for the held-out images, in every process."""
    return outputs_on(model, validation, BATCH, predictor(model))

"""Batches and checkpoint intervals: what a recipe means for a number of images."""

import keras

from .recipe import Recipe


def images_per_step(recipe: Recipe, number: int) -> int:
    """Images in what is computed at once, of `number` to train on."""
    return min(recipe.batch_size // recipe.accumulate, number)


def check_devices(recipe: Recipe, number: int, devices, model_parallel) -> None:
    """See that the devices can share a batch, and evenly.

    Raises:
        ValueError: they cannot.
    """
    several = devices not in (None, 1)
    if several and recipe.accumulate > 1 and keras.backend.backend() == "tensorflow":
        raise ValueError(
            "`accumulate` must be 1 on several devices of TensorFlow, where Keras "
            "cannot accumulate gradients. Received: "
            f"accumulate={recipe.accumulate}, devices={devices}"
        )
    if devices and images_per_step(recipe, number) % (devices // model_parallel):
        raise ValueError(
            "`batch_size` / `accumulate` must be a multiple of `devices` / "
            f"`model_parallel`. Received: batch_size={recipe.batch_size}, "
            f"accumulate={recipe.accumulate}, devices={devices}, "
            f"model_parallel={model_parallel}, {number} images"
        )


def checkpoint_intervals(recipe: Recipe, number: int) -> tuple[int, int]:
    """(steps between two checkpoints, number of such intervals in the run).

    An interval is one epoch of `fit`: a pass over the data, or an equal part of one
    that is longer than `checkpoint_steps`; shorter where `steps` is no multiple of
    that, so that all have one length and hardly more than `steps` are done.

    Arguments:
        number: of images to train on.
    """
    each = max(number // (recipe.batch_size // recipe.accumulate), 1)
    parts = -(-each // (recipe.checkpoint_steps * recipe.accumulate))
    total = (recipe.steps or 0) * recipe.accumulate or each * recipe.epochs
    steps = min(-(-each // parts), total)
    intervals = -(-total // steps)
    return -(-total // intervals), intervals

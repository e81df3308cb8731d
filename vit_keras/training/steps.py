"""Steps of a recipe: images per step and checkpoint intervals."""

import keras

from .recipe import Recipe


def images_per_step(recipe: Recipe, number: int) -> int:
    """Return the images of a forward pass, for `number` training images."""
    return min(recipe.batch_size // recipe.accumulate, number)


def check_devices(recipe: Recipe, number: int, devices, model_parallel) -> None:
    """Check that the devices can share a batch evenly.

    Raises:
        ValueError: they cannot.
    """
    several = devices not in (None, 1)
    if several and recipe.probe_rates is not None:
        raise ValueError(
            "`devices` must be 1 for `probe_rates`, whose head is trained on one. "
            f"Received: devices={devices}"
        )
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
    """Return (steps between two checkpoints, number of such intervals in the run).

    An interval is one epoch of `fit`: a pass over the data, or an equal part of one
    that is longer than `checkpoint_steps`. It is shorter if `steps` is no multiple of
    that, so that all intervals have equal length and hardly more than `steps` are done.

    Arguments:
        number: of training images.
    """
    each = max(number // (recipe.batch_size // recipe.accumulate), 1)
    parts = -(-each // (recipe.checkpoint_steps * recipe.accumulate))
    total = (recipe.steps or 0) * recipe.accumulate or each * recipe.epochs
    steps = min(-(-each // parts), total)
    intervals = -(-total // steps)
    return -(-total // intervals), intervals

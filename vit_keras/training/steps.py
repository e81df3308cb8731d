"""What follows from a recipe and the number of images: model, batches, segments."""

import keras

from ..config import ViTConfig
from ..presets import get_config
from .recipe import Recipe


def configure(recipe: Recipe, classes: int) -> ViTConfig:
    """The model of a recipe."""
    given = {**recipe.model, "classes": classes, "activation": "linear"}
    return get_config(recipe.preset).replace(**given)


def batch_size(recipe: Recipe, number: int) -> int:
    """Images in what is computed at once, of `number` to train on."""
    return min(recipe.batch_size // recipe.accumulate, number)


def check_devices(recipe: Recipe, number: int, devices, model_parallel) -> None:
    """See that the devices can share a batch, and evenly.

    Raises:
        ValueError: they can not.
    """
    several = devices not in (None, 1)
    if several and recipe.accumulate > 1 and keras.backend.backend() == "tensorflow":
        raise ValueError(
            "`accumulate` must be 1 on several devices of TensorFlow, where Keras can "
            f"not add up. Received: accumulate={recipe.accumulate}, devices={devices}"
        )
    if devices and batch_size(recipe, number) % (devices // model_parallel):
        raise ValueError(
            "`batch_size` / `accumulate` must be a multiple of `devices` / "
            f"`model_parallel`. Received: batch_size={recipe.batch_size}, "
            f"accumulate={recipe.accumulate}, devices={devices}, "
            f"model_parallel={model_parallel}, {number} images"
        )


def plan(recipe: Recipe, number: int) -> tuple[int, int]:
    """Batches of a segment, and segments of the run.

    A segment is what lies between two checkpoints: a pass over the data, or an equal
    part of one that is longer than `checkpoint_steps`; shorter where `steps` is no
    multiple of that, so that all have one length and hardly more than `steps` are done.
    """
    each = max(number // (recipe.batch_size // recipe.accumulate), 1)
    parts = -(-each // (recipe.checkpoint_steps * recipe.accumulate))
    total = (recipe.steps or 0) * recipe.accumulate or each * recipe.epochs
    steps = min(-(-each // parts), total)
    segments = -(-total // steps)
    return -(-total // segments), segments

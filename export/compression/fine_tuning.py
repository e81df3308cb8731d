"""Training an existing model a little further, with the trainer of `vit_keras`."""

import keras
from rich.console import Console

from vit_keras.data import Dataset
from vit_keras.training.callbacks import StopOnNaN
from vit_keras.training.fit import compiled_for, fit_stream
from vit_keras.training.objective import open_teacher
from vit_keras.training.recipe import Recipe
from vit_keras.training.steps import checkpoint_intervals
from vit_keras.training.stream import Stream

# Gentle: the weights are good already, and what was cut is to be won back.
RECIPE = Recipe(
    epochs=3,
    learning_rate=2e-4,
    weight_decay=0.0,
    warmup=0.05,
    distillation="soft",
    distillation_weight=0.7,
    temperature=2.0,
    precision="float32",
)


def fine_tune(
    model, dataset: Dataset, recipe: Recipe = RECIPE, callbacks=(), console=None
) -> keras.callbacks.History:
    """Train a model where it stands.

    Arguments:
        model: of `vit_keras.create_model`, or one that shares its `config` attribute.
        dataset: from `vit_keras.data.prepare`, to train on.
        recipe: how; `preset`, `model`, `weights`, `ema` and what a run keeps on disk do
            not count. With `teacher`, the model also learns that one's outputs.
        callbacks: of Keras, such as those of `export.prune` and `export.cluster`.
        console: where the progress bar goes; None means the terminal.

    Returns:
        What `fit` returns; an epoch of it is a checkpoint interval of the recipe.

    Raises:
        FloatingPointError: the loss is no longer a number.
    """
    teacher = open_teacher(recipe, model.config)
    stream = Stream(dataset, model.config, recipe, teacher=teacher)
    steps, _ = checkpoint_intervals(recipe, len(dataset))
    return fit_stream(
        compiled_for(model, stream),
        stream,
        console or Console(stderr=True),
        StopOnNaN(steps),
        after=callbacks,
    )

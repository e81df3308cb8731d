"""Fine-tuning of an existing model, with the trainer of `vit_keras`."""

import keras
from rich.console import Console

from vit_keras.data import Dataset
from vit_keras.training.callbacks import StopOnNaN
from vit_keras.training.fitting import compiled_for, fit_stream
from vit_keras.training.objective import open_teacher
from vit_keras.training.recipe import Recipe
from vit_keras.training.steps import checkpoint_intervals
from vit_keras.training.stream import Stream

# Gentle: the weights are trained, and only the loss of compression is to be regained.
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
    """Fine-tune a model in place.

    Arguments:
        model: from `vit_keras.create_model`, or one that shares its `config` attribute.
        dataset: training data from `vit_keras.data.prepare`.
        recipe: of the training; `preset`, `model`, `weights`, `ema` and the settings of
            files are ignored. With `teacher`, its outputs are distilled.
        callbacks: of Keras, such as those of `export.prune` and `export.cluster`.
        console: for the progress bar; None means the terminal.

    Returns:
        Keras' history; an epoch is a checkpoint interval of the recipe.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
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

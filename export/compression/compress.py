"""Compression of a trained model: change, fine-tune, evaluate, save."""

import dataclasses
import os
import pathlib
import shutil
from typing import TYPE_CHECKING, Any

from . import cluster, prune, shrink

if TYPE_CHECKING:
    from rich.console import Console

HELD_OUT = 0.1  # fraction of each class, for measuring the accuracies
IMAGES = 256  # pixels for methods that need images


@dataclasses.dataclass(frozen=True)
class CompressionResult:
    """Result of `compress`.

    Attributes:
        path: the `.keras` file.
        images: number of held-out images for the accuracies.
        accuracy_before, accuracy_after: top-1, in 0..1.
    """

    path: str
    images: int
    accuracy_before: float
    accuracy_after: float

    def __str__(self):
        return (
            f"{self.path}: accuracy on {self.images} held-out images "
            f"{self.accuracy_before:.1%} before, {self.accuracy_after:.1%} now"
        )


def _quantize_aware(model, images, **options):
    from ..quantization.aware import quantize_aware

    return quantize_aware(model, images, **options)


# Name -> function of (model, pixels, **options) to the model to train, and a callback
# whose `strip()` returns the final model, or None.
METHODS = {
    "prune": lambda model, _, **options: (model, prune(model, **options)),
    "cluster": lambda model, _, **options: (model, cluster(model, **options)),
    "shrink": lambda model, images, **options: (shrink(model, images, **options), None),
    "qat": lambda model, images, **options: (
        _quantize_aware(model, images, **options),
        None,
    ),
}


def compress(
    model: str | os.PathLike[str],
    data: Any,
    *,
    method: str,
    out: str | os.PathLike[str],
    epochs: int = 3,
    learning_rate: float = 5e-4,
    batch_size: int = 64,
    distil: bool = True,
    console: "Console | None" = None,
    **options: Any,
) -> CompressionResult:
    """Prune, cluster, shrink or quantise a trained model, and fine-tune it.

    `out` receives `model.keras`, and the `labels.txt` beside the model.

    Arguments:
        model: a `.keras` file of a ViT of `vit_keras`.
        data: its training data, as for `vit_keras.train`; a tenth of each class is held
            out.
        method: "prune", "cluster", "shrink" or "qat".
        out: folder to write to; created if missing.
        epochs: number of epochs.
        learning_rate: peak learning rate.
        batch_size: images per step.
        distil: whether to distil from the original model as well.
        console: for messages and progress; None means the terminal.
        **options: of `export.prune`, `cluster`, `shrink` or `quantize_aware`.

    Returns:
        A `CompressionResult`.

    Raises:
        ValueError: an argument is unknown, or does not fit the model or the data.
        FileNotFoundError: the model or the data do not exist.
        FileExistsError: `out` contains a model already.
        MissingDependency: the extra "qat" is not installed.
        FloatingPointError: the loss is NaN or infinite.
    """
    if method not in METHODS:
        raise ValueError(
            f"`method` must be one of {', '.join(METHODS)}. Received: {method!r}"
        )
    import numpy as np
    from rich.console import Console

    from vit_keras import data as images
    from vit_keras.atomic import publishing
    from vit_keras.model_file import open_model
    from vit_keras.training.evaluation import accuracy, outputs_on, read
    from vit_keras.training.opening import open_data

    from .fine_tuning import RECIPE, fine_tune

    path, out = pathlib.Path(model), pathlib.Path(out)
    if (out / "model.keras").exists():
        raise FileExistsError(f"'{out}' holds a model already; choose another folder")
    loaded: Any = open_model(path)
    config = getattr(loaded, "config", None)
    if config is None:
        raise ValueError(f"`model` must be a ViT of vit_keras; '{path}' holds another")
    console = console or Console(stderr=True)
    source = read(open_data(data, False, console).part(False), config, False, console)
    if len(source.classes) != loaded.output_shape[-1]:
        raise ValueError(
            f"`data` must have the model's {loaded.output_shape[-1]} classes. "
            f"Received: {len(source.classes)} classes"
        )
    training, held_out = images.split(source, HELD_OUT, seed=0)
    step = max(len(training) // IMAGES, 1)
    some = training.take(np.arange(len(training))[::step])
    pixels = images.prepare(some, config.image_size, config.preprocessing)[0].images

    before = accuracy(outputs_on(loaded, held_out), held_out.labels)
    if method == "qat":  # it has its own distillation loss
        options |= {} if distil else {"distillation": 0.0}
    changed, callback = METHODS[method](loaded, pixels, **options)
    recipe = RECIPE.replace(
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        teacher=str(path) if distil and method != "qat" else None,
    )
    fine_tune(changed, training, recipe, [callback] if callback else [], console)
    changed = callback.strip() if callback else changed
    out.mkdir(parents=True, exist_ok=True)
    with publishing(out / "model.keras") as work:
        changed.save(work, include_optimizer=False)
    labels = path.with_name("labels.txt")
    if labels.is_file():
        shutil.copy(labels, out / "labels.txt")
    return CompressionResult(
        path=str(out / "model.keras"),
        images=len(held_out),
        accuracy_before=before,
        accuracy_after=accuracy(outputs_on(changed, held_out), held_out.labels),
    )

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
LABELLED = 4096  # images, for those that compare accuracies


@dataclasses.dataclass(frozen=True)
class CompressionResult:
    """Result of `compress`.

    Attributes:
        path: the `.keras` file.
        images: number of held-out images for the accuracies.
        metric: that of the model's head in `vit_keras.heads.HEADS`.
        before, after: its value; an accuracy is in 0..1.
    """

    path: str
    images: int
    metric: str
    before: float
    after: float

    def __str__(self):
        form = ".1%" if self.metric != "mean_absolute_error" else ".4g"
        return (
            f"{self.path}: {self.metric.replace('_', ' ')} on {self.images} held-out "
            f"images {self.before:{form}} before, {self.after:{form}} now"
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

    `shrink` with tokens="merge" trains nothing; `data` should then be images that the
    model was not trained on.

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
        distil: whether to distil from the original model as well; but for "qat" only
            with the head "softmax".
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
    from vit_keras.atomic import publishing, remove_leftovers
    from vit_keras.heads import HEADS
    from vit_keras.model_file import open_model
    from vit_keras.training.evaluation import checked_for, outputs_on, read
    from vit_keras.training.metrics import measure
    from vit_keras.training.opening import open_data

    from ..graph.find_vit import check_no_decoder
    from .fine_tuning import RECIPE, fine_tune
    from .tome_choice import MERGE

    path, out = pathlib.Path(model), pathlib.Path(out)
    if (out / "model.keras").exists():
        remove_leftovers(out)  # of a process that was killed at its very end
        raise FileExistsError(f"'{out}' holds a model already; choose another folder")
    loaded: Any = open_model(path)
    config = getattr(loaded, "config", None)
    if config is None:
        raise ValueError(f"`model` must be a ViT of vit_keras; '{path}' holds another")
    check_no_decoder("compress", loaded)
    console = console or Console(stderr=True)
    head, metric = config.head, HEADS[config.head].metric
    merging = options.get("tokens") == MERGE
    if distil and not merging and method != "qat" and head != "softmax":
        raise ValueError(
            "`distil` must be False unless the model's head is softmax. "
            f"Received: head={head!r}"
        )
    source = open_data(data, False, console).part(False)
    source = checked_for(source, head, loaded.output_shape[-1])
    source = read(source, config, False, console)
    training, held_out = images.split(source, HELD_OUT, seed=0)
    step = max(len(training) // (LABELLED if merging else IMAGES), 1)
    some = training.take(np.arange(len(training))[::step])
    pixels = images.prepare(some, config.image_size, config.preprocessing)[0].images
    options |= {"labels": some.labels} if merging else {}

    truth = images.targets(held_out)

    def measured(vit):
        pair = outputs_on(vit, held_out), truth
        return measure([pair], head, config.activation)[metric]

    before = measured(loaded)
    if method == "qat":  # it has its own distillation loss
        options |= {} if distil else {"distillation": 0.0}
    changed, callback = METHODS[method](loaded, pixels, **options)
    recipe = RECIPE.replace(
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        teacher=str(path) if distil and method != "qat" else None,
        **({"label_smoothing": 0.0} if head == "regression" else {}),
    )
    if not merging:
        fine_tune(changed, training, recipe, [callback] if callback else [], console)
    changed = callback.strip() if callback else changed
    out.mkdir(parents=True, exist_ok=True)
    labels = path.with_name("labels.txt")
    if labels.is_file():
        with publishing(out / labels.name) as work:
            shutil.copyfile(labels, work)
    with publishing(out / "model.keras") as work:  # last: it is what is looked for
        changed.save(work, include_optimizer=False)
    return CompressionResult(
        path=str(out / "model.keras"),
        images=len(held_out),
        metric=metric,
        before=before,
        after=measured(changed),
    )

"""`vit-export prune`, `cluster` and `qat`: a trained model made smaller by training."""

import pathlib
import shutil
from typing import Annotated, Any

import typer

import export

Model = Annotated[pathlib.Path, typer.Argument(help="A .keras file.")]
Data = Annotated[
    str, typer.Option(help="What it was trained on: a folder of class folders, digits.")
]
Out = Annotated[pathlib.Path, typer.Option(help="Folder to write to.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the images.")]
Rate = Annotated[float, typer.Option(help="Peak learning rate.")]
Batch = Annotated[int, typer.Option(min=1, help="Images per step.")]
Distil = Annotated[bool, typer.Option(help="Also learn the outputs of MODEL.")]


def prune(
    model: Model,
    data: Data,
    out: Out,
    sparsity: Annotated[
        str | None, typer.Option(help="Share of zeros, or a pattern such as 2:4.")
    ] = None,
    macs_ratio: Annotated[
        float | None, typer.Option(help="Take out heads and channels: times cheaper.")
    ] = None,
    heads: Annotated[int | None, typer.Option(help="Heads to keep.")] = None,
    mlp_dim: Annotated[int | None, typer.Option(help="MLP channels to keep.")] = None,
    epochs: Epochs = 3,
    learning_rate: Rate = 5e-4,
    batch_size: Batch = 64,
    distil: Distil = True,
):
    """Set weights to zero (--sparsity), or take heads and channels out, and train on.

    Zeros make a file small once it is compressed; taking out makes it fast, too.
    """
    structure = {"macs_ratio": macs_ratio, "heads": heads, "mlp_dim": mlp_dim}
    structure = {k: v for k, v in structure.items() if v is not None}
    if (sparsity is None) == (not structure):
        raise ValueError(
            "Either `--sparsity`, or `--macs-ratio` or `--heads` and `--mlp-dim`, must "
            "be given"
        )

    def change(loaded, pixels):
        if structure:
            return export.shrink(loaded, pixels, **structure), None
        share = sparsity if ":" in str(sparsity) else _number(sparsity)
        return loaded, export.prune(loaded, sparsity=share)

    _run(model, data, out, change, epochs, learning_rate, batch_size, distil)


def cluster(
    model: Model,
    data: Data,
    out: Out,
    clusters: Annotated[int, typer.Option(help="Values per kernel.")] = 16,
    keep_zeros: Annotated[
        bool, typer.Option(help="Zeros of a pruned model stay.")
    ] = False,
    epochs: Epochs = 3,
    learning_rate: Rate = 5e-4,
    batch_size: Batch = 64,
    distil: Distil = True,
):
    """Leave few different values in every kernel, and train on."""

    def change(loaded, pixels):
        return loaded, export.cluster(loaded, clusters, keep_zeros=keep_zeros)

    _run(model, data, out, change, epochs, learning_rate, batch_size, distil)


def qat(
    model: Model,
    data: Data,
    out: Out,
    target: Annotated[
        str | None, typer.Option(help="Where the file is to run.")
    ] = None,
    weight_bits: Annotated[int, typer.Option(help="8, 4, 3 or 2.")] = 8,
    epochs: Epochs = 1,
    learning_rate: Annotated[
        float, typer.Option(help="Peak; 1e-4 suits 4 bits, 1e-3 suits 2.")
    ] = 1e-5,
    batch_size: Batch = 64,
    distil: Distil = True,
):
    """Train on as the integer file will compute; then `vit-export tflite` needs no
    calibration."""

    options: dict[str, Any] = {} if distil else {"distillation": 0.0}

    def change(loaded, pixels):
        aware = export.quantize_aware(
            loaded,
            pixels,
            target=target,
            weight_bits=weight_bits,
            **options,
        )
        return aware, None

    _run(model, data, out, change, epochs, learning_rate, batch_size, False)
    at = f" --target {target}" if target else ""
    print(
        f"next: vit-export tflite {out / 'model.keras'} {out / 'model.tflite'} "
        f"--scheme int8{at}"
    )


def _number(text):
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(
            "`--sparsity` must be a share in (0, 1) or a pattern such as 2:4. "
            f"Received: {text}"
        ) from error


def _run(path, data, out, change, epochs, learning_rate, batch_size, distil):
    """Change the model of a file, train it on, and leave it in a folder."""
    import numpy as np
    from rich.console import Console

    from vit_keras import data as images
    from vit_keras.atomic import staged
    from vit_keras.data.sources import open_source
    from vit_keras.model import open_model
    from vit_keras.training.evaluate import read

    from ..compression.fine_tuning import RECIPE, fine_tune

    if (out / "model.keras").exists():
        raise FileExistsError(f"'{out}' holds a model already; choose another folder")
    model = open_model(path)
    if getattr(model, "config", None) is None:
        raise ValueError(f"`model` must be a ViT of vit_keras; '{path}' holds another")
    config, console = model.config, Console(stderr=True)
    source = read(open_source(data), config, False, console)
    if len(source.classes) != model.output_shape[-1]:
        raise ValueError(
            f"`data` must have the model's {model.output_shape[-1]} classes. "
            f"Received: {len(source.classes)} classes"
        )
    training, held_out = images.split(source, 0.1, seed=0)
    some = training.take(np.arange(len(training))[:: max(len(training) // 256, 1)])
    pixels = images.prepare(some, config.image_size, config.preprocessing)[0].images
    batches = images.Batches(held_out, config.image_size, config.preprocessing, 64)

    def accuracy(model):
        pairs = (batches[i] for i in range(len(batches)))
        right = [
            np.argmax(model.predict_on_batch(x), -1) == np.argmax(y, -1)
            for x, y in pairs
        ]
        return float(np.concatenate(right).mean())

    before = accuracy(model)
    model, callback = change(model, pixels)
    recipe = RECIPE.replace(
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        teacher=str(path) if distil else None,
    )
    fine_tune(model, training, recipe, [callback] if callback else [], console)
    model = callback.strip() if callback else model
    out.mkdir(parents=True, exist_ok=True)
    with staged(out / "model.keras") as beside:
        model.save(beside, include_optimizer=False)
    labels = path.with_name("labels.txt")
    if labels.is_file():
        shutil.copy(labels, out / "labels.txt")
    print(
        f"{out / 'model.keras'}: accuracy on {len(held_out)} held-out images "
        f"{before:.1%} before, {accuracy(model):.1%} now"
    )

"""`vit-export prune`, `cluster` and `qat`: a trained model made smaller by training."""

import pathlib
from typing import Annotated

import typer

from .arguments import Model

Data = Annotated[
    str,
    typer.Option(
        help="What it was trained on: a folder of class folders, digits, tfds:NAME."
    ),
]
Out = Annotated[pathlib.Path, typer.Option(help="Folder for the new model.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the images.")]
Rate = Annotated[float, typer.Option(help="Peak learning rate.")]
Batch = Annotated[int, typer.Option(min=1, help="Images per step.")]
Distil = Annotated[
    bool, typer.Option(help="Also learn the outputs of MODEL (distillation).")
]


def prune_command(
    model: Model,
    data: Data,
    out: Out,
    sparsity: Annotated[
        str | None, typer.Option(help="Share of zeros, or a pattern such as 2:4.")
    ] = None,
    macs_ratio: Annotated[
        float | None,
        typer.Option(help="Remove heads and MLP channels: how many times fewer MACs."),
    ] = None,
    heads: Annotated[
        int | None, typer.Option(help="Attention heads to keep in each block.")
    ] = None,
    mlp_dim: Annotated[
        int | None, typer.Option(help="MLP channels to keep in each block.")
    ] = None,
    epochs: Epochs = 3,
    learning_rate: Rate = 5e-4,
    batch_size: Batch = 64,
    distil: Distil = True,
):
    """Set weights to zero (--sparsity), or remove heads and channels, and train on.

    Zeros make a file small once it is compressed; removing also makes it fast.
    """
    structure = {"macs_ratio": macs_ratio, "heads": heads, "mlp_dim": mlp_dim}
    structure = {k: v for k, v in structure.items() if v is not None}
    if (sparsity is None) == (not structure):
        raise ValueError(
            "Either `--sparsity`, or `--macs-ratio` or `--heads` and `--mlp-dim`, must "
            "be given"
        )
    method, options = "shrink", structure
    if sparsity is not None:
        share = sparsity if ":" in sparsity else _number(sparsity)
        method, options = "prune", {"sparsity": share}
    _compress(
        model, data, out, method, epochs, learning_rate, batch_size, distil, **options
    )


def cluster_command(
    model: Model,
    data: Data,
    out: Out,
    clusters: Annotated[int, typer.Option(help="Different values per kernel.")] = 16,
    keep_zeros: Annotated[
        bool, typer.Option(help="Zeros of a pruned model stay zero.")
    ] = False,
    epochs: Epochs = 3,
    learning_rate: Rate = 5e-4,
    batch_size: Batch = 64,
    distil: Distil = True,
):
    """Leave few different values in every kernel, and train on."""
    options = {"clusters": clusters, "keep_zeros": keep_zeros}
    rest = (epochs, learning_rate, batch_size, distil)
    _compress(model, data, out, "cluster", *rest, **options)


def qat_command(
    model: Model,
    data: Data,
    out: Out,
    target: Annotated[
        str | None, typer.Option(help="Device that the file is for, see `tflite`.")
    ] = None,
    weight_bits: Annotated[int, typer.Option(help="8, 4, 3 or 2.")] = 8,
    epochs: Epochs = 1,
    learning_rate: Annotated[
        float, typer.Option(help="Peak; 1e-4 suits 4 bits, 1e-3 suits 2.")
    ] = 1e-5,
    batch_size: Batch = 64,
    distil: Distil = True,
):
    """Train on as the int8 file will compute (quantisation-aware training); then
    `vit-export tflite` needs no calibration."""
    options = {"target": target, "weight_bits": weight_bits}
    rest = (epochs, learning_rate, batch_size, distil)
    _compress(model, data, out, "qat", *rest, **options)
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


def _compress(model, data, out, method, epochs, rate, batch_size, distil, **options):
    from ..compression.compress import compress

    result = compress(
        model,
        data,
        method=method,
        out=out,
        epochs=epochs,
        learning_rate=rate,
        batch_size=batch_size,
        distil=distil,
        **options,
    )
    print(result)

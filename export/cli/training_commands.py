"""`vit-export prune`, `cluster` and `qat`: compression by further training."""

import pathlib
from typing import Annotated

import typer

from .arguments import Model

Data = Annotated[
    str,
    typer.Option(help="Training data: a folder of class folders, digits, tfds:NAME."),
]
Out = Annotated[pathlib.Path, typer.Option(help="Folder for the new model.")]
Epochs = Annotated[int, typer.Option(min=1, help="Number of epochs.")]
Rate = Annotated[float, typer.Option(help="Peak learning rate.")]
Batch = Annotated[int, typer.Option(min=1, help="Images per step.")]
Distil = Annotated[
    bool, typer.Option(help="Distil from MODEL: train on its outputs as well.")
]


def prune_command(
    model: Model,
    data: Data,
    out: Out,
    sparsity: Annotated[
        str | None, typer.Option(help="Fraction of zeros, or a pattern such as 2:4.")
    ] = None,
    macs_ratio: Annotated[
        float | None,
        typer.Option(help="Remove heads and MLP channels to divide the MACs by this."),
    ] = None,
    heads: Annotated[
        int | None, typer.Option(help="Attention heads kept in each block.")
    ] = None,
    mlp_dim: Annotated[
        int | None, typer.Option(help="MLP channels kept in each block.")
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            help="Merge neighbouring patches between two blocks, until this part of "
            "the tokens is left, averaged over the blocks; or 'merge' similar tokens "
            "in each block, without training (ToMe), by images not trained on."
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(help="With --tokens merge: points of accuracy that may be lost."),
    ] = None,
    max_ms: Annotated[
        float | None,
        typer.Option(
            help="With --tokens merge: milliseconds of one image in LiteRT, float32, "
            "one thread, on this machine."
        ),
    ] = None,
    epochs: Epochs = 3,
    learning_rate: Rate = 5e-4,
    batch_size: Batch = 64,
    distil: Distil = True,
):
    """Set weights to zero (--sparsity), or take out heads, channels and tokens, and
    fine-tune.

    Zeros shrink the compressed file; the others save time.
    """
    structure = {"macs_ratio": macs_ratio, "heads": heads, "mlp_dim": mlp_dim}
    structure |= {"max_drop": max_drop, "max_ms": max_ms}
    if tokens is not None:
        structure["tokens"] = tokens if tokens == "merge" else _number("tokens", tokens)
    structure = {k: v for k, v in structure.items() if v is not None}
    if (sparsity is None) == (not structure):
        raise ValueError(
            "Either `--sparsity`, or `--macs-ratio`, `--heads`, `--mlp-dim` or "
            "`--tokens`, must be given, but not both"
        )
    method, options = "shrink", structure
    if sparsity is not None:
        share = sparsity if ":" in sparsity else _number("sparsity", sparsity)
        method, options = "prune", {"sparsity": share}
    _compress(
        model, data, out, method, epochs, learning_rate, batch_size, distil, **options
    )


def cluster_command(
    model: Model,
    data: Data,
    out: Out,
    clusters: Annotated[
        int, typer.Option(help="Number of distinct values per kernel.")
    ] = 16,
    keep_zeros: Annotated[
        bool, typer.Option(help="Keep the zeros of a pruned model.")
    ] = False,
    epochs: Epochs = 3,
    learning_rate: Rate = 5e-4,
    batch_size: Batch = 64,
    distil: Distil = True,
):
    """Cluster the weights of every kernel to a few distinct values, and fine-tune."""
    options = {"clusters": clusters, "keep_zeros": keep_zeros}
    rest = (epochs, learning_rate, batch_size, distil)
    _compress(model, data, out, "cluster", *rest, **options)


def qat_command(
    model: Model,
    data: Data,
    out: Out,
    target: Annotated[
        str | None, typer.Option(help="Target device, as for `vit-export tflite`.")
    ] = None,
    weight_bits: Annotated[int, typer.Option(help="Bits of weights: 8, 4, 3, 2.")] = 8,
    epochs: Epochs = 1,
    learning_rate: Annotated[
        float,
        typer.Option(help="Peak learning rate; 1e-4 suits 4 bits, 1e-3 suits 2."),
    ] = 1e-5,
    batch_size: Batch = 64,
    distil: Distil = True,
):
    """Fine-tune with simulated int8 arithmetic (quantisation-aware training); then
    `vit-export tflite` needs no calibration."""
    options = {"target": target, "weight_bits": weight_bits}
    rest = (epochs, learning_rate, batch_size, distil)
    _compress(model, data, out, "qat", *rest, **options)
    at = f" --target {target}" if target else ""
    print(
        f"next: vit-export tflite {out / 'model.keras'} {out / 'model.tflite'} "
        f"--scheme int8{at}"
    )


def _number(option, text):
    other = {"sparsity": "a pattern such as 2:4", "tokens": "merge"}[option]
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(
            f"`--{option}` must be a fraction in (0, 1) or {other}. Received: {text}"
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

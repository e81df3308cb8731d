"""`vit-export saved-model` and `compare`: what a server needs."""

import pathlib
from typing import Annotated

import typer

import export

from . import output
from .arguments import (
    Calibration,
    Labels,
    Model,
    Rules,
    read_labels,
    read_rules,
    status,
)


def saved_model(
    model: Model,
    out: Annotated[
        pathlib.Path, typer.Argument(help="Folder to make: NAME/VERSION, as vit/1.")
    ],
    labels: Labels = None,
    signatures: Annotated[
        list[str] | None,
        typer.Option(help="predict_bytes, classify, features, attention; repeat it."),
    ] = None,
    top_k: Annotated[int, typer.Option(help="Classes that are named.")] = 5,
    exif: Annotated[bool, typer.Option(help="Turn images as EXIF says.")] = True,
    warmup: Annotated[
        list[int] | None,
        typer.Option(help="Batch sizes to run before requests; repeat it."),
    ] = None,
    serving_dir: Annotated[
        pathlib.Path | None,
        typer.Option(help="Write here what runs TF Serving, and a client."),
    ] = None,
    calibration: Calibration = None,
    preprocessing: Rules = None,
):
    """Write a SavedModel directory, run it in TensorFlow and compare it."""
    from ..serving.server_files import BATCHES, check_version, write_serving_files

    options = {"signatures": tuple(signatures)} if signatures else {}
    if serving_dir is not None:
        check_version(out)
        warmup = warmup or list(BATCHES)
    with status("exporting"):
        report = export.to_saved_model(
            model,
            out,
            labels=read_labels(model, labels),
            top_k=top_k,
            exif=exif,
            warmup=tuple(warmup or ()),
            calibration=calibration,
            preprocessing=read_rules(preprocessing),
            **options,
        )
    output.summary(report)
    output.next_commands(
        f"verify {model} {out} --data {calibration or 'IMAGES'}",
        f"check {out} --target tf-serving",
        f"benchmark {out}",
    )
    if serving_dir is not None:
        write_serving_files(out, serving_dir)
        print(f"how to serve it: {serving_dir / 'README.md'}")


def compare(
    old: Annotated[pathlib.Path, typer.Argument(help="Version in use.")],
    new: Annotated[pathlib.Path, typer.Argument(help="Version to come.")],
    data: Annotated[
        pathlib.Path, typer.Option(help="Folder of images or .npy of pixels.")
    ],
    limit: Annotated[int, typer.Option(min=1, help="Images at most.")] = 256,
):
    """Compare the answers and the speed of two versions before switching."""
    from vit_keras import Preprocessing

    from ..evaluation import runners
    from ..evaluation.verify import read_sidecar
    from ..quantization.calibration import load_images

    rules = read_sidecar(new).get("preprocessing")
    rules = Preprocessing(**rules) if rules else None
    with status("comparing"):
        size = runners.load(new).input_shape[1:3]
        print(export.compare(old, new, load_images(data, size, rules, limit)))

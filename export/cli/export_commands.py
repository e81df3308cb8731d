"""`vit-export tflite` and `saved-model`."""

import pathlib
from typing import Annotated, Any

import typer

from ..resolve import CALIBRATION_METHODS
from ..schemes import SCHEMES
from ..targets import TARGETS
from . import output
from .arguments import (
    Calibration,
    Evaluation,
    HeadName,
    Labels,
    Model,
    Modules,
    OutputName,
    OutputNames,
    PreprocessingName,
    read_labels,
    read_modules,
    read_outputs,
    read_preprocessing,
    show_stages,
)

SCHEME_HELP = "; ".join(f"{k}: {v.summary}" for k, v in SCHEMES.items())
TARGET_HELP = "; ".join(f"{k}: {v.summary}" for k, v in TARGETS.items())


def tflite_command(
    model: Model,
    out: Annotated[pathlib.Path, typer.Argument(help="The .tflite file to write.")],
    scheme: Annotated[str, typer.Option(help=SCHEME_HELP)] = "float32",
    target: Annotated[str | None, typer.Option(help=TARGET_HELP)] = None,
    calibration: Calibration = None,
    calibration_method: Annotated[
        str,
        typer.Option(
            help="How int8 ranges are computed from the calibration values: "
            f"{', '.join(CALIBRATION_METHODS)}. The last two clip outliers."
        ),
    ] = "min_max",
    batch: Annotated[int, typer.Option(help="Batch size, fixed in the file.")] = 1,
    input_dtype: Annotated[
        str | None,
        typer.Option(help="uint8, int8 or float32. Default: the scheme's first."),
    ] = None,
    output_dtype: Annotated[
        str | None,
        typer.Option(help="float32, int8 or uint8. Default: the scheme's first."),
    ] = None,
    labels: Labels = None,
    head: HeadName = None,
    description: Annotated[
        str | None, typer.Option(help="Description of the model, stored in the file.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the model, stored in the file.")
    ] = None,
    preprocessing: PreprocessingName = None,
    output_name: OutputName = None,
    output_names: OutputNames = None,
    modules: Modules = None,
    heads_apart: Annotated[
        bool | None,
        typer.Option(
            help="Compute attention head by head, which needs less memory. Default: "
            "as the target prefers."
        ),
    ] = None,
    min_sqnr: Annotated[
        float | None,
        typer.Option(
            help="Minimum SQNR in dB of an int8 file; the most sensitive layers fall "
            "back to int16 or float until it is met."
        ),
    ] = None,
    accuracy_drop: Annotated[
        float | None,
        typer.Option(
            help="Maximum loss of int8 accuracy on --evaluation, in percentage points "
            "(of mean average precision, with several labels per image; of mean IoU, "
            "with a class at each pixel); "
            "the most sensitive layers fall back until it is met."
        ),
    ] = None,
    evaluation: Evaluation = None,
    enforce_parity: Annotated[
        bool, typer.Option(help="Fail below the scheme's SQNR threshold.")
    ] = True,
    output_size: Annotated[
        str | None,
        typer.Option(
            help="Size of outputs at each pixel: image, or decoder for smaller maps. "
            "Default: the image's, but the decoder's for ethos_u55."
        ),
    ] = None,
    decode: Annotated[
        str | None,
        typer.Option(
            help="classes: a segmentation's file ends in the class of each pixel."
        ),
    ] = None,
):
    """Write a .tflite file, run it in LiteRT and compare it with the model."""
    from ..tflite.writer import to_tflite

    with show_stages(f"exporting {scheme}"):
        report = to_tflite(
            model,
            out,
            scheme=scheme,
            target=target,
            calibration=calibration,
            calibration_method=calibration_method,
            batch=batch,
            input_dtype=input_dtype,
            output_dtype=output_dtype,
            labels=read_labels(labels),
            head=head,
            description=description,
            licence=licence,
            preprocessing=read_preprocessing(preprocessing),
            output=output_name,
            outputs=read_outputs(output_names),
            custom_objects=read_modules(modules),
            heads_apart=heads_apart,
            min_sqnr=min_sqnr,
            accuracy_drop=accuracy_drop,
            evaluation=evaluation,
            enforce_parity=enforce_parity,
            output_size=output_size,
            decode=decode,
        )
    output.print_report(report)
    output.print_next(
        ("verify", model, out, "--data", calibration or "IMAGES"),
        ("check", out, "--target", target or "all"),
        ("benchmark", out),
    )


def saved_model_command(
    model: Model,
    out: Annotated[
        pathlib.Path,
        typer.Argument(help="Directory to write: NAME/VERSION, such as vit/1."),
    ],
    labels: Labels = None,
    head: HeadName = None,
    signatures: Annotated[
        list[str] | None,
        typer.Option(
            help="predict_bytes, classify, features, attention; repeatable. Default: "
            "the first two."
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(help="Number of top classes returned.")] = 5,
    exif: Annotated[
        bool, typer.Option(help="Apply the EXIF orientation of encoded images.")
    ] = True,
    warmup: Annotated[
        list[int] | None,
        typer.Option(help="Batch sizes to warm up at loading; repeatable."),
    ] = None,
    serving_dir: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Folder for a TF Serving configuration, compose file and client."
        ),
    ] = None,
    calibration: Calibration = None,
    evaluation: Evaluation = None,
    preprocessing: PreprocessingName = None,
    output_name: OutputName = None,
    modules: Modules = None,
):
    """Write a SavedModel directory, run it in TensorFlow and compare it."""
    from ..serving.saved_model import to_saved_model
    from ..serving.server_files import BATCHES, check_version, write_serving_files

    options: dict[str, Any] = {}
    if signatures:
        options["signatures"] = tuple(signatures)
    if serving_dir is not None:
        check_version(out)
        warmup = warmup or list(BATCHES)
    with show_stages("exporting"):
        report = to_saved_model(
            model,
            out,
            labels=read_labels(labels),
            head=head,
            top_k=top_k,
            exif=exif,
            warmup=tuple(warmup or ()),
            calibration=calibration,
            evaluation=evaluation,
            preprocessing=read_preprocessing(preprocessing),
            output=output_name,
            custom_objects=read_modules(modules),
            **options,
        )
    output.print_report(report)
    output.print_next(
        ("verify", model, out, "--data", calibration or "IMAGES"),
        ("check", out, "--target", "tf-serving"),
        ("benchmark", out),
    )
    if serving_dir is not None:
        write_serving_files(out, serving_dir)
        print(f"how to serve it: {serving_dir / 'README.md'}")

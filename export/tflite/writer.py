"""`to_tflite`: convert, quantise, check and publish a `.tflite` file."""

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import backend
from ..errors import MissingDependency, ParityError, UnsupportedOperators
from ..evaluation import runners
from ..evaluation.check import CheckReport, check
from ..evaluation.interpreter import threads
from ..evaluation.labelled_images import Labelled
from ..evaluation.parity import Parity, measure_outputs
from ..evaluation.tensor_errors import first_wrong, tensor_errors
from ..evaluation.tools.integer_scan import float_note
from ..evaluation.user_predictions import check_predictions
from ..flatbuffer.first_run import making_files
from ..flatbuffer.operators import read_operators
from ..graph.find_vit import merges_by_similarity
from ..inputs import CALIBRATION_LIMIT, ExportInputs, UserInputs
from ..plan import ExportPlan
from ..progress import stage
from ..quantization.accuracy_budget import Budget
from ..quantization.quantize import quantize
from ..quantization.strategies import choose_strategy, register_layers
from ..report import NOT_PROVEN, ExportReport, ends, publish, read_report, workspace
from ..resolve import resolve
from ..targets import ANY
from . import file_metadata
from .converter import check_size, convert
from .dense_outputs import end_in_classes, size_note, sized
from .integer_ready import make_integer_ready

if TYPE_CHECKING:
    import keras

    from vit_keras import Preprocessing


def to_tflite(
    model: "keras.Model | str | os.PathLike[str]",
    path: str | os.PathLike[str],
    *,
    scheme: str = "float32",
    target: str | None = None,
    calibration: Any = None,
    calibration_method: str = "min_max",
    batch: int = 1,
    input_dtype: str | None = None,
    output_dtype: str | Mapping[str, str] | None = None,
    preprocessing: "Preprocessing | str | None" = None,
    labels: Any = None,
    head: str | None = None,
    description: str | None = None,
    licence: str | None = None,
    heads_apart: bool | None = None,
    min_sqnr: float | None = None,
    accuracy_drop: float | None = None,
    evaluation: Any = None,
    enforce_parity: bool = True,
    input_shape: Sequence[int] | None = None,
    output: str | int | None = None,
    outputs: str | Sequence[str | int] | None = None,
    custom_objects: dict[str, Any] | None = None,
    output_size: str | None = None,
    decode: str | None = None,
) -> ExportReport:
    """Convert a Keras model to TFLite, run the file, and compare it with the model.

    The file takes raw RGB pixels 0..255 (normalisation is inside), has a fixed batch
    and only builtin operators. `<path>.json` beside it holds the report. Both appear
    under their names only after every check has passed.

    Arguments:
        model: a Keras model, functional, sequential or subclassed, on any backend, or
            the path of a `.keras` file. Its own layers are traced, nothing is rebuilt.
        path: the file to write; an existing one is replaced.
        scheme: a name in `SCHEMES`.
        target: a name in `TARGETS`: the graph is written for that device, and its
            compiler or runtime must accept the file. None is "any", for LiteRT.
        calibration: pixels for ranges and parity: an array (N, H, W, C) of values
            0..255, a `.npy` file, a folder of images, a `tf.data.Dataset` or other
            iterable of batches (N, H, W, C), with or without labels, or a data set as
            for training: "digits", an `.npz` file, "tfds:NAME", Grain. Required by
            "int8"; of more than 128 images, 128 are drawn, of an iterable the first.
        calibration_method: how "int8" ranges are computed from the calibration values:
            "min_max"; or, clipping outliers, "mse" (least squared error) or
            "percentile" (99.99 %). Pre-trained ViTs need their outliers.
        batch: number of images per run, fixed in the file.
        input_dtype: "uint8", "float32", or for "int8" also "int8"; the default is
            uint8, or float32 for a model whose input is not known to be pixels. A
            float32 input takes pixels 0..255, too.
        output_dtype: "float32", or for "int8" also "int8" (default) and "uint8",
            with scale and zero point in the file. MediaPipe's classifier takes int8
            neither here nor as input. Of several outputs also {name: dtype}; those that
            are not named have the default. With `decode` "int32" (default) or "uint8".
        preprocessing: what turns pixels 0..255 into what the model was trained on, for
            a model that does not carry it: a `vit_keras.Preprocessing` or a name in
            `vit_keras.preprocessing.NORMALISATIONS`, such as "0..1" or "imagenet". It
            is put inside the file.
        labels: class names, kept in the file and in the JSON; two of a binary model;
            those of a regression's values in the JSON alone. None means those of the
            `labels.txt` beside a `.keras` file, if there is one.
        head: what the outputs mean, "softmax", "sigmoid", "multi_label", "regression",
            "segmentation" or "depth" (`vit_keras.heads.HEADS`); None asks the model: a
            ViT of this package, or one that ends in a softmax or sigmoid. Without,
            several outputs are logits of classes, one is a number without a name, and
            maps mean nothing.
        description, licence: of the model, stored in the file with the model's name.
        heads_apart: compute the heads of attention one after another, which needs
            less memory; None leaves it to the target.
        min_sqnr: for "int8", minimum SQNR in dB against the model's outputs: the most
            sensitive layers fall back to int16, or to float where the target has it,
            as few as meet it.
        accuracy_drop: the same with percentage points that may be lost on
            `evaluation`: of top-1 accuracy, of mean average precision for
            "multi_label", or of mean IoU for "segmentation". Not for values.
        evaluation: labelled images, or images and masks, as training takes them: a
            folder, an `.npz` file, a pair of arrays, ...; the test part is used. The
            report says what model and file reach: an accuracy shows that both are fed
            what the model was not trained on, which parity cannot see.
        enforce_parity: refuse a file below its scheme's parity threshold.
        input_shape: (H, W, C) of a subclassed model that was never called.
        output: name or index of the output to export, of a model with several.
        outputs: several outputs of one file, by name in its signature, in this order;
            or "all". Of a model that gives a dict or a list: names or indices, which
            are called "output_0". Of a classifier of this package, beside its own
            output ("logits", "probabilities" or "values"): "attention", (N, rows,
            columns) over the patches, of the last block, as `vit_keras.attention_map`
            with method="attention", layer=-1 and per_patch=True gives it; "features",
            the tokens (N, T, D) after the last norm; "pooled", the head's input
            (N, D). Labels and `head` belong to the first output with classes.
        custom_objects: {name: class} of the model's own layers, to open its file.
        output_size: of the outputs of a model for "segment" or "depth": "image", or
            "decoder" for the smaller maps before its last resize. None is the image's,
            but for target "ethos_u55" the decoder's: maps of the image's size seldom
            fit into its memory.
        decode: "classes" lets the file of a segmentation end in the class of each
            pixel, (N, H, W), instead of logits; only for targets with ARG_MAX.
            MediaPipe needs logits. Parity is that of the logits.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError: an argument is unknown, missing or does not fit the model.
        UnsupportedOperators: the model needs operators that are not builtin, or the
            target does not support the file.
        ParityError: one of the file's outputs is too far from the model's, or no file
            meets `min_sqnr` or `accuracy_drop`.
        FileNotFoundError: the model, images or folder of `path` do not exist.
        OSError: the file cannot be written.
        MissingDependency: the extra "export" is not installed.
    """
    user = UserInputs(
        *(model, calibration, evaluation),
        *(preprocessing, labels, description, licence),
        *(input_shape, output, custom_objects, head, outputs),
    )
    plan = resolve(
        scheme,
        target,
        trained=user.is_trained,
        has_calibration=calibration is not None,
        has_evaluation=evaluation is not None,
        batch=batch,
        input_dtype=input_dtype,
        output_dtype=output_dtype,
        calibration_method=calibration_method,
        heads_apart=heads_apart,
        min_sqnr=min_sqnr,
        accuracy_drop=accuracy_drop,
        enforce_parity=enforce_parity,
        output_size=output_size,
        decode=decode,
    )
    if backend.is_tensorflow():
        return write_tflite(user, path, plan)
    with user.saved() as inputs:
        where = {"path": os.fspath(path), "plan": plan.to_dict()}
        backend.run_in_child("to_tflite", {"inputs": inputs, **where})
    return read_report(path)


def answer_request(inputs, path, plan):
    """Answer a request of `backend.run_in_child`; the report is beside the file."""
    write_tflite(UserInputs.restored(inputs), path, ExportPlan.from_dict(plan))


def write_tflite(user: UserInputs, path, plan: ExportPlan) -> ExportReport:
    """Export by a plan: convert, quantise, check, compare with the model, publish."""
    stage("reading the model and the images")
    register_layers(plan)
    inputs, plan = sized(ExportInputs.open(user, CALIBRATION_LIMIT), plan)
    check_size(inputs.model, plan)
    inputs.check_calibration(plan)
    plan = plan.for_input(inputs.takes_pixels)
    plan.check_outputs(inputs.names)
    plan = (strategy := choose_strategy(plan, inputs)).plan
    said = check_predictions(inputs, plan.enforce_parity)
    labelled = Labelled.open(inputs)
    budget = Budget.open(plan, inputs, labelled) if plan.mixed else None
    with workspace(path) as work, making_files():
        stage("rewriting the graph")
        graph = strategy.graph()
        stage("converting")
        convert(graph.function, inputs.model, work, plan, inputs.names)
        if plan.calibrated:
            make_integer_ready(work)
        float_file = shutil.copyfile(work, work.with_name(f"{work.name}.float"))
        mixed, range_notes = quantize(work, plan, strategy, budget)
        scores = work
        if plan.class_map is not None:
            scores = end_in_classes(work, plan.class_map, inputs.images.pixels)
        file_metadata.embed(work, inputs, class_map=scores is not work)
        checked, check_notes = _check(work, plan, inputs.images.pixels)
        parities = _prove(scores, float_file, path, plan, inputs)
        notes = (
            *said,
            *size_note(inputs, plan),
            *graph.notes,
            *range_notes,
            *check_notes,
            *((str(mixed),) if mixed else ()),
        )
        report = ExportReport(
            path=str(path),
            format="tflite",
            scheme=plan.scheme,
            target=None if plan.target == ANY else plan.target,
            size_bytes=0,
            **ends(runners.load(work), parities),
            operators=checked.operators,
            calibration=inputs.calibrated(plan),
            evaluation=labelled and labelled.compare_file(scores),
            rewrites=graph.rewrites,
            plan=plan.to_dict(),
            mixed=mixed and dataclasses.asdict(mixed),
            checked_by=checked.tool,
            facts=checked.facts,
            runtime=checked.runtime,
            **inputs.report_fields(str(plan.input_dtype), notes),
        )
        file_metadata.record(work, report)
        return publish(work, path, report)


def _check(path, plan, images) -> tuple[CheckReport, tuple[str, ...]]:
    """Check the file with the target's tool, which may run it on images.

    Returns:
        The tool's report, and notes: operators of an int8 file that stay in float, and
        a check that is missing where the tool is not installed.
    """
    stage(f"checking for target {plan.target}")
    notes, made = (), plan.to_dict()
    options = {"images": images} if plan.graph.half_floats else None
    if plan.calibrated and not plan.floats_on_purpose:
        notes = float_note(read_operators(path))
    try:
        report = check(path, plan.target, made=made, options=options)
    except MissingDependency as error:
        notes = (*notes, f"{NOT_PROVEN} {plan.target!r}: {error}")
        report = check(path, ANY, made=made)
    if not report.passed:
        raise UnsupportedOperators(f"the target does not support the file: {report}")
    return report, notes


def _prove(work, float_file, path, plan, inputs) -> dict[str, Parity]:
    """Run the file in LiteRT and compare it with the Keras model, output by output."""
    stage("comparing with the model")
    pixels = inputs.images.compared(inputs.outputs.shape)
    if plan.mixed:
        outputs = runners.run_on_all_cores(work, pixels)
    else:
        outputs = runners.load(work, threads()).all(pixels)
    parities = measure_outputs(
        *(inputs.references(pixels), outputs, plan.threshold_db),
        *(inputs.outputs.segments, merges_by_similarity(inputs.model)),
    )
    refused = [name for name, parity in parities.items() if not parity.passed]
    if plan.enforce_parity and refused:
        parity = parities[refused[0]]
        errors = tensor_errors(float_file, work, inputs.images.pixels)
        wrong = first_wrong(errors, plan.threshold_db)
        where = ""
        if wrong is not None:
            name, sqnr = wrong.name, wrong.sqnr_db
            where = f"; the first tensor below is {name} ({sqnr:.1f} dB)"
        which = "" if inputs.names is None else f"output {refused[0]!r}: "
        raise ParityError(
            f"{path} was not written: {which}scheme {plan.scheme!r} needs an SQNR of "
            f"{plan.threshold_db:g} dB ({plan.threshold_reason}). Measured: {parity}, "
            f"on {inputs.images.source}{where}",
            parity,
        )
    return parities

"""Write a `.tflite` file and prove it."""

import dataclasses
import os
import shutil
from typing import TYPE_CHECKING, Any

from .. import backend
from ..errors import MissingDependency, ParityError, UnsupportedOperators
from ..evaluation import runners
from ..evaluation.check import CheckReport, check
from ..evaluation.interpreter import threads
from ..evaluation.tensor_errors import first_wrong, tensor_errors
from ..evaluation.tools.integer_scan import float_note
from ..evaluation.verify import Parity, measure_parity, predict
from ..flatbuffer.operators import read_operators
from ..inputs import CALIBRATION_LIMIT, PARITY_LIMIT, ExportInputs, UserInputs
from ..plan import ExportPlan
from ..progress import stage
from ..quantization.accuracy_budget import Budget
from ..quantization.quantize import quantize
from ..quantization.strategies import choose_strategy, register_layers
from ..report import ExportReport, publish, read_report, workspace
from ..resolve import resolve
from ..targets import ANY
from . import file_metadata
from .converter import check_size, convert
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
    output_dtype: str | None = None,
    preprocessing: "Preprocessing | None" = None,
    labels: Any = None,
    description: str | None = None,
    licence: str | None = None,
    heads_apart: bool | None = None,
    min_sqnr: float | None = None,
    accuracy_drop: float | None = None,
    evaluation: Any = None,
    enforce_parity: bool = True,
) -> ExportReport:
    """Convert a Keras model to TFLite, run the file, and compare it with the model.

    The file takes raw RGB pixels 0..255 (normalisation is inside), has a fixed batch
    and builtin operators only. `<path>.json` beside it holds the report. The file
    appears under its name only when everything went well.

    Arguments:
        model: a functional Keras model, on any backend, or the path of a `.keras`
            file.
        path: the file to write; an existing one is replaced.
        scheme: a name in `SCHEMES`.
        target: a name in `TARGETS`: the graph is written as that device takes it, and
            its compiler or runtime must accept the file. None is "any", for LiteRT.
        calibration: pixels for ranges and parity: an array (N, H, W, C) with values
            0..255, a `.npy` file, a folder of images, a `tf.data.Dataset` or other
            iterable of batches (N, H, W, C), alone or with labels, or a data set as
            training takes it: "digits", an `.npz` file, "tfds:NAME", Grain. Needed by
            "int8"; of more than 128 images, 128 are drawn, of an iterable the first.
        calibration_method: how "int8" gets ranges from the values on these images:
            "min_max"; or, clipping outliers, "mse" (least squared error) or
            "percentile" (99.99 %). Pre-trained ViTs need their outliers.
        batch: number of images per run, fixed in the file.
        input_dtype: "uint8", "float32", or for "int8" also "int8"; the default is
            uint8, or float32 for a model without preprocessing. A float32 input takes
            pixels 0..255, too.
        output_dtype: "float32", or for "int8" also "int8" (default) and "uint8",
            with scale and zero point in the file. MediaPipe Tasks takes int8 neither
            here nor as input.
        preprocessing: a `vit_keras.Preprocessing` for a model that does not carry its
            own; it is put inside the file.
        labels: class names, kept in the file and in the JSON; None means those of the
            `labels.txt` beside a `.keras` file, if there is one.
        description, licence: of the model, kept in the file; its name is the model's.
        heads_apart: compute the heads of attention one after another, which needs
            less memory; None leaves it to the target.
        min_sqnr: for "int8", minimum SQNR in dB against the model's outputs: the most
            sensitive layers fall back to int16, or to float where the target has it,
            as few as meet it.
        accuracy_drop: the same with percentage points of top-1 accuracy that may be
            lost on `evaluation`.
        evaluation: labelled images, as training takes them: a folder of class folders,
            an `.npz` file, a pair of arrays, "tfds:NAME", ...; the test part is used.
        enforce_parity: refuse a file below its scheme's parity threshold.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError: an argument is unknown, missing or does not fit the model.
        UnsupportedOperators: the model needs operators that are not builtin.
        ParityError: the file's outputs are too far from the model's, or no file meets
            `min_sqnr` or `accuracy_drop`.
        FileNotFoundError: no such folder, model or calibration.
        OSError: the file cannot be written.
        MissingDependency: the extra "export" is not installed.
    """
    user = UserInputs(
        *(model, calibration, evaluation),
        *(preprocessing, labels, description, licence),
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
    )
    if backend.is_tensorflow():
        return write_tflite(user, path, plan)
    with user.saved() as inputs:
        where = {"path": os.fspath(path), "plan": plan.to_dict()}
        backend.run_in_child("to_tflite", {"inputs": inputs, **where})
    return read_report(path)


def answer_request(inputs, path, plan):
    """What the child process does, see `backend`; the report is beside the file."""
    write_tflite(UserInputs.restored(inputs), path, ExportPlan.from_dict(plan))


def write_tflite(user: UserInputs, path, plan: ExportPlan) -> ExportReport:
    """Make, prove and publish the file of a plan: the way of every model."""
    stage("reading the model and the images")
    register_layers(plan)
    inputs = ExportInputs.open(user, CALIBRATION_LIMIT)
    check_size(inputs.model, plan)
    plan = plan.for_input(inputs.takes_pixels)
    strategy = choose_strategy(plan, inputs)
    budget = Budget.open(plan, inputs) if plan.mixed else None
    with workspace(path) as work:
        stage("rewriting the graph")
        graph = strategy.graph()
        stage("converting")
        convert(graph.function, inputs.model, work, plan)
        if plan.calibrated:
            make_integer_ready(work)
        float_file = shutil.copyfile(work, work.with_name(f"{work.name}.float"))
        mixed, range_notes = quantize(work, plan, strategy, budget)
        file_metadata.embed(work, inputs)
        checked, check_notes = _check(work, plan)
        parity, input_output = _prove(work, float_file, path, plan, inputs)
        notes = (
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
            **input_output,
            operators=checked.operators,
            parity=parity,
            calibration=_calibration(plan, inputs),
            rewrites=graph.rewrites,
            plan=plan.to_dict(),
            mixed=mixed and dataclasses.asdict(mixed),
            checked_by=checked.tool,
            facts=checked.facts,
            runtime=checked.runtime,
            **inputs.report_fields(notes),
        )
        file_metadata.record(work, report)
        return publish(work, path, report)


def _check(path, plan) -> tuple[CheckReport, tuple[str, ...]]:
    """Have the target's tool check the file.

    Returns:
        Its report, and notes: what stays in float in a file of integers, and where the
        tool is not installed, what is not proven.
    """
    stage(f"checking for target {plan.target}")
    notes, made = (), plan.to_dict()
    if plan.calibrated and not plan.floats_on_purpose:
        notes = float_note(read_operators(path))
    try:
        report = check(path, plan.target, made=made)
    except MissingDependency as error:
        notes = (*notes, f"not proven for target {plan.target!r}: {error}")
        report = check(path, ANY, made=made)
    if not report.passed:
        raise UnsupportedOperators(f"the target does not support the file: {report}")
    return report, notes


def _prove(work, float_file, path, plan, inputs) -> tuple[Parity, dict[str, str]]:
    """Run the file in LiteRT and compare it with the Keras model.

    Returns:
        The parity, and what the runtime says of the file's input and output.
    """
    stage("comparing with the model")
    runner = runners.load(work, threads())
    pixels = inputs.images.pixels[:PARITY_LIMIT]
    parity = measure_parity(
        predict(inputs.model, pixels, preprocessing=inputs.preprocessing),
        runner(pixels),
        plan.threshold_db,
    )
    if plan.enforce_parity and not parity.passed:
        errors = tensor_errors(float_file, work, inputs.images.pixels)
        wrong = first_wrong(errors, plan.threshold_db)
        where = ""
        if wrong is not None:
            name, sqnr = wrong.name, wrong.sqnr_db
            where = f"; the first tensor below is {name} ({sqnr:.1f} dB)"
        raise ParityError(
            f"{path} was not written: scheme {plan.scheme!r} needs an SQNR of "
            f"{plan.threshold_db:g} dB ({plan.threshold_reason}). Measured: {parity}, "
            f"on {inputs.images.source}{where}",
            parity,
        )
    return parity, {
        "input": f"{runner.input_dtype} {runner.input_shape}",
        "output": f"{runner.output_dtype} {runner.output_shape}",
    }


def _calibration(plan, inputs):
    """What the ranges were measured on, for the report; None if they were not."""
    if not plan.calibrated or plan.trained:
        return None
    return {**inputs.images.summary(), "method": plan.calibration_method}

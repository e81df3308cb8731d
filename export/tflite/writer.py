"""Write a `.tflite` file and prove it."""

import dataclasses
import shutil

from .. import backend, child
from ..errors import MissingDependency, ParityError, UnsupportedOperators
from ..evaluation import check, runners, tensor_errors
from ..evaluation.verify import compare, predict
from ..progress import stage
from ..quantization import calibration as images_of
from ..quantization import post_training, trained
from ..quantization.accuracy_budget import check_budget, fit_budget, open_budget
from ..quantization.gptq import GRIDS, round_weights
from ..report import ExportReport, publish, staged
from ..schemes import get_scheme
from ..targets import form_for, get_target
from . import file_metadata
from .converter import convert
from .options import check_options, check_size, special_rules


def to_tflite(
    model,
    path,
    *,
    scheme="float32",
    target=None,
    calibration=None,
    calibration_method="min_max",
    batch=1,
    input_dtype=None,
    output_dtype=None,
    preprocessing=None,
    labels=None,
    description=None,
    licence=None,
    heads_apart=None,
    min_sqnr=None,
    accuracy_drop=None,
    evaluation=None,
    enforce_parity=True,
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
        target: a name in `TARGETS`: the graph is written as it suits that place, and
            its compiler or runtime must accept the file. None for a file for LiteRT.
        calibration: pixels for ranges and parity: an array (N, H, W, C) with values
            0..255, a `.npy` file, a folder of images, or a `tf.data.Dataset` or other
            iterable of batches (N, H, W, C), alone or with labels. Needed by "int8";
            of more than 128 images, 128 are drawn, of a data set the first ones used.
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
        labels: class names, kept in the file and in the JSON.
        description, licence: of the model, kept in the file; its name is the model's.
        heads_apart: compute the heads of attention one after another, which needs
            less memory; None leaves it to the target.
        min_sqnr: for "int8", dB that the outputs must reach against the model's: the
            fewest parts of the network are raised to int16, or to float where the
            target has it.
        accuracy_drop: the same with percentage points of top-1 accuracy that may be
            lost on `evaluation`.
        evaluation: labelled images: a folder of class folders, a `.npz` file with
            `images` and `labels`, or a pair of such arrays.
        enforce_parity: refuse a file below its scheme's parity threshold.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError: an argument is unknown, missing or does not fit the model.
        UnsupportedOperators: the model needs operators that are not builtin.
        ParityError: the file's outputs are too far from the model's, or no file meets
            `min_sqnr` or `accuracy_drop`.
        FileNotFoundError: no such folder or calibration.
        MissingDependency: the extra "export" is not installed.
    """
    rules = get_scheme(scheme)
    input_dtypes, output_dtypes = check_options(
        scheme, target, batch, input_dtype, output_dtype, calibration_method
    )
    wanted = check_budget(min_sqnr, accuracy_drop, evaluation, scheme, target)
    is_trained = trained.is_trained(model)
    if rules.needs_calibration and calibration is None and not is_trained:
        raise ValueError(
            f"`calibration` is required by scheme={scheme!r}: give an array of pixels "
            "(N, H, W, C) in 0..255, a .npy file or a folder of images like those that "
            "the model will see; 32 to 128 are enough"
        )
    options = {
        "scheme": scheme,
        "target": target,
        "calibration": calibration,
        "calibration_method": calibration_method,
        "batch": batch,
        "input_dtype": input_dtype,
        "output_dtype": output_dtype,
        "preprocessing": preprocessing,
        "labels": labels,
        "description": description,
        "licence": licence,
        "heads_apart": heads_apart,
        "min_sqnr": min_sqnr,
        "accuracy_drop": accuracy_drop,
        "evaluation": evaluation,
        "enforce_parity": enforce_parity,
    }
    if not backend.here():
        return child.in_child("tflite", model, path, options)
    from ..graph.build import inference_graph
    from ..inputs import Source
    from ..quantization.aware.file_ranges import trained_ranges

    aware = None
    if is_trained:
        model = trained.opened(model)
        aware = model.quantized
        clipped = calibration_method != "min_max"
        trained.check_use(aware, scheme, target, heads_apart, wanted or clipped)
    stage("reading the model and the images")
    limit = images_of.CALIBRATION_LIMIT
    source = Source.open(model, preprocessing, labels, calibration, limit)
    model, images = source.model, source.images
    check_size(model, scheme)
    budget = None
    if wanted:
        budget = open_budget(min_sqnr, accuracy_drop, evaluation, source)
    # Without preprocessing inside, the file takes what the model takes: no pixels.
    pixels = source.preprocessing is not None
    input_dtype = input_dtype or (input_dtypes[0] if pixels else "float32")
    output_dtype = output_dtype or output_dtypes[0]
    precise = get_target(target).raised if target else "int16"
    form = form_for(scheme, target, heads_apart, wanted and precise == "int16")
    threshold = min(rules.min_sqnr_db, form.reachable_db)
    measured = rules.needs_calibration and aware is None
    with staged(path) as work:
        # A quantised input is exactly uint8 only if the float graph starts in float.
        entry = "float32" if rules.needs_calibration else input_dtype
        stage("rewriting the graph")
        rounding = ()
        if aware is not None:
            graph = trained.trained_graph(aware)
        else:
            graph = inference_graph(model, source.preprocessing, images.pixels, form)
            rounding = _round(graph, images, rules.weights)
        stage("converting")
        convert(graph.function, model, work, scheme, batch, entry)
        reference = work.with_name(f"{work.name}.float")  # another than its own
        choice = None
        shutil.copyfile(work, reference)  # to say where an error begins
        if rules.recipe is not None:
            stage("quantising the weights")
            content = post_training.weights_only(work, rules.recipe)
            work.write_bytes(content)
        elif rules.needs_calibration:
            stage(f"measuring ranges on {len(images.pixels)} images")
            if aware is not None:
                ranges = trained_ranges(work, aware, images.pixels)
            else:
                ranges = images_of.measure_ranges(
                    *(work, images.pixels, pixels, calibration_method)
                )
            special = special_rules(scheme, target)
            if aware is not None:
                special += trained.weight_rules(work, aware)
            elif target and get_target(target).by_row and scheme == "int8":
                special = post_training.by_row(work, get_target(target).int8_only)
            ends = (input_dtype, output_dtype)
            if budget is not None:
                choice = fit_budget(
                    *(work, ranges, budget, ends, special, target, precise)
                )
            else:
                stage("quantising")
                content = post_training.static(work, ranges, *ends, special)
                work.write_bytes(content)
        file_metadata.embed(work, source, description, licence)

        stage(f"asking the tool of target {target or 'cpu'}")
        inspected, unproven = _inspect(work, target or "cpu")
        stage("comparing with the model")
        runner = runners.load(work, runners.threads())
        parity_images = images.pixels[: images_of.PARITY_LIMIT]
        parity = compare(
            predict(model, parity_images, preprocessing=source.preprocessing),
            runner(parity_images),
            threshold,
        )
        if enforce_parity and not parity.passed:
            raise ParityError(
                f"{path} was not written: scheme {scheme!r} needs an SQNR of "
                f"{threshold:g} dB ({rules.reason}). Measured: {parity}, on "
                f"{images.source}{_where(reference, work, images.pixels, threshold)}",
                parity,
            )
        notes = rounding if choice is None else (*rounding, str(choice))
        report = ExportReport(
            path=str(path),
            format="tflite",
            scheme=scheme,
            target=target,
            size_bytes=0,
            input=f"{runner.input_dtype} {runner.input_shape}",
            output=f"{runner.output_dtype} {runner.output_shape}",
            operators=inspected.operators,
            parity=parity,
            calibration={**images.summary(), "method": calibration_method}
            if measured
            else None,
            rewrites=graph.rewrites,
            form=dataclasses.asdict(form),
            mixed=None if choice is None else dataclasses.asdict(choice),
            checked_by=inspected.tool,
            facts=inspected.facts,
            runtime=inspected.runtime,
            **source.describe((*graph.notes, *unproven, *notes)),
        )
        file_metadata.record(work, report)
        return publish(work, path, report)


def _round(graph, images, weights):
    """Round weights of a graph for a scheme that has such `weights`.

    Returns:
        Notes: what was done, or would need images.
    """
    grid = GRIDS.get(weights)
    if grid is None or graph.layer is None:
        return ()
    if images.synthetic:
        needed = "with `calibration` they would lose less"
        return (f"weights rounded to the nearest {weights}: {needed}",)
    stage(f"rounding weights to {weights}")
    count = round_weights(graph, images.pixels, grid)
    return (f"weights ({grid.layers}) rounded by GPTQ on {count} images",)


def _where(reference, path, images, threshold):
    """The first tensor that went wrong, for an error's message."""
    errors = tensor_errors.tensor_errors(reference, path, images)
    wrong = tensor_errors.first_wrong(errors, threshold)
    if wrong is None:
        return ""
    return f"; the first tensor below is {wrong.name} ({wrong.sqnr_db:.1f} dB)"


def _inspect(path, target):
    """Have the target judge the file.

    Returns:
        The report, and notes: where its tool is not installed, what is not proven.
    """
    notes = ()
    try:
        report = check.check(path, target)
    except MissingDependency as error:
        notes = (f"not proven for target {target!r}: {error}",)
        report = check.check(path, "cpu")
    if not report.passed:
        raise UnsupportedOperators(f"target refuses the file: {report}")
    return report, notes

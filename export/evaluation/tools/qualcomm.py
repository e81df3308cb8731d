"""Checker for Qualcomm's Hexagon NPUs: their own compiler must take the file whole."""

import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from ...errors import MissingDependency
from ...flatbuffer.op_versions import version_key
from ...flatbuffer.operators import read_operators
from ...targets import get_target
from .op_list import check_op_list
from .qualcomm_compiler import QualcommResult, compile_qualcomm, compiler_name
from .qualcomm_socs import SOCS
from .result import CheckResult, UnsupportedOp

# What the compiler takes and computes wrong, found by running it in its emulation.
PIXELS_TO_ONE = "the NPU makes 1.0 of every value of UINT8 but 0"
MEAN_SATURATES = "a MEAN in INT16 may saturate before 2.51"
EXPORT = "export with target='qualcomm'"
INT8 = "export with scheme='int8' and target='qualcomm'"  # which each SoC takes
FIXES = {"EXP": EXPORT}  # the softmax of other targets' int8


def check_qualcomm(path, found, name, options=None) -> CheckResult:
    """Compile the file for SoCs, whose NPU must take it whole.

    Without the compiler, the published list is asked.

    Arguments:
        options: {"socs": names in `SOCS`}; None for those in `TARGETS`.

    Raises:
        ValueError: a SoC is unknown.
    """
    socs = _socs_of(options, get_target(name).checker_options["socs"])
    try:
        tool = compiler_name()
    except MissingDependency as error:
        listed = check_op_list(path, found, name)
        problems = (*listed.unsupported, *computed_wrong(found, ""))
        tool = f"{listed.tool} ({error})"
        return CheckResult(tool, problems, listed.facts)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "out.tflite")
        return _judge(found, [compile_qualcomm(path, out, soc) for soc in socs], tool)


def compile_for_soc(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    target: str,
    options: Mapping[str, Any] | None = None,
) -> CheckResult:
    """Compile a file for one SoC, and write what LiteRT runs on the device.

    Arguments:
        path: a `.tflite` file.
        out: of the compiled file.
        target: "qualcomm".
        options: {"socs": one name in `SOCS`}; None is the first of the target.

    Returns:
        What the compiler measured, and what is wrong with the file: then `out` is of
        no use.

    Raises:
        ValueError: the SoC is unknown, or more than one.
        MissingDependency: the extra "qualcomm" is not installed.
    """
    socs = _socs_of(options, get_target(target).checker_options["socs"][:1])
    if len(socs) != 1:
        raise ValueError(f"`soc` must be one SoC. Received: {', '.join(socs)}")
    tool = compiler_name()
    return _judge(read_operators(path), [compile_qualcomm(path, out, *socs)], tool)


def _socs_of(options, default) -> tuple[str, ...]:
    unknown = set(options or ()) - {"socs"}
    if unknown:
        raise ValueError(
            f"`options` must be socs for Qualcomm. Received: {', '.join(unknown)}"
        )
    return check_socs((options or {}).get("socs", default))


def check_socs(socs) -> tuple[str, ...]:
    """Return names of SoCs as a tuple, or raise ValueError for one unknown."""
    socs = (socs,) if isinstance(socs, str) else tuple(socs)
    for soc in socs:
        if soc not in SOCS:
            raise ValueError(
                f"`soc` must be one of {', '.join(SOCS)}. Received: {soc!r}"
            )
    return socs


def qualcomm_unsupported(result: QualcommResult) -> list[UnsupportedOp]:
    """Return what keeps a file from running whole on the NPU, with reasons."""
    if result.whole:
        return []
    why = "; ".join(result.reasons) or "without a reason"
    if result.refused:
        reason = f"{result.soc} leaves it out: {why}"
        return [
            UnsupportedOp(name, count, reason, FIXES.get(name, INT8))
            for name, count in result.refused.items()
        ]
    if result.status:
        reason = f"the compiler stops for {result.soc}, status {result.status}: {why}"
        return [UnsupportedOp("", 0, reason, INT8)]
    return [UnsupportedOp("", 0, f"{result.soc}: {result.partitions} partitions")]


def computed_wrong(found, version) -> list[UnsupportedOp]:
    """Return operators that the compiler of a version takes and computes wrong."""
    casts = sum(
        op.name == "CAST" and (op.inputs[0], op.outputs[0]) == ("UINT8", "FLOAT32")
        for op in found
    )
    problems = []
    if casts:
        fix = f"{EXPORT}, whose float files take float32"
        problems.append(UnsupportedOp("CAST", casts, PIXELS_TO_ONE, fix))
    means = sum(op.name == "MEAN" and op.inputs[0] == "INT16" for op in found)
    if means and version and version_key(version) < version_key("2.51"):
        fix = "pip install 'onnxruntime-qnn>=2.7'"
        problems.append(UnsupportedOp("MEAN", means, MEAN_SATURATES, fix))
    return problems


def _judge(found, results, tool):
    """Return the result of a check from those of the compiler for some SoCs."""
    version = results[0].version
    problems = [op for result in results for op in qualcomm_unsupported(result)]
    problems += computed_wrong(found, version)
    facts = {result.soc: result.facts for result in results if result.whole}
    return CheckResult(f"QAIRT {version} of {tool}", tuple(problems), facts)

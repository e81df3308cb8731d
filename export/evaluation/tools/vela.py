"""Checker for Arm Ethos-U: its compiler, Vela, places operators on the NPU or CPU."""

import collections
import os
import re
import tempfile
from collections.abc import Mapping
from typing import Any

from vit_keras.atomic import publishing

from ...errors import UnsupportedOperators
from ...flatbuffer.operators import read_operators
from .result import CheckResult, UnsupportedOp
from .vela_compiler import OPTIONS, run_vela, vela_options, vela_tool

SCARCE_KB = 512  # SRAM of the usual Ethos-U55 device
CALL = "export with scheme='int8' and target='{}'"
FIXES = {
    "NEG": f"a layer norm of stock Keras; {CALL}, which has none",
    "QUANTIZE": f"a float island ends here; {CALL}",
    "DEQUANTIZE": f"a float island begins here; {CALL}",
}
STOPPED = "export with a fixed batch"


def check_vela(path, found, name, options=None) -> CheckResult:
    """Compile the file for the device of the options in `TARGETS`, or of others.

    `options` and errors are those of `vela_options`.
    """
    tool, chosen = vela_tool(), vela_options(name, options)
    with tempfile.TemporaryDirectory() as folder:
        run = run_vela(path, folder, chosen)
    if run.stopped:
        reason = UnsupportedOp("", 0, f"Vela stops: {run.stopped}", STOPPED)
        return CheckResult(tool, (reason,))
    facts = vela_facts(run, name, chosen, options)
    return CheckResult(tool, vela_unsupported(run.said, name), facts)


def compile_file(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    target: str,
    options: Mapping[str, Any] | None = None,
) -> CheckResult:
    """Compile a file for an Ethos-U target, and write what the device runs.

    Arguments:
        path: a `.tflite` file.
        out: of the compiled `.tflite` file; written whole or not at all.
        target: name of an Ethos-U target.
        options: of `vela_options`.

    Returns:
        Vela's facts, and the operators that it left to the CPU of the device.

    Raises:
        UnsupportedOperators: Vela stops at the file.
        ValueError: the path is no TFLite file, or as `vela_options`.
        FileNotFoundError: there is no such file, or folder of `out`.
        MissingDependency: Vela is not installed.
    """
    tool, chosen = vela_tool(), vela_options(target, options)
    read_operators(path)  # raises if it is no TFLite file
    with tempfile.TemporaryDirectory() as folder, publishing(out) as work:
        run = run_vela(path, folder, chosen)
        if run.stopped:
            raise UnsupportedOperators(
                f"'{path}': Vela stops: {run.stopped} ({STOPPED})"
            )
        work.write_bytes(run.file.read_bytes())
    facts = vela_facts(run, target, chosen, options)
    return CheckResult(tool, vela_unsupported(run.said, target), facts)


def vela_facts(run, target, chosen, options=None) -> dict[str, Any]:
    """Return Vela's estimates; also the options that were given, of another device."""
    row = run.summary
    off_chip = (row["dram_memory_used"], row["off_chip_flash_memory_used"])
    facts = {
        "accelerator": chosen["accelerator"],
        **{key: chosen[key] for key in OPTIONS if (options or {}).get(key)},
        "estimate_ms": round(float(row["inference_time"]) * 1e3, 3),
        "sram_kb": round(float(row["sram_memory_used"])),
        "off_chip_kb": round(sum(map(float, off_chip))),
    }
    if facts["sram_kb"] > SCARCE_KB and target == "ethos_u55":
        facts["hint"] = f"over {SCARCE_KB} KB of SRAM: heads_apart=True needs less"
    return facts


def vela_unsupported(text, name) -> tuple[UnsupportedOp, ...]:
    """Return operators that Vela left to the CPU, with its reasons."""
    counts, reasons = collections.Counter(), {}
    pattern = r"operator: (\w+), ofm[^\n]*\n((?:\s+- [^\n]*\n|\s+Reason[^\n]*\n)*)"
    for operator, why in re.findall(pattern, text):
        counts[operator] += 1
        reasons.setdefault(operator, " ".join(why.replace("- ", "").split()))
    return tuple(
        UnsupportedOp(
            *(op, count, reasons[op] or "stays on the CPU"),
            FIXES.get(op, "").format(name),
        )
        for op, count in counts.items()
    )

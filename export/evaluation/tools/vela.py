"""Checker for Arm Ethos-U: its compiler, Vela, places operators on the NPU or CPU."""

import collections
import csv
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tempfile

from ...errors import missing
from ...targets import get_target
from .result import CheckResult, UnsupportedOp

SCARCE_KB = 512  # SRAM of the usual Ethos-U55 device
CALL = "export with scheme='int8' and target='{}'"
FIXES = {
    "NEG": f"a layer norm of stock Keras; {CALL}, which has none",
    "QUANTIZE": f"a float island ends here; {CALL}",
    "DEQUANTIZE": f"a float island begins here; {CALL}",
}
# Operators at which Vela 5.2 itself fails, on Ethos-U55 and U65.
STOPS = {"ARG_MAX": "let the file end in what ARG_MAX reads, without `decode`"}


def check_vela(path, found, name) -> CheckResult:
    """Compile the file for the device of the options in `TARGETS`."""
    try:
        version = importlib.metadata.version("ethos-u-vela")
    except importlib.metadata.PackageNotFoundError as error:
        raise missing("ethos-u-vela", "edge") from error
    options = get_target(name).checker_options
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(pathlib.Path(sys.executable).with_name("vela"), path),
            *("--accelerator-config", options["accelerator"]),
            *("--config", "Arm/vela.ini", "--system-config", options["system"]),
            *("--memory-mode", options["memory"], "--show-cpu-operations"),
            *("--output-dir", folder),
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        text = done.stdout + done.stderr
        if done.returncode:
            last = " ".join(text.strip().splitlines()[-3:])
            names = {op.name for op in found}
            fixes = [fix for name, fix in STOPS.items() if name in names]
            fix = fixes[0] if fixes else "export with a fixed batch"
            reason = UnsupportedOp("", 0, f"Vela stops: {last}", fix)
            return CheckResult(f"ethos-u-vela {version}", (reason,))
        (summary,) = pathlib.Path(folder).glob("*_summary_*.csv")
        with open(summary) as file:
            row = next(csv.DictReader(file))
    facts = {
        "accelerator": options["accelerator"],
        "estimate_ms": round(float(row["inference_time"]) * 1e3, 3),
        "sram_kb": round(float(row["sram_memory_used"])),
        "off_chip_kb": round(
            float(row["dram_memory_used"]) + float(row["off_chip_flash_memory_used"])
        ),
    }
    if facts["sram_kb"] > SCARCE_KB and name == "ethos_u55":
        facts["hint"] = f"over {SCARCE_KB} KB of SRAM: heads_apart=True needs less"
    return CheckResult(f"ethos-u-vela {version}", vela_unsupported(text, name), facts)


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

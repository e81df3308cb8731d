"""Checker for Intel: OpenVINO on this CPU, and LiteRT's plugin for partitions."""

import pathlib
import re
import subprocess
import tempfile

from ...child_process import check_not_killed
from ...errors import missing
from .. import runners
from .result import CheckResult, UnsupportedOp
from .second_runtime import differences, litert_outputs, samples, stacked, too_far

# Float: another order of sums. Integers: OpenVINO fuses, and rounds less often.
LIMITS = {"of the range": 1e-4, "LSB": 10}


def check_openvino(path, found, name) -> CheckResult:
    """Compare the outputs with LiteRT on random pixels, in float32 precision."""
    try:
        import openvino
    except ImportError as error:
        raise missing("openvino", "edge") from error
    tool = f"openvino {openvino.__version__.partition('-')[0]}"
    # Without the hint a CPU with bfloat16 would use it.
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    try:
        model = openvino.Core().compile_model(str(path), "CPU", options)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        return CheckResult(
            tool, (UnsupportedOp("", 0, f"OpenVINO cannot read it: {reason}"),)
        )
    inputs = samples(runners.TFLiteRunner(path))
    received = stacked([list(model([one]).values()) for one in inputs])
    apart = differences(litert_outputs(path, inputs), received)
    unsupported, facts = too_far(apart, LIMITS, found)
    return CheckResult(tool, unsupported, facts | partitions(path))


def partitions(path):
    """Return how LiteRT's plugin for Intel NPUs (Panther Lake) partitions the file."""
    import ai_edge_litert
    import openvino

    litert = pathlib.Path(ai_edge_litert.__file__).parent
    libraries = pathlib.Path(openvino.__file__).parent / "libs"
    program = litert / "tools" / "apply_plugin_main"
    if not program.is_file():  # Linux only
        return {}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                *(program, "--cmd=partition", f"--model={path}"),
                f"--libs={litert / 'vendors' / 'intel_openvino' / 'compiler'}",
                *("--soc_manufacturer=IntelOpenVINO", "--soc_model=PTL"),
                f"--o={folder}/out.tflite",
            ],
            capture_output=True,
            text=True,
            env={"LD_LIBRARY_PATH": str(libraries)},
        )
    check_not_killed("LiteRT's plugin for Intel NPUs", done.returncode)
    pattern = r"selected (\d+) ops, from a total of (\d+) ops. resulted in (\d+)"
    found = re.search(pattern, done.stdout + done.stderr)
    if found is None:
        return {}
    chosen, total, parts = map(int, found.groups())
    return {"NPU plugin": f"{chosen} of {total} operators, {parts} partitions"}

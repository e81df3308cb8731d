"""Checker for GPUs: LiteRT's WebGPU delegate, on software Vulkan without a GPU."""

import importlib.metadata
import os
import pathlib
import re

import numpy as np

from ...child_process import answer, run_check
from ...errors import MissingDependency
from ...graph.stream_scale import LARGEST
from .. import runners
from ..half_precision import computes_in_float, half_precision
from .result import CheckResult, UnsupportedOp
from .second_runtime import differences, litert_outputs, samples, stacked, too_far

# GPUs may compute in half precision (2^-11) and sum in another order.
LIMITS = {"of the range": 2e-3, "LSB": 10}
FIX = "export with target='gpu'"
FIX_HALF = f"{FIX} and images as `calibration`, or have the GPU compute in float32"
# Software Vulkan of Debian's package chromium.
SOFTWARE = "/usr/lib/chromium/vk_swiftshader_icd.json"


def check_webgpu(path, found, name, options=None) -> CheckResult:
    """Compare the outputs with LiteRT on a CPU: accepting a file proves no numbers.

    A file that computes in floats must fit into float16, which needs no GPU: on the
    "images" in `options`, or random pixels.
    """
    options = dict(options or {})
    images = options.pop("images", None)
    if options:
        raise ValueError(
            f"`options` of target 'gpu' are images. Received: {', '.join(options)}"
        )
    inside = {}
    if computes_in_float(found):
        half = half_precision(path, images)
        if not half.passed:
            return CheckResult("float16 in LiteRT", (_overflow(half),))
        inside = {"half precision": str(half)}
    environment = {"XDG_RUNTIME_DIR": "/tmp", **os.environ}
    if os.path.isfile(SOFTWARE):
        environment.setdefault("VK_ICD_FILENAMES", SOFTWARE)
    said, stderr = run_check(
        f"{__name__}:run_webgpu", pathlib.Path(path).resolve(), environment
    )
    tool = f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')} WebGPU"
    if "No adapters found" in stderr:
        raise MissingDependency(
            "a GPU with a Vulkan driver is needed here and not found: "
            "apt-get install chromium libvulkan1 installs one in software"
        )
    if not said:
        return CheckResult(tool, tuple(webgpu_unsupported(stderr)))
    if not said["full"]:
        return CheckResult(
            tool, (UnsupportedOp("", 0, "parts of it stay on the CPU", FIX),)
        )
    wrong, facts = too_far(said["apart"], LIMITS, found, FIX)
    return CheckResult(
        tool, wrong, {"fully accelerated": said["full"]} | facts | inside
    )


def _overflow(half) -> UnsupportedOp:
    """The result or sum that does not fit into float16, or what is lost there."""
    worst, where = half.worst, f"on {half.images} {half.source}"
    if half.headroom >= 1:
        return UnsupportedOp("", 0, f"no finite outputs in float16, {where}", FIX_HALF)
    what = "a result" if worst is half.result else "a sum"
    reason = (
        f"{what} of {worst.value:.3g} in {worst.name} is beyond float16, "
        f"{LARGEST:g}, {where}"
    )
    return UnsupportedOp(worst.operator, 1, reason, FIX_HALF)


def webgpu_unsupported(text):
    """Yield unsupported operators, with the delegate's reasons."""
    found = re.findall(r"^\s*(?:ERROR: )?([A-Z_0-9]{3,}): ([A-Z][^\n]*)", text, re.M)
    seen = {(op, why.strip()) for op, why in found if op not in ("ERROR", "INFO")}
    for operator, why in sorted(seen):
        yield UnsupportedOp(operator, 1, why, FIX)
    if not seen:
        lines = [line for line in text.splitlines() if "rror" in line]
        yield UnsupportedOp(
            "", 0, f"it stops: {lines[-1] if lines else 'without a message'}", FIX
        )


def run_webgpu(path):
    """Run both runtimes and answer; called in the child process."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator

    runner = runners.TFLiteRunner(path)
    inputs = samples(runner, 2)
    expected = litert_outputs(path, inputs)
    gpu = HardwareAccelerator.GPU
    model, results = CompiledModel.from_file(path, hardware_accel=gpu), []
    entry, end = model.create_input_buffers(0), model.create_output_buffers(0)
    for one in inputs:
        entry[0].write(one)
        model.run_by_index(0, entry, end)
        results.append(
            [
                np.asarray(buffer.read(values[0].size, values.dtype.type))
                for buffer, values in zip(end, expected, strict=True)
            ]
        )
    apart = differences(expected, stacked(results))
    answer(apart=apart, full=bool(model.is_fully_accelerated()))
    os._exit(0)  # the driver may crash while cleaning up

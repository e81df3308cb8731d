"""Parity of a `.tflite` file on an NPU, in its maker's emulation, with LiteRT."""

import os
from typing import Any

import numpy as np

from ..targets import get_target
from . import runners
from .interpreter import check_images, threads
from .parity import Parity, measure_outputs
from .parity_images import images_for
from .tools.qualcomm import check_socs
from .tools.qualcomm_emulation import run_emulated
from .verify import read_sidecar

# Rounding in another order may lose as much as scheme "int8" may: a tenth of the
# signal. What is computed wrong loses all of it.
LEAST_DB = 10.0


def emulate(
    path: str | os.PathLike[str],
    images: Any,
    *,
    target: str = "qualcomm",
    soc: str | None = None,
    limit: int | None = None,
) -> dict[str, Parity]:
    """Run a file as an NPU runs it, in the emulation of its maker, and compare it with
    LiteRT on this CPU.

    The emulation gives the NPU's own numbers, not its speed: a ViT-Ti takes 10 to 30
    seconds an image.

    Arguments:
        path: a `.tflite` file, before it is compiled.
        images: (N, H, W, C), pixels 0..255; or whatever else calibration takes: a
            folder, a `.npy` file, a data set, of which the test part is used.
        target: "qualcomm", which alone has an emulation.
        soc: one name of `evaluation/tools/qualcomm_socs.py`; None is the first of the
            target.
        limit: use at most this many images.

    Returns:
        {name of an output: `Parity` with LiteRT}; it passes from 10 dB on. Of a file
        that ends in classes, 1 for the class of a pixel and 0 for each other are
        compared, without a threshold.

    Raises:
        ValueError: the target or SoC is unknown, the NPU does not take the file
            whole, or the images do not fit it.
        FileNotFoundError: the file or the images do not exist.
        MissingDependency: the extra "qualcomm" is not installed.
        RuntimeError: the emulation fails.
    """
    if target != "qualcomm":
        raise ValueError(f"`target` must be 'qualcomm'. Received: target={target!r}")
    (soc,) = check_socs(soc or get_target(target).checker_options["socs"][0])
    runner, recorded = runners.TFLiteRunner(path, threads()), read_sidecar(path)
    if not hasattr(images, "__array__"):
        images = images_for(path, images, limit)
    images = check_images(images, runner.input_shape)[:limit]
    batches, expected = [], {name: [] for name in runner.output_shapes}
    batch = runner.input_shape[0]
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        runner.set_input(np.resize(chunk, (batch, *chunk.shape[1:])))
        batches.append(runner.get_input())
        runner.interpreter.invoke()
        for name, values in expected.items():
            values.append(runner.get_output(name))
    received = run_emulated(path, soc, np.stack(batches))
    reference, found = {}, {}
    for (name, values), stored in zip(expected.items(), received, strict=True):
        reference[name] = np.concatenate(values)[: len(images)]
        found[name] = np.concatenate(runner.dequantised(name, stored))[: len(images)]
    threshold = LEAST_DB
    if (recorded.get("plan") or {}).get("class_map"):
        ((name, classes),) = reference.items()
        both = np.stack([classes, found[name]]).astype(int)
        codes, threshold = np.eye(both.max() + 1, dtype="float32"), None
        reference, found = ({name: codes[one]} for one in both)
    segments = recorded.get("head") == "segmentation"
    return measure_outputs(reference, found, threshold, segments)

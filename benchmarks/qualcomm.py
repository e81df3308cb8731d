"""What Qualcomm's compiler makes of a ViT, and what its emulation of the NPU computes.

    python benchmarks/qualcomm.py --models ti16 --digits artifacts/digits --out x.csv

Of each size with random weights, every scheme of target `qualcomm` for every SoC: how
many operators the NPU takes, in how many pieces, and the traffic with memory; there is
no estimate of time. `emulated_db` is the emulation against LiteRT on this CPU. Of the
model that `make demo` trains, also the accuracy of both on the same held-out images.
"""

import argparse
import pathlib
import tempfile
from typing import Any

import keras
import latency
import numpy as np
from machine import versions, write_rows

import export
from export.evaluation.parity import measure_parity
from export.evaluation.runners import TFLiteRunner
from export.evaluation.tools.qualcomm_compiler import compile_qualcomm
from export.evaluation.tools.qualcomm_emulation import run_emulated
from export.evaluation.tools.qualcomm_socs import SOCS
from vit_keras import data

SCHEMES = export.TARGETS["qualcomm"].schemes
DEVICE = "SM8750"  # of the emulation, and of the larger models
FIELDS = ("model", "scheme", "soc", "hexagon", "operators", "taken", "partitions")
FIELDS += ("dram_read_mb", "dram_written_mb", "dram_spilled_mb", "compiled_mb")
FIELDS += ("images", "emulated_db", "agreement", "accuracy_cpu", "accuracy_emulated")
FIELDS += ("versions",)
PACKAGES = ("onnxruntime-qnn", "ai-edge-litert", "onnxruntime", "litert-quantizer")


def export_for_qualcomm(model, scheme, folder, images):
    """The path of a file."""
    path = folder / f"{scheme}.tflite"
    calibration = images if export.SCHEMES[scheme].needs_calibration else None
    options = {"scheme": scheme, "target": "qualcomm", "calibration": calibration}
    # Random weights keep less than trained ones.
    export.to_tflite(model, path, enforce_parity=False, **options)
    return path


def compiled(path, soc, folder):
    """The columns of a compilation."""
    result = compile_qualcomm(path, folder / "compiled.tflite", soc)
    facts = {k: v for k, v in result.facts.items() if k in FIELDS}
    print(path.stem, soc, result.taken, result.total, result.partitions, flush=True)
    hexagon = f"v{SOCS[soc].hexagon}"
    return {
        **{"soc": soc, "hexagon": hexagon, "operators": result.total},
        **{"taken": result.taken, **facts, "partitions": result.partitions},
    }


def emulated(path, images, labels=None):
    """The columns of a run in the emulation."""
    runner = TFLiteRunner(path)
    batches = []
    for image in images:
        runner.set_input(image[None])
        batches.append(runner.get_input())
    expected = runner(images)
    (stored,) = run_emulated(path, DEVICE, np.stack(batches))
    (name,) = runner.output_shapes
    found = np.concatenate(runner.dequantised(name, stored))
    parity = measure_parity(expected, found)
    row = {"images": len(images), "emulated_db": round(parity.sqnr_db, 2)}
    row["agreement"] = parity.agreement
    if labels is not None:
        row["accuracy_cpu"] = np.mean(expected.argmax(-1) == labels)
        row["accuracy_emulated"] = np.mean(found.argmax(-1) == labels)
    print(path.stem, row, flush=True)
    return row


def rows_of_size(name, schemes, number, folder):
    """Yield rows of a size with random weights: of a small one in full."""
    model = latency.build_ours(*latency.SIZES[name])
    shape = (4, latency.IMAGE, latency.IMAGE, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    full = name in ("ti16", "toy")  # the others take minutes
    for scheme in schemes if full else ("int8",):
        path = export_for_qualcomm(model, scheme, folder, images)
        for soc in SOCS if full else (DEVICE,):
            row = {"model": name, "scheme": scheme, **compiled(path, soc, folder)}
            if soc == DEVICE and full and number:
                row |= emulated(path, images[:number])
            yield row


def rows_of_digits(trained, schemes, folder):
    """Yield rows of the model that `make demo` trained."""
    model: Any = keras.models.load_model(trained / "model.keras")
    size = model.config.image_size
    training, held_out = data.digits()
    training, _ = data.prepare(training, size, model.config.preprocessing)
    held_out, _ = data.prepare(held_out, size, model.config.preprocessing)
    for scheme in schemes:
        path = export_for_qualcomm(model, scheme, folder, training.images)
        row = {"model": "digits", "scheme": scheme, **compiled(path, DEVICE, folder)}
        images, labels = np.asarray(held_out.images[:100]), held_out.labels[:100]
        yield row | emulated(path, images, labels)


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="*", choices=latency.SIZES, default=["ti16"])
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=SCHEMES)
    parser.add_argument("--run", type=int, default=1, help="images to emulate, of ti16")
    parser.add_argument("--digits", type=pathlib.Path, help="what `make demo` wrote")
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()
    installed, rows = versions(PACKAGES), []
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        for name in options.models:
            rows += rows_of_size(name, options.schemes, options.run, folder)
        if options.digits is not None:
            rows += rows_of_digits(options.digits, options.schemes, folder)
    rows = [{**dict.fromkeys(FIELDS, ""), **r, "versions": installed} for r in rows]
    if options.out is not None:
        write_rows(options.out, FIELDS, rows)


if __name__ == "__main__":
    main()

"""What Arm's compiler estimates for a ViT on Ethos-U, beside the stock conversion.

    python benchmarks/npu.py --models ti16 --out x.csv

Rows: `stock`, the full int8 file that TensorFlow's converter makes of the same ViT of
stock Keras layers, with a fixed batch; ours as exported for the target, and with
`heads_apart`. Random weights, which estimates do not see. `refused` are operators that
stay on the CPU; what that costs is in no estimate.
"""

import argparse
import pathlib
import tempfile

import latency
import numpy as np
from machine import versions, write_rows

import export
import vit_keras
from export.flatbuffer.operators import read_operators

TARGETS = ("ethos_u55", "ethos_u65", "ethos_u85")
FIELDS = ("model", "file", "target", "accelerator", "operators", "refused")
FIELDS += ("estimate_ms", "sram_kb", "off_chip_kb", "versions")


def files_of(name, target, images, folder):
    """{name of a row: path}."""
    width, depth, heads = latency.SIZES[name]
    config = vit_keras.ViTConfig(
        image_size=latency.IMAGE,
        patch_size=latency.PATCH,
        hidden_size=width,
        num_layers=depth,
        num_heads=heads,
        mlp_dim=4 * width,
    )
    model, found = vit_keras.create_model(config), {}
    for apart in (False, True):
        row = "ours, heads apart" if apart else "ours"
        found[row] = folder / f"{row}.tflite"
        export.to_tflite(
            *(model, found[row]),
            scheme="int8",
            target=target,
            calibration=images,
            heads_apart=apart,
            enforce_parity=False,
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=latency.SIZES, default=["ti16"])
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()
    packages = ("ethos-u-vela", "tensorflow", "litert-quantizer")
    installed = versions(packages)
    images = np.random.default_rng(0).uniform(
        0, 255, (4, latency.IMAGE, latency.IMAGE, 3)
    )
    rows = []
    for name in options.models:
        with tempfile.TemporaryDirectory() as made:
            folder = pathlib.Path(made)
            stock = folder / "stock.tflite"
            stock.write_bytes(
                latency.stock_int8(latency.build_stock(*latency.SIZES[name]))
            )
            for target in TARGETS:
                found = {"stock": stock, **files_of(name, target, images, folder)}
                for row, path in found.items():
                    report = export.check(path, target)
                    refused = sum(refusal.count for refusal in report.unsupported)
                    accelerator = report.facts.get("accelerator", "")
                    values = (name, row, target, accelerator)
                    values += (len(read_operators(path)), refused)
                    values += tuple(
                        report.facts.get(field, "") for field in FIELDS[6:9]
                    )
                    rows.append(dict(zip(FIELDS, (*values, installed), strict=True)))
                    print(*values, flush=True)
    if options.out is not None:
        write_rows(options.out, FIELDS, rows)


if __name__ == "__main__":
    main()

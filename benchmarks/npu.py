"""What Arm's compiler estimates for a ViT on Ethos-U, beside the stock conversion.

    python benchmarks/npu.py --models ti16 --out x.csv --operators y.csv

Rows: `stock`, the full int8 file that TensorFlow's converter makes of the same ViT of
stock Keras layers, with a fixed batch; `plain`, our rewritten ViT with a convolution of
patches and scores as (queries, keys); ours as exported for the target, with
`heads_apart`, and with the residual stream in int16. Random weights, which estimates do
not see. `refused` are operators that stay on the CPU; what that costs is in no
estimate. The second file has the cycles of each operator, before (`plain`) and after.
"""

import argparse
import contextlib
import dataclasses
import pathlib
import tempfile

import latency
import numpy as np
from machine import versions, write_rows

import export
from export.flatbuffer.operators import read_operators
from export.targets import TARGETS, GraphOptions

DEVICES = ("ethos_u55", "ethos_u65", "ethos_u85")
FIELDS = ("model", "file", "target", "accelerator", "operators", "refused")
FIELDS += ("estimate_ms", "sram_kb", "off_chip_kb", "versions")
OPERATORS = ("model", "file", "target", "operator", "cycles", "cycles_share")
OPERATORS += ("macs_share", "versions")
OURS = {
    "ours": {},
    "ours, heads apart": {"heads_apart": True},
    "ours, residual in int16": {"scheme": "int8_residual16"},
}


def files_of(name, target, images, folder):
    """{name of a row: path}."""
    model, found = latency.build_ours(*latency.SIZES[name]), {}
    for row, more in {"plain": {}, **OURS}.items():
        found[row] = folder / f"{row}.tflite"
        options = {"scheme": "int8", "target": target, "calibration": images, **more}
        with written_plainly(target) if row == "plain" else contextlib.nullcontext():
            export.to_tflite(model, found[row], **options, enforce_parity=False)
    return found


@contextlib.contextmanager
def written_plainly(target):
    """Write the graph of a target without the forms that are faster on it."""
    row = TARGETS[target]
    graph = row.graph.written_as(GraphOptions())
    TARGETS[target] = dataclasses.replace(row, graph=graph)
    try:
        yield
    finally:
        TARGETS[target] = row


def cycles(path, target):
    """Rows of a file's operators, the slowest first."""
    for found in export.profile(path, target).operators:
        yield {
            "operator": found.name,
            "cycles": round(found.cycles),
            "cycles_share": f"{found.cycles_share:.4f}",
            "macs_share": f"{found.macs_share:.4f}",
        }


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=latency.SIZES, default=["ti16"])
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    parser.add_argument("--operators", type=pathlib.Path, help="another, of cycles")
    options = parser.parse_args()
    packages = ("ethos-u-vela", "tensorflow", "litert-quantizer")
    installed = versions(packages)
    images = np.random.default_rng(0).uniform(
        0, 255, (4, latency.IMAGE, latency.IMAGE, 3)
    )
    rows, operators = [], []
    for name in options.models:
        with tempfile.TemporaryDirectory() as made:
            folder = pathlib.Path(made)
            stock = folder / "stock.tflite"
            stock.write_bytes(
                latency.stock_int8(latency.build_stock(*latency.SIZES[name]))
            )
            for target in DEVICES:
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
                    if row not in ("plain", "ours") or options.operators is None:
                        continue
                    given = {"model": name, "file": row, "target": target}
                    operators += [
                        {**given, **cost, "versions": installed}
                        for cost in cycles(path, target)
                    ]
    if options.out is not None:
        write_rows(options.out, FIELDS, rows)
    if options.operators is not None:
        write_rows(options.operators, OPERATORS, operators)


if __name__ == "__main__":
    main()

"""What a trained ViT keeps in float16, as GPUs compute, and with planted outliers.

    python benchmarks/gpu_headroom.py CHECKPOINT PHOTOS --out x.csv

The checkpoint's features in float32 files, with photographs: the largest result and sum
against float16's 65504, and the signal to noise ratio of the file in float16. Planted
are outliers as large models have them: a bias of the first block's MLP that gives one
channel of all tokens the value, or the class token's own value in that channel. `file`:
exported for no target, or for the target gpu, which scales the residual stream.
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np
from machine import versions, write_rows

import export
import vit_keras
from vit_keras import preprocessing as pp

FIELDS = ("outlier", "tokens", "file", "headroom", "largest_result", "largest_sum")
FIELDS += ("largest_product_bound", "float16_sqnr_db", "parity_db", "scaled", "images")
FIELDS += ("seed", "versions")
PACKAGES = ("keras", "tensorflow", "ai-edge-litert")
CHANNEL = 5


def plant(model, size, tokens):
    """Add a value to one channel of the residual stream, of all tokens or the class
    token; without LayerScale, which would take it back."""
    if tokens == "all":
        block = model.get_layer("encoderblock_0")
        variable, scale = block.mlp.dense2.bias, 1.0
        if block.layer_scale2 is not None:
            scale = float(np.asarray(block.layer_scale2.gamma)[CHANNEL])
        place = (CHANNEL,)
    else:
        variable, scale = model.get_layer("class_token").token, 1.0
        place = (0, 0, CHANNEL)
    values = keras.ops.convert_to_numpy(variable).copy()
    values[place] += size / scale
    variable.assign(values)


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", help="what vit_keras.from_checkpoint takes")
    parser.add_argument("photos", type=pathlib.Path, help="folder of images")
    parser.add_argument("--outliers", type=float, nargs="+", default=[1e3, 1e4])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()
    files, rows = pp.find_images(options.photos), []
    order = np.random.default_rng(options.seed).permutation(len(files))
    chosen = [files[i] for i in order[: 2 * options.images]]
    cases = [(0.0, "none")]
    cases += [(size, which) for which in ("all", "class") for size in options.outliers]
    for size, tokens in cases:
        model = vit_keras.from_checkpoint(
            options.checkpoint, task="features", image_size=options.image_size
        )
        config = model.config
        pixels = np.stack(
            [pp.load_image(f, config.image_size, config.preprocessing) for f in chosen]
        )
        given, others = pixels[: options.images], pixels[options.images :]
        if size:
            plant(model, size, tokens)
        for target in (None, "gpu"):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "model.tflite"
                report = export.to_tflite(
                    model, path, target=target, calibration=given, enforce_parity=False
                )
                half = export.half_precision(path, others)
            scaled = [n.split(" for ")[0] for n in report.notes if "scaled by" in n]
            values = (f"{size:g}", tokens, target or "any", f"{half.headroom:.3g}")
            peaks = (half.result, half.sum, half.product)
            values += tuple(f"{peak.value:.4g}" for peak in peaks)
            values += (f"{half.sqnr_db:.1f}", f"{report.parity.sqnr_db:.1f}")
            values += ("".join(scaled).rpartition(" ")[2], half.images, options.seed)
            row = (*values, versions(PACKAGES))
            rows.append(dict(zip(FIELDS, row, strict=True)))
            print(*values, flush=True)
    if options.out is not None:
        write_rows(options.out, FIELDS, rows)


if __name__ == "__main__":
    main()

"""Segment photographs: train a decoder on a ViT, export it, compare the masks.

    python examples/segment_camvid.py FOLDER --weights CHECKPOINT [--finetune]

FOLDER has photographs and masks as `vit-keras train --task segment` takes them, such as
CamVid's `train`, `trainannot`, `val`, ... and a `classes.json`. CHECKPOINT is a
pre-trained ViT in any layout, frozen unless `--finetune` is given; a run that is in
`--out` already is not trained again. Writes a `.tflite` file of each scheme,
`masks.csv` with their figures on the test part, and `masks.png`: photograph, truth, the
float model, the int8 file.
"""

import argparse
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import rich
from PIL import Image

import export
import vit_keras
from vit_keras import preprocessing as pp
from vit_keras.cli.program import own_lines_only
from vit_keras.cli.tables import new_table, print_table

SCHEMES = ("float32", "dynamic_int8", "int8_attention16", "int8")
DRAWN = 4  # photographs in the picture


def predicted(run, dataset, config):
    """The classes of each photograph's pixels, uint8 (h, w) each, and their score."""
    from vit_keras import data
    from vit_keras.training.dense_metrics import SegmentationScore

    score, masks = SegmentationScore(config.classes, config.activation), []
    for index in range(len(dataset)):
        pixels = data.read_pixels(dataset.images[index], config.channels)
        inputs = pp.fit(pixels, config.image_size, config.preprocessing)
        logits = pp.to_photograph(
            np.asarray(run(inputs[None])[0], "float32"),
            pixels.shape[:2],
            config.preprocessing,
        )
        score.add(logits, dataset.labels[index])
        masks.append(logits.argmax(-1).astype("uint8"))
    return masks, score.metrics()


def figures(masks, metrics, reference):
    """Mean IoU, accuracy, and agreement with the reference's masks, in percent."""
    same = sum((a == b).sum() for a, b in zip(masks, reference, strict=True))
    agreement = same / sum(mask.size for mask in masks)
    return [100 * x for x in (metrics["mean_iou"], metrics["accuracy"], agreement)]


def picture(dataset, config, rows):
    """Photographs and masks side by side, in rows."""
    from vit_keras import data
    from vit_keras.visualize import overlay_mask

    chosen = np.linspace(0, len(dataset) - 1, DRAWN).astype(int)
    lines = []
    for index in chosen:
        photo = data.read_pixels(dataset.images[index], config.channels)
        masks = [dataset.labels[index], *(masks[index] for masks in rows)]
        drawn = [overlay_mask(photo, mask, opacity=0.6) for mask in masks]
        size = drawn[0].shape[1::-1]
        first = np.asarray(Image.fromarray(photo).resize(size))
        lines.append(np.concatenate([first, *drawn], axis=1))
    return Image.fromarray(np.concatenate(lines))


def trained(arguments):
    """Train as the command line says."""
    recipe = vit_keras.RECIPES["segment" if arguments.finetune else "segment_probe"]
    settings = {"image_size": tuple(arguments.image_size), "decoder": arguments.decoder}
    recipe = recipe.replace(
        model={**recipe.model, **settings},
        weights=arguments.weights,
        seed=arguments.seed,
        epochs=arguments.epochs or recipe.epochs,
    )
    return vit_keras.train(arguments.folder, recipe, out=arguments.out, task="segment")


def main():
    # Here, as they load TensorFlow, which has much to say.
    from vit_keras import data
    from vit_keras.model_file import open_model

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--weights")
    parser.add_argument("--out", type=pathlib.Path, default="artifacts/camvid")
    parser.add_argument("--image-size", type=int, nargs=2, default=(252, 336))
    parser.add_argument("--decoder", default="linear")
    parser.add_argument("--finetune", action="store_true")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out = arguments.out

    if (out / "model.keras").is_file():
        rich.print(f"the run in {out}")
        model = open_model(out / "model.keras")
    else:
        model = trained(arguments)
    config = model.config
    training = data.open_source(arguments.folder, task="segment")
    test = data.open_source(arguments.folder, held_out=True, task="segment")
    chosen = np.linspace(0, len(training) - 1, min(64, len(training))).astype(int)
    images = [
        pp.fit(
            data.read_pixels(training.images[i], config.channels),
            config.image_size,
            config.preprocessing,
        )
        for i in chosen
    ]

    def keras_model(pixels):
        return model.predict_on_batch(pp.normalize(pixels, config.preprocessing))

    reference, metrics = predicted(keras_model, test, config)
    found = {"Keras": (figures(reference, metrics, reference), "")}
    masks = {}
    for scheme in SCHEMES:
        rich.print(f"exporting {scheme}")
        report = export.to_tflite(
            model,
            out / f"{scheme}.tflite",
            scheme=scheme,
            calibration=np.stack(images),
            labels=list(config.labels or ()) or None,
        )
        masks[scheme], metrics = predicted(export.load(report.path), test, config)
        row = figures(masks[scheme], metrics, reference)
        found[scheme] = row, f"{report.parity.sqnr_db:.1f} dB"

    table = new_table("model", "mean IoU", "accuracy", "agreement", "SQNR")
    lines = ["model,mean_iou,accuracy,agreement,sqnr"]
    for name, (row, sqnr) in found.items():
        words = [f"{value:.2f}" for value in row]
        table.add_row(name, *words, sqnr)
        lines.append(",".join([name, *words, sqnr.removesuffix(" dB")]))
    print_table(table)
    (out / "masks.csv").write_text("\n".join(lines) + "\n")
    picture(test, config, [reference, masks["int8"]]).save(out / "masks.png")
    rich.print(f"wrote {out / 'masks.png'}: photograph, truth, float, int8")


if __name__ == "__main__":
    with own_lines_only():
        main()

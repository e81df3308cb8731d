"""Outliers of a trained ViT's residual stream, before and after the rotation.

    python benchmarks/residual_stream.py CHECKPOINT PHOTOS --out x.csv --picture x.svg

What each block adds to is read from the Keras model on photographs. `plain` is the
stream as it was trained, `rotated` the same without its mean and turned by the
orthogonal matrix of the export, which is what the exported graph computes. A row is the
largest value of a block's output, the median over channels of each channel's largest,
and `db`, the signal to noise ratio of the stream itself in int8 with one scale: the
more the largest values stand out, the fewer of 256 steps are left for the rest. The
picture has each channel's largest value after the block where they stand out most.
"""

import argparse
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from machine import machine, versions, write_rows

import vit_keras
from export.graph.orthogonal import orthogonal
from vit_keras import preprocessing as pp
from vit_keras.layers import EncoderBlock

PACKAGES = ("keras", "tensorflow")


def streams(model, images):
    """The output of each block, float64 (N * T, D)."""
    blocks = [layer for layer in model.layers if isinstance(layer, EncoderBlock)]
    function = keras.Model(model.inputs, [block.output for block in blocks])
    outputs = function.predict(images, batch_size=8, verbose=0)
    return [np.asarray(x, "float64").reshape(-1, x.shape[-1]) for x in outputs]


def rotated(stream):
    """The stream as the exported graph has it."""
    centred = stream - stream.mean(-1, keepdims=True)
    return centred @ orthogonal(stream.shape[-1])


def in_int8(stream):
    """SQNR in dB of a tensor in int8, with one scale from its smallest and largest."""
    step = (max(stream.max(), 0.0) - min(stream.min(), 0.0)) / 255
    error = stream - np.round(stream / step) * step
    return 10 * np.log10(np.square(stream).sum() / np.square(error).sum())


def row(block, kind, stream):
    """The figures of a block's output."""
    channels = np.abs(stream).max(0)
    return {
        "block": block,
        "stream": kind,
        "largest": f"{channels.max():.3g}",
        "median_channel": f"{np.median(channels):.3g}",
        "ratio": f"{channels.max() / np.median(channels):.1f}",
        "db": f"{in_int8(stream):.1f}",
    }


def picture(before, after, block):
    """Bars of each channel's largest value, before and after, as SVG."""
    width, height, left = 760, 150, 40
    top = max(before.max(), after.max())
    parts = []
    for i, (values, title) in enumerate(((before, "trained"), (after, "rotated"))):
        y0 = 24 + i * (height + 44)
        step = (width - left) / len(values)
        lines = "".join(
            f"M{left + (j + 0.5) * step:.1f} {y0 + height}v-{v / top * height:.1f}"
            for j, v in enumerate(values)
        )
        axis = f"M{left} {y0}V{y0 + height}H{width}"
        colour = ("#8a97a6", "#e8590c")[i]
        parts.append(
            f'<text x="{left + 8}" y="{y0 + 12}">{title}: largest value of each '
            f"of {len(values)} channels after block {block}</text>"
            f'<path d="{lines}" stroke="{colour}" stroke-width="{0.8 * step:.2f}"/>'
            f'<path d="{axis}" stroke="#8a97a6" fill="none"/>'
            f'<text x="{left - 6}" y="{y0 + 8}" text-anchor="end">{top:.0f}</text>'
            f'<text x="{left - 6}" y="{y0 + height}" text-anchor="end">0</text>'
        )
    size = f"0 0 {width + 4} {2 * (height + 44)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#7b8794">'
        f"{''.join(parts)}</svg>\n"
    )


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--picture", type=pathlib.Path, required=True)
    arguments = parser.parse_args()

    model = vit_keras.from_checkpoint(arguments.checkpoint)
    config = model.config
    files = pp.find_images(arguments.photos)
    chosen = np.random.default_rng(0).permutation(len(files))[: arguments.limit]
    pixels = [
        pp.load_image(files[i], config.image_size, config.preprocessing) for i in chosen
    ]
    images = pp.normalize(np.stack(pixels), config.preprocessing)
    rows, drawn = [], None
    for i, stream in enumerate(streams(model, images)):
        pair = {"plain": stream, "rotated": rotated(stream)}
        rows += [row(i + 1, kind, values) for kind, values in pair.items()]
        largest = [np.abs(values).max(0) for values in pair.values()]
        outstanding = largest[0].max() / np.median(largest[0])
        if drawn is None or outstanding > drawn[0]:
            drawn = outstanding, *largest, i + 1
    about = {
        "images": len(images),
        "machine": machine(),
        "versions": versions(PACKAGES),
    }
    fields = [*rows[0], *about]
    write_rows(arguments.out, fields, [{**values, **about} for values in rows])
    arguments.picture.write_text(picture(*(drawn or ())[1:]), encoding="utf-8")


if __name__ == "__main__":
    main()

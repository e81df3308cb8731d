"""How many images/s the input of a recipe can give to the device that trains.

    python benchmarks/train_input.py --recipes cifar10 deit --out train_input.csv

Smooth random images: of 32 pixels in memory where the recipe's model is that small, as
CIFAR-10 is kept, else JPEG files of 500 x 375, as in ImageNet. Medians of rounds that
take turns: images per second of CPU time, which a busy machine leaves alone and which
all cores add up to, and per second with a thread for each core.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import numpy as np
from machine import machine, write_rows
from PIL import Image

from vit_keras.data import Dataset
from vit_keras.model import configure
from vit_keras.training import RECIPES
from vit_keras.training.stream import Stream

FIELDS = ("recipe", "images", "batch_size", "per_cpu_second", "per_second", "machine")


def images_for(config, folder):
    """A data set, and what it is made of."""
    draws = np.random.default_rng(0)
    small = config.image_size == (32, 32)
    width, height, number = (32, 32, 1024) if small else (500, 375, 128)
    pictures = [
        Image.fromarray(draws.integers(0, 256, (9, 12, 3), "uint8")).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for _ in range(number)
    ]
    labels, classes = np.arange(number) % 10, tuple("0123456789")
    if small:
        return Dataset(
            np.stack([np.asarray(picture) for picture in pictures]), labels, classes
        ), "32 x 32 in memory"
    files = [folder / f"{i}.jpg" for i in range(number)]
    for file, picture in zip(files, pictures, strict=True):
        picture.save(file, quality=90)
    return Dataset(files, labels, classes), "JPEG 500 x 375"


def speeds(stream, step, batches):
    """(images per second of CPU time, per second) of some batches, made by threads."""
    made = stream.batches(step)
    next(made)
    wall, cpu = time.perf_counter(), time.process_time()
    number = sum(len(next(made)[0]) for _ in range(batches))
    done = number / (time.process_time() - cpu), number / (time.perf_counter() - wall)
    made.close()
    return done


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=["cifar10", "deit"])
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        streams, kinds, found = {}, {}, {name: [] for name in options.recipes}
        for name in options.recipes:
            config = configure(**{**RECIPES[name].model_arguments(10), "weights": None})
            dataset, kinds[name] = images_for(config, pathlib.Path(folder))
            size = min(RECIPES[name].batch_size, len(dataset))
            recipe = RECIPES[name].replace(batch_size=size, accumulate=1)
            streams[name] = Stream(dataset, config, recipe)
        for turn in range(options.rounds):
            for name, stream in streams.items():
                found[name].append(speeds(stream, turn * 1000, options.batches))
    rows = []
    for name, values in found.items():
        medians = [round(statistics.median(v)) for v in zip(*values, strict=True)]
        size = streams[name].recipe.batch_size
        row = (name, kinds[name], size, *medians, machine())
        rows.append(dict(zip(FIELDS, row, strict=True)))
        print(rows[-1])
    if options.out is not None:
        write_rows(options.out, FIELDS, rows)


if __name__ == "__main__":
    main()

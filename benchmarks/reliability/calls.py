"""What a user does with each file: the calls that `readers.READERS` makes.

Each takes the folder with the file, reads it whole, and uses it.
"""

import math
import pathlib

import numpy as np

from . import seed_files as seeds

# --- Weights and models --------------------------------------------------------


def read_weights(path: pathlib.Path) -> None:
    """Read every array of a checkpoint, and what a model would be made of it."""
    from vit_keras import CheckpointError
    from vit_keras.weights.describe import describe
    from vit_keras.weights.loader import find
    from vit_keras.weights.recognise import recognise

    checkpoint = find(path)
    problem = None
    try:
        describe(recognise(checkpoint), num_heads=2)
    except CheckpointError as error:
        problem = error
    for entry in checkpoint.entries.values():
        array = entry.read()
        if array.shape != entry.shape or array.dtype != entry.dtype:
            raise TypeError("an array is not as its entry says")
    if problem:
        raise problem


def weights(file: str = ""):
    """A call that reads a checkpoint in a folder, or the folder."""
    return lambda folder: read_weights(folder / file)


def own_weights(folder):
    import vit_keras

    vit_keras.load_weights(seeds.model(), folder / "a.weights.h5")


def whole_model(folder):
    from vit_keras.model_file import open_trained

    model, _ = open_trained(folder / "model.keras")
    model.predict_on_batch(np.zeros((1, *model.input_shape[1:]), "float32"))


def model_weights(folder):
    from vit_keras.weights.loader import find

    for entry in find(folder / "model.keras").entries.values():
        entry.read()


def trained_aware(folder):
    from export.inputs import UserInputs

    if UserInputs(str(folder / "model.keras")).is_trained:
        raise TypeError("no such model is in the file")


def resumed(folder):
    from vit_keras.training.checkpoint import open_last, restore
    from vit_keras.training.recipe import Recipe

    found = open_last(folder)
    if found is not None:
        Recipe.from_dict(found[1]["recipe"])
        restore(seeds.model(), *found)


# --- Settings ---------------------------------------------------------------------


def recipe(folder):
    from vit_keras.cli.options import read_recipe

    read_recipe(str(folder / "recipe.json"))


def labels(folder):
    from export.cli.arguments import read_labels
    from vit_keras.labels import check_labels, find_labels

    names = find_labels(folder / "model.keras")
    check_labels(names or ["none"])
    check_labels(read_labels(folder / "labels.txt") or ["none"])


def preprocessing(folder):
    from export.cli.arguments import read_preprocessing

    read_preprocessing(str(folder / "preprocessing.json"))


def text_tower(folder):
    from vit_keras.text_tower import text_tower_of

    text_tower_of(folder)


def report(folder):
    from export.evaluation.verify import read_sidecar
    from export.report import read_report

    read_sidecar(folder / "m.tflite")
    str(read_report(folder / "m.tflite"))


def kept(folder):
    from export.comparison_report.kept import Kept

    Kept(folder / "kept.json", "m").get("size", {"a": 1}, lambda: 5)


# --- Data --------------------------------------------------------------------------


def images(file):
    def read(folder):
        from vit_keras.preprocessing import read_image

        for channels in (3, 1):
            read_image(folder / file, channels)

    return read


def data(file="", task="classify"):
    """Opens a source and reads all of its images and labels."""

    def read(folder):
        from vit_keras.data import open_splits

        splits = open_splits(folder / file, task=task)
        dataset = splits.part(held_out=False)
        for at in range(len(dataset)):
            np.asarray(dataset.labels[at])
            item = dataset.images[at]
            if isinstance(item, pathlib.Path):
                from vit_keras.preprocessing import read_image

                read_image(item)

    return read


def calibration(file):
    def read(folder):
        from vit_keras import Preprocessing
        from vit_keras.data import load_images

        load_images(folder / file, seeds.SIZE, Preprocessing())

    return read


# --- Artefacts ------------------------------------------------------------------------


def metadata(folder):
    from export.flatbuffer.metadata import read_metadata

    read_metadata(folder / "m.tflite")


def operators(folder):
    from export.flatbuffer.operators import minimum_runtime, read_operators

    minimum_runtime(read_operators(folder / "m.tflite"))


def run(folder):
    from export.evaluation.runners import load

    runner = load(folder / "m.tflite")
    shape = [n or 1 for n in runner.input_shape]
    if math.prod(shape) < 10**6:
        runner(np.zeros(shape, "float32"))


def web(folder):
    from export.web.file_description import describe_file

    describe_file(folder / "m.tflite")


def as_keras(folder):
    from export.graph.open_source import open_for_export

    open_for_export(str(folder / "m.tflite"))


def c_array(folder):
    from export.tflite import c_array as writer

    writer.c_array(folder / "m.tflite", folder / "m.h")


def served(folder):
    from export.evaluation.runners import load

    runner = load(folder / "1")
    runner(np.zeros((1, *(n or 1 for n in runner.input_shape[1:])), "uint8"))


def checked(folder):
    from export.evaluation.check import check

    str(check(folder / "1", "tf-serving"))

"""Train a model as integers and export it: quantisation-aware training in one scroll.

    python examples/qat_cifar.py CIFAR10/train CIFAR10/test

Both folders hold one folder of images per class. It starts from the trained model in
`examples/models/cifar10` and takes some minutes on two cores.
"""

import pathlib
import sys

import keras
import numpy as np

import export
import vit_keras
from vit_keras import data
from vit_keras.preprocessing import normalize

MODEL = pathlib.Path(__file__).parent / "models" / "cifar10"


def read(folder, config, every):
    """(pixels, normalised images, labels) of every so many images."""
    dataset = data.folder(folder)
    dataset = dataset.take(np.arange(len(dataset))[::every])
    dataset, _ = data.prepare(dataset, config.image_size, config.preprocessing)
    pixels = np.asarray(dataset.images)
    return pixels, normalize(pixels, config.preprocessing), dataset.labels


def main(train, test, every=4):
    model = vit_keras.from_checkpoint(MODEL)
    pixels, images, labels = read(train, model.config, every)
    test_pixels, _, test_labels = read(test, model.config, every)

    aware = export.quantize_aware(model, pixels, weight_bits=4)
    aware.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-4, 400)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    aware.fit(images, labels, batch_size=64, epochs=2)
    aware.save("aware.keras")

    export.to_tflite(aware, "aware.tflite", scheme="int8")
    export.to_tflite(model, "float.tflite")
    for path in ("float.tflite", "aware.tflite"):
        outputs = export.load(path)(test_pixels)
        right = np.mean(outputs.argmax(1) == test_labels)
        size = pathlib.Path(path).stat().st_size / 1e6
        print(f"{path}: {right:.2%} of {len(test_labels)} images, {size:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

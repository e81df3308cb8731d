"""Layers and models as users write them; `python -m tests.export.own_layers FOLDER`
exports one on any backend."""

import pathlib
import sys

import keras
import numpy as np
from keras import layers, ops


class Scale(layers.Layer):
    """Without `**kwargs` and without `get_config`: it cannot be built again."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor


class Doubled(layers.Layer):
    """Can be saved, but is not registered."""

    def call(self, x):
        return 2 * x


class Forgetful(layers.Layer):
    """Its factor is neither a weight nor in its configuration."""

    factor = 1.0

    def call(self, x):
        return x * self.factor


class Subclassed(keras.Model):
    """A model without a graph of layers."""

    def __init__(self, classes=4):
        super().__init__()
        self.convolution = layers.Conv2D(8, 3, strides=2)
        self.flip = layers.RandomFlip()
        self.head = layers.Dense(classes)

    def call(self, images, training=None):
        x = self.flip(images / 255, training=training)
        return self.head(ops.mean(self.convolution(x), axis=(1, 2)))


def small(layer, front=None):
    """A small functional model around a layer, and another in front."""
    images = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3)((front or layers.Rescaling(1 / 255))(images))
    x = layers.GlobalAveragePooling2D()(layer(x))
    return keras.Model(images, layers.Dense(4)(x))


if __name__ == "__main__":
    import export
    from tests.export import own_layers

    folder = pathlib.Path(sys.argv[1])
    keras.utils.set_random_seed(0)
    try:
        export.to_tflite(small(Doubled()), folder / "script.tflite")
    except ValueError as error:
        print(error)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3))
    model = own_layers.small(own_layers.Doubled())
    export.to_tflite(model, folder / "same.tflite")
    print(export.verify(model, folder / "same.tflite", pixels).sqnr_db)

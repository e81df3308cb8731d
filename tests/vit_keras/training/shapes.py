"""Photographs of circles and squares on noise, with a mask each."""

import numpy as np
from PIL import Image, ImageDraw

from vit_keras.data import Dataset
from vit_keras.training import Recipe

NAMES = ("ground", "circle", "square")
SIZES = {
    "image_size": 48,
    "patch_size": 8,
    "num_layers": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "mlp_dim": 64,
    "taps": 2,
}
# Over in a second or two.
SHORT = Recipe(
    model=SIZES,
    epochs=2,
    batch_size=8,
    learning_rate=2e-3,
    warmup=0.0,
    label_smoothing=0.0,
    shift=0.0,
    precision="float32",
    validation_split=0.25,
)


def shapes(number, seed=0, size=48):
    """A circle and a square each, in colours of their own; the square is in front."""
    draws = np.random.default_rng(seed)
    images, masks = [], []
    for _ in range(number):
        image = draws.uniform(0, 80, (size, size, 3))
        canvas = Image.new("L", (size, size))
        draw = ImageDraw.Draw(canvas)
        for k, shape in ((1, draw.ellipse), (2, draw.rectangle)):
            side = int(draws.integers(12, 22))
            x, y = (int(v) for v in draws.integers(0, size - side, 2))
            shape((x, y, x + side, y + side), fill=k)
        mask = np.asarray(canvas)
        image[mask == 1] += (150, 60, 40)
        image[mask == 2] += (40, 80, 150)
        images.append(image.astype("uint8"))
        masks.append(mask)
    return Dataset(np.stack(images), np.stack(masks), NAMES, "segmentation")


def mask_of(image):
    """The mask of an image of `shapes`, from its pixels: what is red, what is blue."""
    red, blue = image[..., 0].astype(int), image[..., 2].astype(int)
    return np.where(blue >= 150, 2, np.where(red >= 150, 1, 0))

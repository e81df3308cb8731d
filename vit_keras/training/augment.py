"""Random changes to training images.

Of one image at a time by Pillow, in threads: crop, shift, flip, RandAugment. Of a whole
batch by the layers of Keras, on the device: erasing, MixUp, CutMix. Keras has a layer
for RandAugment, too; a batch of 32 images of 224 px takes it 1.4 s on 2 CPU cores.

Every draw follows from (seed, step, position in the batch), never from what was drawn
before, so that a resumed run sees the images that an unbroken one would have seen.
"""

import threading

import keras
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps


def _affine(image, matrix):
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )


def _enhance(kind):
    return lambda image, m: kind(image).enhance(1.0 + 0.9 * m)


# Name: function of (image, signed magnitude in [-1, 1]); ranges as in arXiv 1909.13719.
OPERATIONS = {
    "identity": lambda image, m: image,
    "autocontrast": lambda image, m: ImageOps.autocontrast(image),
    "equalize": lambda image, m: ImageOps.equalize(image),
    "rotate": lambda image, m: image.rotate(30.0 * m, Image.Resampling.BILINEAR),
    "solarize": lambda image, m: ImageOps.solarize(image, round(255 * (1 - abs(m)))),
    "posterize": lambda image, m: ImageOps.posterize(image, 8 - round(4 * abs(m))),
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": lambda image, m: _affine(image, (1, 0.3 * m, 0, 0, 1, 0)),
    "shear_y": lambda image, m: _affine(image, (1, 0, 0, 0.3 * m, 1, 0)),
    "translate_x": lambda image, m: _affine(
        image, (1, 0, 0.45 * m * image.width, 0, 1, 0)
    ),
    "translate_y": lambda image, m: _affine(
        image, (1, 0, 0, 0, 1, 0.45 * m * image.height)
    ),
}
THREE = {
    "grey": lambda image: ImageOps.grayscale(image).convert(image.mode),
    "solarize": lambda image: ImageOps.solarize(image, 128),
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(1.0)),
}
# The position that stands for a whole batch: beyond that of any image.
WHOLE_BATCH = 2**20


def draws_for(seed: int, step: int, position: int) -> np.random.Generator:
    """The random numbers of one image in one step."""
    return np.random.default_rng((seed, step, position))


def crop_box(width, height, smallest, draws):
    """A box of random area and ratio (arXiv 1409.4842, section 6), in pixels.

    Arguments:
        width, height: of the image.
        smallest: smallest share of its area.
        draws: NumPy generator.

    Returns:
        (left, top, right, bottom); the whole image if ten draws do not fit.
    """
    for _ in range(10):
        area = width * height * draws.uniform(smallest, 1.0)
        ratio = np.exp(draws.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(draws.integers(0, width - w + 1))
            top = int(draws.integers(0, height - h + 1))
            return left, top, left + w, top + h
    return 0, 0, width, height


def augment_image(pixels, image_size, recipe, draws):
    """One changed image.

    Arguments:
        pixels: uint8 array (H, W, C).
        image_size: (height, width) of the result; `pixels` has it unless there is a
            random resized crop.
        recipe: its `crop`, `shift`, `flip`, `randaugment`, `magnitude`,
            `three_augment`.
        draws: NumPy generator.

    Returns:
        uint8 array (height, width, C).
    """
    height, width = image_size
    grey = pixels.shape[-1] == 1
    if recipe.shift:
        rows, columns = round(height * recipe.shift), round(width * recipe.shift)
        padded = np.pad(pixels, ((rows, rows), (columns, columns), (0, 0)), "edge")
        top, left = draws.integers(0, (2 * rows + 1, 2 * columns + 1))
        shape = pixels.shape
        pixels = padded[top : top + shape[0], left : left + shape[1]]
    if recipe.flip and draws.random() < 0.5:
        pixels = pixels[:, ::-1]
    if not (recipe.crop or recipe.randaugment or recipe.three_augment):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels))
    if recipe.crop:
        box = crop_box(image.width, image.height, recipe.crop, draws)
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    for _ in range(recipe.randaugment):
        name = draws.choice(list(OPERATIONS))
        magnitude = recipe.magnitude * draws.choice((-1.0, 1.0))
        image = OPERATIONS[name](image, magnitude)
    if recipe.three_augment:
        image = THREE[draws.choice(list(THREE))](image)
    return np.asarray(image).reshape(height, width, pixels.shape[-1])


class BatchAugment:
    """Erasing, MixUp and CutMix of a batch, by the layers of Keras.

    Arguments:
        recipe: its `erase`, `mixup`, `cutmix`, `seed`.

    Call arguments:
        images: float array (B, H, W, C), 0..255.
        labels: float array (B, classes).
        step: number of the step, from which the draws follow.

    Returns:
        Both, changed, as NumPy arrays.
    """

    def __init__(self, recipe):
        layers = keras.layers
        self.seed = recipe.seed
        self.erase = self.mixes = None
        if recipe.erase:
            self.erase = layers.RandomErasing(recipe.erase, seed=recipe.seed)
        self.mixes = []
        if recipe.mixup:
            self.mixes.append(layers.MixUp(recipe.mixup, seed=recipe.seed))
        if recipe.cutmix:
            self.mixes.append(layers.CutMix((recipe.cutmix,) * 2, seed=recipe.seed))
        self.lock = threading.Lock()  # the layers' random state is set, then used

    def __bool__(self):
        return bool(self.erase or self.mixes)

    def __call__(self, images, labels, step):
        if not self:
            return images, labels
        with self.lock:
            if self.erase:
                images = self._run(self.erase, images, step)
            if self.mixes:
                draws = draws_for(self.seed, step, WHOLE_BATCH)
                mix = self.mixes[draws.integers(len(self.mixes))]
                both = {"images": images, "labels": labels}
                both = self._run(mix, both, step)
                images, labels = both["images"], both["labels"]
        return np.asarray(images), np.asarray(labels)

    def _run(self, layer, inputs, step):
        state = layer.generator.state
        state.assign(np.array((self.seed, step), state.dtype))
        output = layer(inputs, training=True)
        return keras.tree.map_structure(keras.ops.convert_to_numpy, output)

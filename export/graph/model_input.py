"""What a model's input means, read from the model and never guessed.

Shape letters: N images, H height, W width in pixels, C colour channels.
"""

import dataclasses
from typing import Any

import keras
import numpy as np

from vit_keras.layers import Patches
from vit_keras.preprocessing import Preprocessing, formula, get_preprocessing

from .find_vit import find_vit
from .inference_layer import InferenceViT
from .source_model import nodes_of

# What `255 * scale` is where layers bring pixels to the range of a network: x / 255
# gives 1, the statistics of dark images 30; those of images in 0..1 more than 500.
PIXEL_SPANS = (0.5, 100.0)


@dataclasses.dataclass(frozen=True)
class OwnNormalisation:
    """What the first layers of a model do to every pixel: `x * scale + offset`.

    Attributes:
        scale, offset: float64 (C,); 1 and 0 if there are no such layers.
        layers: class names of those that change values, in order.
        resizes: whether the images have another size behind them.
        reader: the layer that reads the normalised images; None for several.
    """

    scale: np.ndarray
    offset: np.ndarray
    layers: tuple[str, ...] = ()
    resizes: bool = False
    reader: Any = None

    @property
    def is_identity(self) -> bool:
        """Whether the reader gets the model's own input."""
        return not self.layers

    @property
    def takes_pixels(self) -> bool:
        """Whether the input is pixels 0..255, as its scale says."""
        low, high = PIXEL_SPANS
        span = np.abs(255 * self.scale)
        return not self.is_identity and bool(((span > low) & (span < high)).all())


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """What an artefact of a model takes, and what happens to it inside.

    Attributes:
        inside: `Preprocessing` to put inside the artefact, before the model's input;
            None for nothing.
        reading: how photographs are brought to the model's size; None if its input is
            not known to be pixels.
        own: the model's own normalisation.
        source: where this is known from, in words.
        converts: whether the model's own `predict` applies `inside`, too.
    """

    inside: Preprocessing | None
    reading: Preprocessing | None
    own: OwnNormalisation
    source: str
    converts: bool = False

    @property
    def takes_pixels(self) -> bool:
        """Whether the artefact takes pixels 0..255."""
        return self.reading is not None

    def describe(self, dtype: str) -> str:
        """One line for the report, such as "uint8 RGB pixels 0..255; x / 255 inside,
        from the model's own Rescaling"."""
        if not self.takes_pixels:
            return f"{dtype}, what the model takes; no normalisation inside"
        scale, offset = self.own.scale, self.own.offset
        if self.inside is not None:
            scale, offset = self.inside.scale_and_offset()
        rule = formula(scale, offset)
        return f"{dtype} {self._pixels} 0..255; {rule} inside, from {self.source}"

    def describe_model(self) -> str:
        """The same of what `model.predict` is fed, as parity feeds it: such as
        "float32, x / 255 of RGB pixels x in 0..255"."""
        if not self.takes_pixels:
            return "the same"
        if self.inside is None or self.converts:
            return f"float32 {self._pixels} 0..255"
        rule = formula(*self.inside.scale_and_offset())
        return f"float32, {rule} of {self._pixels} x in 0..255"

    @property
    def _pixels(self):
        return "RGB pixels" if len(self.own.scale) == 3 else "pixels"


def read_model_input(model: Any, given: Any = None, original: Any = None) -> ModelInput:
    """Find out what the input of a model means.

    Preprocessing goes inside an artefact only if the user gives it, or if a ViT of this
    package, which carries its own, reads the model's input directly.

    Arguments:
        model: what `as_functional` returns.
        given: the user's `Preprocessing` or the name of one, or None.
        original: what `as_functional` was given, if that is another model.

    Raises:
        ValueError: `given` is unknown, or the model normalises its input by itself.
    """
    own = own_normalisation(model)
    channels = model.inputs[0].shape[-1]
    pixels = get_preprocessing("0..255", channels)
    if given is not None:
        if own.takes_pixels:
            raise ValueError(
                "`preprocessing` must be left out for a model that normalises its "
                f"input by itself: its {' and '.join(own.layers)} computes "
                f"{formula(own.scale, own.offset)}. Received: {given}"
            )
        name = given if isinstance(given, str) else None
        given = get_preprocessing(given, channels)
        words = "the argument `preprocessing`"
        words += f" ({name})" if name else ""
        return ModelInput(given, given, own, words)
    carried = _carried(model, own)
    if carried is not None:
        return ModelInput(carried, carried, own, "the ViT's configuration")
    if own.takes_pixels:
        words = f"the model's own {' and '.join(own.layers)}"
        return ModelInput(None, pixels, own, words)
    converter = _image_converter(model if original is None else original, channels)
    if converter is not None:
        return ModelInput(converter, converter, own, "the task's image converter", True)
    return ModelInput(None, None, own, "the model")


def _carried(model, own: OwnNormalisation) -> Preprocessing | None:
    """The preprocessing of a ViT of this package that reads the model's input, also of
    one from `quantize_aware`."""
    quantized = getattr(model, "quantized", None)
    if isinstance(quantized, InferenceViT) and quantized.source_weights is not None:
        return quantized.source_weights.config.preprocessing
    vit = find_vit(model)
    reads = own.is_identity and isinstance(own.reader, Patches)
    return vit.config.preprocessing if reads and vit is not None else None


def own_normalisation(model: Any) -> OwnNormalisation:
    """Read what the first layers of a functional model do to every pixel.

    The layers are run, not recognised by their names: `Rescaling`, `Normalization` and
    `images / 127.5 - 1` are alike, and an augmentation does nothing at inference.
    """
    channels = model.inputs[0].shape[-1]
    scale, offset = np.ones(channels), np.zeros(channels)
    tensor, layers, size, reader = model.inputs[0], [], model.inputs[0].shape, None
    while True:
        readers = [
            node
            for node in nodes_of(model)
            if any(x is tensor for x in node.input_tensors)
        ]
        if len(readers) != 1 or len(readers[0].outputs) != 1:
            break
        reader, output = readers[0].operation, readers[0].outputs[0]
        found = _per_channel(model, output)
        if found is None:
            break
        if not all(
            np.allclose(a, b) for a, b in zip(found, (scale, offset), strict=True)
        ):
            layers += _names(reader)
        (scale, offset), tensor, size = found, output, output.shape
    resizes = size[1:3] != model.inputs[0].shape[1:3]
    if isinstance(reader, keras.Model) and hasattr(reader, "operations"):
        inner = own_normalisation(reader)  # the layers are those of a nested model
        scale, offset = scale * inner.scale, offset * inner.scale + inner.offset
        layers += inner.layers
        resizes, reader = resizes or inner.resizes, inner.reader
    return OwnNormalisation(scale, offset, tuple(layers), resizes, reader)


def _names(layer):
    """The class names of a layer, or of those in a model that change values."""
    nested = isinstance(layer, keras.Sequential) or hasattr(layer, "operations")
    inner = own_normalisation(layer).layers if nested else ()
    return inner or (type(layer).__name__,)


def _per_channel(model, tensor):
    """(scale, offset) of a tensor that is the input times and plus a number per
    channel, apart from its size; else None."""
    shape, size = tensor.shape, model.inputs[0].shape[1:]
    if len(shape) != 4 or shape[-1] != size[-1] or None in shape[1:]:
        return None
    draws = np.random.default_rng(0)
    colours = [np.zeros(size[-1]), np.full(size[-1], 255.0), 50.0 + np.arange(size[-1])]
    images = np.stack([np.broadcast_to(colour, size) for colour in colours])
    noise = draws.uniform(0, 255, (1, *size))
    part = keras.Model(model.inputs[0], tensor)
    images = np.concatenate([images, noise]).astype("float32")
    values = keras.ops.convert_to_numpy(part(images, training=False)).astype("float64")
    offset = values[0].mean((0, 1))
    scale = (values[1].mean((0, 1)) - offset) / 255
    near = 1e-3 * max(np.abs(values).max(), 1e-6)  # some layers compute in float16
    expected = [colour * scale + offset for colour in colours]
    if any(
        np.abs(v - e).max() > near for v, e in zip(values[:3], expected, strict=True)
    ):
        return None
    if (
        shape[1:3] == size[:2]
        and np.abs(values[3] - noise * scale - offset).max() > near
    ):
        return None
    return scale, offset


def _image_converter(model, channels):
    """The `Preprocessing` that a keras-hub task applies in `predict`, or None."""
    converter = getattr(getattr(model, "preprocessor", None), "image_converter", None)
    if converter is None or not hasattr(converter, "scale"):
        return None
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    scale, offset = (np.broadcast_to(v, channels) for v in (scale, offset))
    return Preprocessing.of(scale, offset, interpolation=converter.interpolation)

"""`Preprocessing`, and normalisation: what a model's input is, as data."""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# How a photograph of another shape comes to the input's.
RESIZES = {
    "cover": "resized until it covers the input, the centre of which is kept",
    "stretch": "stretched to the input, so that shapes change",
    "contain": "resized until all of it is inside the input, the rest is padded",
}

# Known normalisations, by the range that pixels are brought to or the data whose
# statistics they are: mean and std on the scale 0..1, for all channels or for RGB.
NORMALISATIONS = {
    "-1..1": ((0.5,), (0.5,)),
    "0..1": ((0.0,), (1.0,)),
    "0..255": ((0.0,), (1 / 255,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Normalisation and resizing of a model's input, saved with the model.

    Arguments:
        mean, std: per channel, on the scale 0..1. The input is
            `(pixel / 255 - mean) / std`. The default maps 0..255 to -1..1, as the ViT
            paper's code does.
        interpolation: name of Pillow's resampling filter, antialiased.
        crop: fraction of the shorter side that the centre crop keeps, in (0, 1]; of
            both sides with "stretch"; 1 with "contain".
        resize: how a photograph of another shape comes to the input's, a name in
            `RESIZES`: "cover" crops, "stretch" distorts (as MediaPipe's segmenter
            does), "contain" pads both ends equally with the colour `mean`.

    Raises:
        ValueError: a value is out of range, or a length does not fit.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    interpolation: str = "bicubic"
    crop: float = 1.0
    resize: str = "cover"

    def __post_init__(self):
        for name in ("mean", "std"):  # JSON gives lists
            values = tuple(float(v) for v in getattr(self, name))
            object.__setattr__(self, name, values)
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                "`mean` and `std` must have one value per channel each. "
                f"Received: mean={self.mean}, std={self.std}"
            )
        if not all(math.isfinite(v) for v in self.mean):
            raise ValueError(f"`mean` must be finite. Received: mean={self.mean}")
        if not all(math.isfinite(s) and s > 0 for s in self.std):
            raise ValueError(f"`std` must be above 0. Received: std={self.std}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"`interpolation` must be one of {sorted(INTERPOLATIONS)}. "
                f"Received: interpolation={self.interpolation!r}"
            )
        if not 0 < self.crop <= 1:
            raise ValueError(f"`crop` must be in (0, 1]. Received: crop={self.crop}")
        if self.resize not in RESIZES:
            raise ValueError(
                f"`resize` must be one of {', '.join(RESIZES)}. "
                f"Received: resize={self.resize!r}"
            )
        if self.crop != 1 and self.resize == "contain":
            raise ValueError(
                '`crop` must be 1 with resize="contain", which keeps the whole '
                f"photograph. Received: crop={self.crop}"
            )

    @classmethod
    def of(cls, scale: Any, offset: Any, **options: Any) -> "Preprocessing":
        """Build the preprocessing whose normalisation is `pixel * scale + offset`.

        Arguments:
            scale, offset: (C,), as `scale_and_offset` gives them.
            options: `interpolation`, `crop` and `resize`.
        """
        std = 1 / (255.0 * np.asarray(scale, "float64"))
        return cls(mean=tuple(-np.asarray(offset) * std), std=tuple(std), **options)

    def scale_and_offset(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the normalisation as one multiply-add on raw pixels.

        Returns:
            `(scale, offset)`, two float64 arrays of shape (C,), such that the
            network's input is `pixel * scale + offset` with pixels in 0..255.
        """
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return 1.0 / (255.0 * std), -mean / std

    def padding(self) -> np.ndarray:
        """Return the colour that "contain" pads with, uint8 (C,): that of `mean`."""
        return np.clip(np.round(255 * np.asarray(self.mean)), 0, 255).astype("uint8")


def get_preprocessing(value: Preprocessing | str, channels: int = 3) -> Preprocessing:
    """Return the `Preprocessing` of a name in `NORMALISATIONS`.

    Arguments:
        value: the name; a `Preprocessing` is returned as it is.
        channels: of the images.

    Raises:
        ValueError: the name is unknown, or of another number of channels.
    """
    if isinstance(value, Preprocessing):
        return value
    if value not in NORMALISATIONS:
        raise ValueError(
            "`preprocessing` must be a `vit_keras.Preprocessing` or one of "
            f"{', '.join(NORMALISATIONS)}. Received: preprocessing={value!r}"
        )
    mean, std = NORMALISATIONS[value]
    if len(mean) not in (1, channels):
        raise ValueError(
            f"`preprocessing` {value!r} is for {len(mean)} channels. "
            f"Received: images of {channels}"
        )
    repeat = channels // len(mean)
    return Preprocessing(mean=mean * repeat, std=std * repeat)


def formula(scale: ArrayLike, offset: ArrayLike) -> str:
    """The normalisation `x * scale + offset` as people write it.

    Arguments:
        scale, offset: per channel.

    Returns:
        Such as "x / 127.5 - 1", or "(x - (123.7, 116.3, 103.5)) / (58.4, 57.1, 57.4)".
    """
    scale, offset = np.ravel(scale), np.ravel(offset)
    if np.ptp(scale) < 1e-9 and np.ptp(offset) < 1e-6:
        divisor, added = 1 / scale[0], round(float(offset[0]), 4)
        text = "x" if abs(divisor - 1) < 1e-6 else f"x / {divisor:.5g}"
        sign = "+" if added > 0 else "-"
        return f"{text} {sign} {abs(added):g}" if added else text
    means, stds = (
        ", ".join(f"{v:.4g}" for v in values) for values in (-offset / scale, 1 / scale)
    )
    return f"(x - ({means})) / ({stds})"


def normalize(images: ArrayLike, preprocessing: Preprocessing) -> np.ndarray:
    """Normalise pixels to a model's input.

    Arguments:
        images: array (..., H, W, C), values 0..255, any real dtype.
        preprocessing: gives mean and std of C channels.

    Returns:
        float32 array of the same shape.

    Raises:
        ValueError: the last axis does not have one value per channel.
    """
    images = np.asarray(images)
    channels = len(preprocessing.mean)
    if images.ndim < 3 or images.shape[-1] != channels:
        raise ValueError(
            f"`images` must have {channels} channels in its last axis. "
            f"Received: shape={images.shape}"
        )
    scale, offset = preprocessing.scale_and_offset()
    return images.astype("float32") * scale.astype("float32") + offset.astype("float32")

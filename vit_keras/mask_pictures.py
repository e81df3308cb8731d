"""Pictures of maps: masks in colours over their photographs, with a legend."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .preprocessing import IGNORED

FONT = 14  # pixels, in the legend
GAP = 6
SHORTEST = 240  # pixels: a smaller picture is enlarged by an integer, to be seen


def class_colours(number: int = 256) -> np.ndarray:
    """Return the colours of classes by their numbers, uint8 (number, 3).

    Those of Pascal VOC (its development kit's `VOCcolormap`): black for class 0, which
    is the background there.
    """
    colours = np.zeros((number, 3), int)
    for channel in range(3):
        for bit in range(8):
            part = np.arange(number) >> (3 * bit + channel) & 1
            colours[:, channel] |= part << (7 - bit)
    return colours.astype("uint8")


def overlay_mask(
    image: np.ndarray,
    mask: np.ndarray,
    names: Sequence[str] | None = None,
    *,
    colours: np.ndarray | None = None,
    opacity: float = 0.5,
) -> np.ndarray:
    """Colour the classes of a mask over its photograph.

    Arguments:
        image: uint8 (H, W, 3), or grey (H, W, 1).
        mask: integers (H, W), indices of classes; 255 stays as it is.
        names: of the classes; the legend below the picture has those that are there.
            None for no legend.
        colours: uint8 (C, 3), of the classes; default `class_colours`.
        opacity: of the colours, in [0, 1].

    Returns:
        uint8 array (H', W', 3): the picture, a small one enlarged, above its legend.

    Raises:
        ValueError: image and mask are of other shapes or dtypes, or a class has no
            name.
    """
    image, mask = np.asarray(image), np.asarray(mask)
    if image.dtype != "uint8" or image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(
            "`image` must be uint8 of shape (H, W, 3) or (H, W, 1). "
            f"Received: {image.dtype}, shape={image.shape}"
        )
    if mask.dtype.kind not in "iu" or mask.shape != image.shape[:2]:
        raise ValueError(
            f"`mask` must be integers of shape {image.shape[:2]}, as the image. "
            f"Received: {mask.dtype}, shape={mask.shape}"
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"`opacity` must be in [0, 1]. Received: opacity={opacity}")
    table = class_colours() if colours is None else np.asarray(colours, "uint8")
    classes = [int(k) for k in np.unique(mask) if k != IGNORED]
    known = len(table) if names is None else min(len(names), len(table))
    if classes and not 0 <= classes[0] <= classes[-1] < known:
        raise ValueError(
            f"`mask` must hold classes below {known}, or {IGNORED}. "
            f"Received: {classes[0]} to {classes[-1]}"
        )
    rgb = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    counts = (mask != IGNORED)[..., None]
    tint = table[np.where(mask == IGNORED, 0, mask)]
    mixed = rgb * (1 - opacity * counts) + tint * (opacity * counts)
    times = max(1, -(-SHORTEST // min(mask.shape)))
    picture = mixed.round().astype("uint8").repeat(times, 0).repeat(times, 1)
    if names is None:
        return picture
    legend = _legend([(names[k], table[k]) for k in classes], picture.shape[1])
    return np.concatenate([picture, legend])


def _legend(entries, width):
    """Return rows of swatches and names, uint8 (h, width, 3)."""
    font, places, x, y = ImageFont.load_default(FONT), [], GAP, GAP
    for name, colour in entries:
        needed = 2 * GAP + FONT + round(font.getlength(name))
        if x > GAP and x + needed > width:
            x, y = GAP, y + FONT + GAP
        places.append((x, y, name, colour))
        x += needed + GAP
    image = Image.new("RGB", (width, y + FONT + 2 * GAP), "white")
    draw = ImageDraw.Draw(image)
    for x, y, name, colour in places:
        box = (x, y, x + FONT, y + FONT)
        draw.rectangle(box, tuple(int(v) for v in colour), "grey")
        draw.text((x + FONT + GAP, y), name, "black", font)
    return np.asarray(image)


def palette_image(mask: np.ndarray, colours: np.ndarray | None = None) -> Image.Image:
    """Return a mask as a picture whose pixels are the numbers of its classes.

    Arguments:
        mask: uint8 (H, W).
        colours: uint8 (C, 3); default `class_colours`, with white for 255.
    """
    table = class_colours()
    table[IGNORED] = 255
    if colours is not None:
        table[: len(colours)] = colours
    image = Image.fromarray(np.ascontiguousarray(mask, "uint8")).convert("L")
    image.putpalette(table.tobytes())
    return image


def depth_picture(depth: np.ndarray, depth_type: str = "metric") -> np.ndarray:
    """Draw depths in grey: the nearest white, the farthest and unknown ones black.

    Arguments:
        depth: float (H, W), NaN where unknown.
        depth_type: what they are, see `ViTConfig`.

    Returns:
        uint8 array (H, W, 3).
    """
    inverse = depth_type == "inverse"
    known = np.isfinite(depth) if inverse else depth > 0
    near = np.zeros(depth.shape)
    if known.any():
        near[known] = depth[known] if inverse else 1 / depth[known]
        low, high = near[known].min(), near[known].max()
        near[known] = (near[known] - low) / (high - low) if high > low else 1.0
    return np.repeat((255 * near).round().astype("uint8")[..., None], 3, axis=-1)

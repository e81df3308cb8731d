"""Reading of mask and depth files: numbers stay numbers, and nothing is guessed."""

import pathlib

import numpy as np

from .. import preprocessing as pp
from ..weights.entries import DATA_RATIO
from ..weights.formats.npz_file import read_npy, read_npz
from .mask_classes import MaskClasses

# Formats of masks. Those that change values are found, and refused by name.
LOSSY = (".jpg", ".jpeg", ".webp", ".gif")  # a GIF is renumbered by who writes it
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".npy", *LOSSY)
DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".npz", *LOSSY)
# Grey of 2 and 4 bits, by its name in Pillow, which scales it to 0..255 by this.
SCALED = {"L;2": 85, "L;4": 17}
# Depth images hold whole millimetres, as those of NYU Depth and ScanNet.
MILLIMETRES = 1000

PROBLEMS = {
    "unreadable": "files that cannot be read as masks",
    "lossy": "masks of JPEG, WebP or GIF, which change values: they must be PNG",
    "kind": "masks that are neither whole numbers of at most 16 bits, nor RGB",
    "colors": "RGB masks without the colours of the classes (`colors` in classes.json)",
    "palette": "masks whose palette has other colours than `colors` in classes.json",
    "number": "masks with numbers of no class",
    "color": "masks with colours of no class",
    "depth": "depths that are neither floats (.npy, .npz, TIFF) nor 16-bit PNG",
}


class MaskError(pp.ImageError):
    """A mask that cannot be used.

    Attributes:
        problem: a name in `PROBLEMS`.
        detail: what was found.
    """

    def __init__(self, path: pathlib.Path, problem: str, detail: object):
        self.problem, self.detail = problem, str(detail)
        super().__init__(f"cannot use the mask {path}: {PROBLEMS[problem]}; {detail}")


def read_numbers(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a mask file as it is stored.

    A palette's indices are numbers; grey of 1, 2 and 4 bits is not scaled to 8.

    Returns:
        (numbers (h, w) of 0..65535, or colours uint8 (h, w, 3); the palette
        uint8 (n, 3), or None).

    Raises:
        MaskError: the file is unreadable, lossy, or of another kind.
    """
    suffix, palette = path.suffix.lower(), None
    if suffix in LOSSY:
        raise MaskError(path, "lossy", suffix)
    try:
        if suffix == ".npy":
            pixels = read_npy(path)
        else:
            with pp.open_image(path, pp.PIXELS_PER_BYTE) as image:
                raw = _raw_mode(image)
                image.load()
                if raw.startswith("RGB") and ";16" in raw:  # Pillow keeps 8 bits
                    raise MaskError(path, "kind", "colours of 16 bits")
                if image.mode == "P":
                    palette = np.array(image.getpalette("RGB"), "uint8").reshape(-1, 3)
                if (
                    image.mode == "RGBA"
                    and image.getchannel("A").getextrema()[0] == 255
                ):
                    image = image.convert("RGB")
                elif image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "RGB"):
                    raise MaskError(path, "kind", f"mode {image.mode}")
                pixels = np.asarray(image)
                if raw in SCALED:
                    pixels = pixels // SCALED[raw]
    except MaskError:
        raise
    except Exception as error:  # NumPy and Pillow raise many kinds
        raise MaskError(path, "unreadable", error) from error
    whole = pixels.ndim == 2 and pixels.dtype.kind in "bui" and pixels.size
    if whole and not (pixels.min() < 0 or pixels.max() >= 2**16):
        return pixels.astype("uint16"), palette
    if pixels.dtype == "uint8" and pixels.ndim == 3 and pixels.shape[-1] == 3:
        return pixels, None
    raise MaskError(path, "kind", f"{pixels.dtype} of shape {pixels.shape}")


def _raw_mode(image):
    """Return how Pillow unpacks the pixels of a PNG or TIFF file, "" of any other."""
    raw = image.tile[0][3] if image.format in ("PNG", "TIFF") and image.tile else ""
    return raw[0] if isinstance(raw, tuple) else raw or ""


def read_mask(path: pathlib.Path, classes: MaskClasses) -> np.ndarray:
    """Read a mask file as indices of classes.

    Returns:
        uint8 (h, w), 255 for what is ignored.

    Raises:
        MaskError: the file cannot be used, or has what is of no class.
    """
    pixels, palette = read_numbers(path)
    if pixels.ndim == 3 and not classes.colors:
        raise MaskError(path, "colors", "three channels")
    if palette is not None and classes.colors:
        for number, color in zip(classes.numbers, classes.colors, strict=True):
            own = tuple(palette[number].tolist()) if number < len(palette) else color
            if own != color and (pixels == number).any():
                raise MaskError(path, "palette", f"{number} is {own}, not {color}")
    found, unknown = classes.indices(pixels)
    if unknown:
        kind = "number" if pixels.ndim == 2 else "color"
        raise MaskError(path, kind, ", ".join(map(str, unknown)))
    return found


def read_depth(path: pathlib.Path) -> np.ndarray:
    """Read a depth file.

    An image of 16 bits holds millimetres, 0 where unknown. `.npy`, `.npz` of one array
    and a TIFF of floats hold the model's unit, such as metres; what is not finite or
    not above 0 is unknown.

    Returns:
        float32 (h, w), NaN where unknown; metres, if the file has millimetres.

    Raises:
        MaskError: the file is unreadable, or of another kind.
    """
    suffix = path.suffix.lower()
    if suffix in LOSSY:
        raise MaskError(path, "lossy", suffix)
    try:
        if suffix == ".npy":
            stored = read_npy(path)
        elif suffix == ".npz":
            entries = list(read_npz(path, DATA_RATIO).values())
            if len(entries) != 1:
                raise MaskError(path, "depth", f"{len(entries)} arrays")
            stored = entries[0].read()
        else:
            with pp.open_image(path, pp.PIXELS_PER_BYTE) as image:
                image.load()
                stored = np.asarray(image)
                if image.mode.startswith("I"):
                    stored = stored.astype("float64") / MILLIMETRES
    except MaskError:
        raise
    except Exception as error:  # NumPy and Pillow raise many kinds
        raise MaskError(path, "unreadable", error) from error
    if stored.dtype.kind != "f" or stored.ndim != 2 or not stored.size:
        raise MaskError(path, "depth", f"{stored.dtype} of shape {stored.shape}")
    return known_depth(stored)


def known_depth(values: np.ndarray) -> np.ndarray:
    """Return depths as float32, NaN where they are not finite or not above 0."""
    values = values.astype("float32")
    return np.where(np.isfinite(values) & (values > 0), values, np.float32(np.nan))

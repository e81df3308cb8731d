"""Drop-in `utils` for code written for the PyPI package vit-keras 0.2.

Names, arguments and results are the same. Images are read by Pillow, antialiased, and
the class names are downloaded once, from timm.
"""

import os
import pathlib
import urllib.request
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

import keras
import numpy as np
from PIL import Image

from .config import as_pair
from .preprocessing import read_image
from .weights import download
from .weights.formats import open_checkpoint
from .weights.loader import apply
from .weights.recognise import recognise

_INFO = (
    "https://raw.githubusercontent.com/huggingface/pytorch-image-models/"
    "aa4b5850c1543fa488abf260f18390eda46cf85d/timm/data/_info"
)


class ClassFile(NamedTuple):
    """A published text file, a row as `download.fetch` takes it."""

    url: str
    sha256: str
    licence: str = "Apache-2.0"
    paper: str = "1409.0575"


CLASS_FILES = {
    # WordNet ids in the order of a classifier's outputs, one per line
    "imagenet_synsets": ClassFile(
        f"{_INFO}/imagenet_synsets.txt",
        "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15",
    ),
    # WordNet id, tab, names
    "imagenet_synset_to_lemma": ClassFile(
        f"{_INFO}/imagenet_synset_to_lemma.txt",
        "1b8babda187421a4bde0c9c5a197c36f6bdda962f7ca11ffb2813806cbb2178f",
    ),
}


def get_imagenet_classes() -> list[str]:
    """Return the names of the 1000 classes of ImageNet 2012, such as "Granny Smith".

    Two files of timm (Apache-2.0) are downloaded into the cache of `download.fetch`.

    Raises:
        ImportError: the packages of the extra `download` are missing.
        DownloadError: the download failed; the message says what to do.
    """
    ids, names = (
        download.fetch(name, table=CLASS_FILES).read_text(encoding="utf-8").splitlines()
        for name in CLASS_FILES
    )
    name_of = dict(line.split("\t") for line in names)
    return [name_of[wordnet_id] for wordnet_id in ids]


def read(
    filepath_or_buffer: "str | os.PathLike[str] | IO[bytes] | Image.Image",
    size: int | Sequence[int],
    timeout: float | None = None,
) -> np.ndarray:
    """Read an image and stretch it to a size.

    Arguments:
        filepath_or_buffer: a path, an http or https URL, an open binary file such as
            `io.BytesIO`, or a Pillow image.
        size: (height, width) of the result; an int means a square.
        timeout: in seconds, for a URL.

    Returns:
        uint8 array (height, width, 3), RGB.

    Raises:
        ValueError: the content is no readable image, or `size` is invalid.
        FileNotFoundError: the file does not exist.
        OSError: the URL cannot be read.
    """
    height, width = as_pair("size", size)
    source = filepath_or_buffer
    if isinstance(source, Image.Image):
        image = source.convert("RGB")
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        # Wikimedia refuses the name of Python's library.
        request = urllib.request.Request(source, headers={"User-Agent": "vit_keras"})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            source = answer.read()
    elif not isinstance(source, str | os.PathLike):
        source = source.read()
    elif not pathlib.Path(source).is_file():
        raise FileNotFoundError(f"there is no image '{source}'")
    pixels = Image.fromarray(read_image(source))
    return np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR))


def load_weights_numpy(
    model: keras.Model,
    params_path: str | os.PathLike[str],
    pretrained_top: bool,
    num_x_patches: int,
    num_y_patches: int,
) -> None:
    """Load an `.npz` file of vision_transformer's Flax weights into a model.

    Positions are resized to the model's grid.

    Arguments:
        model: from `vit_keras.vit`.
        params_path: of the file.
        pretrained_top: whether to load the head too.
        num_x_patches, num_y_patches: columns and rows of the model's patches.

    Raises:
        ValueError: the model has another grid, or is none of this package.
        CheckpointError: the file cannot be read, or does not fit the model.
        FileNotFoundError: it does not exist.
    """
    config: Any = getattr(model, "config", None)
    received = (num_y_patches, num_x_patches)
    if getattr(config, "grid", None) != received:
        raise ValueError(
            "`num_y_patches` and `num_x_patches` must be the rows and columns of the "
            f"model's grid, {getattr(config, 'grid', None)}. Received: {received}"
        )
    match = recognise(open_checkpoint(params_path))
    apply(match, model, config, head=pretrained_top, chosen=True)

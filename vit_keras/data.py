"""Labelled images for training and evaluation: folders, arrays, the embedded digits.

No deep-learning framework and no download is needed; decoding runs in threads.
"""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

from . import preprocessing as pp

# Below this size the decoded images are kept in memory, so that each file is read once.
CACHE_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images with labels; nothing is decoded yet.

    Attributes:
        images: uint8 array (N, H, W, C), or a list of N file paths.
        labels: int array (N,), indices into `classes`.
        classes: names of the classes.
    """

    images: np.ndarray | list[pathlib.Path]
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self):
        return len(self.labels)

    def take(self, indices) -> "Dataset":
        """The images at these positions."""
        if isinstance(self.images, np.ndarray):
            images = self.images[indices]
        else:
            images = [self.images[i] for i in indices]
        return dataclasses.replace(self, images=images, labels=self.labels[indices])


def digits() -> tuple[Dataset, Dataset]:
    """The handwritten digits that scikit-learn ships: 1,797 real images of 8 x 8.

    From "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI
    Machine Learning Repository, CC BY 4.0). Grey values 0..16 become 0..255 in RGB.

    Returns:
        (1,438 images for training, 359 held out), always the same ones.
    """
    with np.load(pathlib.Path(__file__).with_name("digits.npz")) as stored:
        grey = stored["images"].astype("float32") * (255 / 16)
        labels = stored["labels"].astype("int64")
    images = np.repeat(grey.round().astype("uint8")[..., None], 3, axis=-1)
    dataset = Dataset(images, labels, tuple(str(d) for d in range(10)))
    return split(dataset, 0.2, seed=0)


def folder(path) -> Dataset:
    """A folder of class folders: `path/<class>/**/image.jpg`.

    JPEG, PNG, WebP and BMP; the classes are the folders' names in sorted order.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: fewer than two class folders with images.
    """
    root = pathlib.Path(path)
    if not root.is_dir():
        raise FileNotFoundError(
            f"`data` must be 'digits' or a folder; '{root}' is none"
        )
    files, labels, classes = [], [], []
    for child in sorted(p for p in root.iterdir() if p.is_dir()):
        found = pp.find_images(child)
        if found:
            labels += [len(classes)] * len(found)
            classes.append(child.name)
            files += found
    if len(classes) < 2:
        raise ValueError(
            f"`data` must hold at least two folders, one per class, with images "
            f"({', '.join(pp.IMAGE_SUFFIXES)}). '{root}' holds {len(classes)}"
        )
    return Dataset(files, np.array(labels), tuple(classes))


def split(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Set a share of each class aside.

    Arguments:
        fraction: the share, in (0, 1); at least one image of every class that has
            two or more.
        seed: of the draw.

    Returns:
        (the rest, the share).

    Raises:
        ValueError: `fraction` out of range.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"`fraction` must be in (0, 1). Received: fraction={fraction}")
    generator, aside = np.random.default_rng(seed), []
    for label in range(len(dataset.classes)):
        members = np.flatnonzero(dataset.labels == label)
        number = min(max(round(len(members) * fraction), 1), len(members) - 1)
        if number > 0:
            aside.append(generator.permutation(members)[:number])
    chosen = np.sort(np.concatenate(aside)) if aside else np.array([], int)
    rest = np.setdiff1d(np.arange(len(dataset)), chosen)
    return dataset.take(rest), dataset.take(chosen)


def prepare(
    dataset: Dataset,
    image_size: Sequence[int],
    preprocessing: pp.Preprocessing,
    *,
    strict: bool = False,
    keep_pixels: bool = True,
    advance: Callable[[], object] = lambda: None,
) -> tuple[Dataset, list[str]]:
    """Read every image once: find the unreadable ones, keep the pixels if they fit.

    Arguments:
        dataset: images as files or pixels.
        image_size: (height, width) of the model.
        preprocessing: how images are brought to this size.
        strict: raise for an unreadable file instead of leaving it out.
        keep_pixels: keep them at the model's size if they fit into memory.
        advance: called after each image, for a progress bar.

    Returns:
        The readable part, as pixels where they fit into memory, and one line for
        each unreadable file.

    Raises:
        ImageError: with `strict`, the first unreadable file.
        ValueError: nothing is readable.
    """
    height, width = image_size
    channels = len(preprocessing.mean)
    fits = len(dataset) * height * width * channels <= CACHE_BYTES and keep_pixels
    pixels, good, bad = [], [], []

    def read(source):
        try:
            return _pixels(source, image_size, preprocessing)
        except pp.ImageError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor() as threads:
        for i, result in enumerate(threads.map(read, dataset.images)):
            advance()
            if isinstance(result, pp.ImageError):
                if strict:
                    raise result
                bad.append(str(result))
                continue
            good.append(i)
            if fits:
                pixels.append(result)
    if not good:
        raise ValueError(f"`data` must hold readable images; all {len(bad)} are not")
    readable = dataset.take(np.array(good))
    if fits:
        readable = dataclasses.replace(readable, images=np.stack(pixels))
    return readable, bad


def _pixels(source, image_size, preprocessing):
    if isinstance(source, np.ndarray):
        return pp.fit(source, image_size, preprocessing)
    return pp.load_image(source, image_size, preprocessing)


class Batches(keras.utils.PyDataset):
    """Batches of (images, labels) in their order, for evaluation.

    Arguments:
        dataset: from `prepare`.
        image_size: (height, width) of the model.
        preprocessing: normalisation to apply.
        batch_size: images per batch; the last one may be smaller.

    Item i is `(images float32 (B, H, W, C), labels float32 (B, classes), one-hot)`.
    """

    def __init__(
        self,
        dataset: Dataset,
        image_size,
        preprocessing,
        batch_size=64,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dataset = dataset
        self.image_size = image_size
        self.preprocessing = preprocessing
        self.batch_size = batch_size

    def __len__(self):
        return -(-len(self.dataset) // self.batch_size)

    def __getitem__(self, index):
        start = index * self.batch_size
        stop = min(start + self.batch_size, len(self.dataset))
        batch = self.dataset.take(np.arange(start, stop))
        images = batch.images
        if not isinstance(images, np.ndarray):
            images = np.stack(
                [_pixels(f, self.image_size, self.preprocessing) for f in images]
            )
        labels = np.eye(len(self.dataset.classes), dtype="float32")[batch.labels]
        return pp.normalize(images, self.preprocessing), labels

"""Labelled images for training and evaluation: folders, arrays, the embedded digits.

No deep-learning framework and no download is needed; decoding runs in threads.
"""

import collections
import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

from .. import preprocessing as pp

# Below this size the decoded images are kept in memory, so that each file is read once.
CACHE_BYTES = 2**30
# Images that threads may have read before they are wanted.
AHEAD = 64


@dataclasses.dataclass(frozen=True)
class LazyImages:
    """Images that are read when they are asked for, from a source with random access.

    Attributes:
        read: function from a position in the source to a uint8 array (H, W, C), or an
            `ImageError`; several threads call it at a time.
        positions: int array, those of the images that belong here.
    """

    read: Callable[[int], np.ndarray]
    positions: np.ndarray

    def __len__(self):
        return len(self.positions)

    def __getitem__(self, index) -> np.ndarray:
        return self.read(int(self.positions[index]))

    def take(self, indices) -> "LazyImages":
        """Those at these positions, still unread."""
        return dataclasses.replace(self, positions=self.positions[indices])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images with labels; nothing is decoded yet.

    Attributes:
        images: uint8 array (N, H, W, C), or a list of N file paths or of N uint8 arrays
            (H, W, C), or `LazyImages`.
        labels: int array (N,), indices into `classes`.
        classes: names of the classes.
    """

    images: np.ndarray | list[pathlib.Path] | list[np.ndarray] | LazyImages
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self):
        return len(self.labels)

    def take(self, indices) -> "Dataset":
        """The images at these positions."""
        if isinstance(self.images, np.ndarray):
            images = self.images[indices]
        elif isinstance(self.images, LazyImages):
            images = self.images.take(indices)
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

    def read(index):
        try:
            return _pixels(dataset.images[index], image_size, preprocessing)
        except pp.ImageError as error:
            return error

    for i, result in enumerate(in_threads(read, len(dataset))):
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
        raise ValueError(
            f"`data` must hold readable images; all {len(bad)} are not: {bad[0]}"
        )
    readable = dataset.take(np.array(good))
    if fits:
        readable = dataclasses.replace(readable, images=np.stack(pixels))
    return readable, bad


def in_threads(function: Callable[[int], object], number: int):
    """`function(0)` to `function(number - 1)` in this order, a few of them ahead."""
    with concurrent.futures.ThreadPoolExecutor() as threads:
        ahead = collections.deque()
        for index in range(number):
            ahead.append(threads.submit(function, index))
            if len(ahead) == AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def read_pixels(source, channels: int) -> np.ndarray:
    """An image of a `Dataset` as pixels, grey repeated over the channels.

    Arguments:
        source: path, or uint8 array (H, W, C).
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 array (H, W, channels).

    Raises:
        ImageError: the file is not readable, or the array has other channels.
    """
    if not isinstance(source, np.ndarray):
        return pp.read_image(source, channels)
    if source.shape[-1] == 1:
        return source if channels == 1 else np.repeat(source, channels, axis=-1)
    if source.shape[-1] != channels:
        raise pp.ImageError(
            f"the image must have {channels} channels, as the model, or one. "
            f"Received: shape={source.shape}"
        )
    return source


def _pixels(source, image_size, preprocessing):
    pixels = read_pixels(source, len(preprocessing.mean))
    return pp.fit(pixels, image_size, preprocessing)


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
        ready = (*self.image_size, len(self.preprocessing.mean))
        if not isinstance(images, np.ndarray) or images.shape[1:] != ready:
            found = [images[i] for i in range(len(images))]
            images = np.stack(
                [_pixels(f, self.image_size, self.preprocessing) for f in found]
            )
        labels = one_hot(batch.labels, len(self.dataset.classes))
        return pp.normalize(images, self.preprocessing), labels


def one_hot(labels, classes: int) -> np.ndarray:
    """Numbers of classes (N,) as float32 (N, classes)."""
    rows = np.zeros((len(labels), classes), "float32")
    rows[np.arange(len(labels)), labels] = 1.0
    return rows

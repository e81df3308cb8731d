"""Evaluation of outputs at each pixel, at the size of each photograph."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from .. import preprocessing as pp
from ..atomic import publishing
from ..data import Batches, Dataset, read_pixels
from ..mask_pictures import depth_picture, overlay_mask
from .dense_metrics import SegmentationScore, new_score
from .progress import new_bar

# Bytes of a batch's outputs that are in memory at a time.
MAP_BYTES = 2**27
# Prefix of the IoU of a class among the metrics of `evaluate`.
IOU = "iou/"
WORST = 8  # images that are drawn


@dataclasses.dataclass(frozen=True)
class MapScores:
    """What was measured on a data set.

    Attributes:
        score: of all images.
        of_images: float (N,), of each alone, the larger the better; NaN if none of its
            pixels counts.
    """

    score: Any
    of_images: np.ndarray

    def metrics(self, names: tuple[str, ...] = ()) -> dict[str, float]:
        """Return the metrics, with names of classes also the IoU of each."""
        found = self.score.metrics()
        if isinstance(self.score, SegmentationScore):
            pairs = zip(names, self.score.iou(), strict=False)
            found |= {f"{IOU}{name}": float(value) for name, value in pairs}
        return found

    def worst(self, number: int = WORST) -> list[int]:
        """Return the indices of the images of the smallest scores."""
        order = np.argsort(self.of_images, kind="stable")  # NaN is last
        return [int(i) for i in order[:number] if not np.isnan(self.of_images[i])]


def map_batches(model, dataset: Dataset, batch_size: int) -> Batches:
    """Return ordered batches, small enough for their outputs to fit into memory."""
    most = MAP_BYTES // (4 * int(np.prod(model.output_shape[1:])))
    config, size = model.config, max(1, min(batch_size, most))
    return Batches(dataset, config.image_size, config.preprocessing, size)


def score_maps(
    model,
    dataset: Dataset,
    batch_size: int = 64,
    console: Console | None = None,
    predict: Any = None,
) -> MapScores:
    """Measure a model on maps of any size, image by image.

    Outputs are resized bilinearly to the size of each map. Pixels that the model does
    not see, as "cover" leaves some, do not count.

    Arguments:
        model: of a head with maps.
        dataset: from `data.prepare`, with maps of the photographs' sizes.
        batch_size: most images per step.
        console: for progress.
        predict: computes the outputs of a batch; None is `predict_on_batch`.
    """
    config, predict = model.config, predict or model.predict_on_batch
    score = new_score(
        *(config.head, model.output_shape[-1], config.activation, config.depth_type)
    )
    batches, found = map_batches(model, dataset, batch_size), []
    with new_bar(console or Console(quiet=True), transient=True) as bar:
        task = bar.add_task("evaluating", total=len(batches), text="")
        for i in range(len(batches)):
            outputs = np.asarray(predict(batches.inputs(i)))
            for values, row in zip(outputs, batches.rows(i), strict=True):
                truth = dataset.labels[row]
                size, prep = truth.shape, config.preprocessing
                found.append(score.add(pp.to_photograph(values, size, prep), truth))
            bar.advance(task)
    return MapScores(score, np.array(found))


def chosen_map(values: np.ndarray, head: str) -> np.ndarray:
    """Return what a model's outputs (H, W, C) say: classes, or depths.

    Returns:
        uint8 array (H, W), 255 where the model does not see; or float32, NaN there.
    """
    if head != "segmentation":
        return values[..., 0]
    unseen = np.isnan(values[..., 0])
    return np.where(unseen, pp.IGNORED, values.argmax(-1)).astype("uint8")


def compared(model, dataset: Dataset, index: int) -> np.ndarray:
    """Draw the truth of an image, and what a model says, side by side.

    Returns:
        uint8 array (H, W, 3); legends are below.
    """
    config, names = model.config, dataset.classes
    pixels = read_pixels(dataset.images[index], 3)
    truth = dataset.labels[index]
    batches = map_batches(model, dataset.take(np.array([index])), 1)
    values = np.asarray(model.predict_on_batch(batches.inputs(0)))[0]
    if pixels.shape[:2] == truth.shape:
        values = pp.to_photograph(values, truth.shape, config.preprocessing)
    else:  # the image is fitted already
        truth = pp.fit_mask(truth, config.image_size, config.preprocessing)
    said = chosen_map(values, config.head)
    if config.head == "segmentation":
        pictures = [overlay_mask(pixels, mask, names) for mask in (truth, said)]
    else:
        pictures = [
            pixels,
            depth_picture(truth),
            depth_picture(said, config.depth_type),
        ]
    tall = max(len(picture) for picture in pictures)
    filled = [
        np.pad(p, ((0, tall - len(p)), (0, 4), (0, 0)), constant_values=255)
        for p in pictures
    ]
    return np.concatenate(filled, axis=1)


def write_worst(model, dataset: Dataset, found: MapScores, out: pathlib.Path) -> list:
    """Write the pictures of the worst images; return their paths.

    `OUT/01-NAME.png` is the worst one; NAME is the file's, or the image's number.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for rank, index in enumerate(found.worst(), 1):
        source = dataset.images[index]
        name = source.stem if isinstance(source, pathlib.Path) else str(index)
        path = out / f"{rank:02d}-{name}.png"
        with publishing(path) as work:
            Image.fromarray(compared(model, dataset, index)).save(work, "PNG")
        paths.append(path)
    return paths

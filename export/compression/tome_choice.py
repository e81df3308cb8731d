"""How many similar tokens each block merges: as many as a loss or a time allows.

Letters: r merged tokens, L blocks, P patches.
"""

import pathlib
import tempfile
from typing import Any

import numpy as np

from vit_keras import VisionTransformer, ViTConfig, data
from vit_keras.heads import HEADS
from vit_keras.preprocessing import normalize

from ..evaluation.benchmark import benchmark
from ..graph.build import inference_graph
from ..graph.float_file import float_file
from ..progress import stage
from .macs import macs
from .token_choice import build_like, copy_weights

MERGE = "merge"  # the value of `tokens` that asks for it
IMAGES = 2048  # without labels
BATCH = 64
TIMED = 30  # runs of a file


def _constant(most: int, blocks: int) -> list[int]:
    return [most] * blocks


def _falling(most: int, blocks: int) -> list[int]:
    """From 2 r in the first block to 0 in the last (section 4.1, "Design choices")."""
    last = max(blocks - 1, 1)
    return [round(2 * most * (last - i) / last) for i in range(blocks)]


SHAPES = {"constant": _constant, "falling": _falling}
"""Schedules by name: from r and L to r of each block."""


def schedules(config: ViTConfig, shape: str) -> list[tuple[int, ...]]:
    """Return the values of `tome` of a shape, the fewest merged tokens first."""
    patches, found = config.grid[0] * config.grid[1], []
    for most in range(1, patches):
        left, each = patches, []
        for wanted in SHAPES[shape](most, config.num_layers):
            each.append(min(wanted, left // 2))
            left -= each[-1]
        if tuple(each) in found[-1:]:  # halved in each block
            break
        found.append(tuple(each))
    return found


def without_training(
    model, images, max_drop: float | None, max_ms: float | None, labels
) -> VisionTransformer:
    """Return a model that merges similar tokens (`ViTConfig.tome`).

    Arguments:
        model: a `VisionTransformer` with a head; it is not changed.
        images: as `export.shrink` takes them.
        max_drop: percentage points that may be lost: the schedule with the fewest MACs
            is chosen.
        max_ms: CPU time of one image in LiteRT, float32, one thread, on this machine,
            in milliseconds: the schedule that loses least is chosen.
        labels: integers (N,), or None for the classes that the model itself gives.

    Raises:
        ValueError: not exactly one of both is given, the model has no classes, no
            schedule reaches it, or the labels do not fit.
    """
    config = model.config
    _check(config, model.task, max_drop, max_ms)
    size, limit = config.image_size, IMAGES if labels is None else None
    pixels = data.load_images(images, size, config.preprocessing, limit)
    loss = _Loss(model, pixels, labels)
    if max_drop is not None:
        found = [_most(config, shape, loss, max_drop) for shape in SHAPES]
        reached = [tome for tome in found if tome is not None]
        if not reached:
            first = schedules(config, "constant")[0]
            raise ValueError(
                f"`max_drop` must be larger: merging {first[0]} token in each block "
                f"loses {loss(first):.2f} points. Received: max_drop={max_drop!r}"
            )
        return merged(model, min(reached, key=lambda tome: macs_of(config, tome)))
    found = [_least(model, shape, max_ms) for shape in SHAPES]
    reached = [tome for tome in found if isinstance(tome, tuple)]
    if not reached:
        best = min(ms for ms in found if isinstance(ms, float))
        raise ValueError(
            "`max_ms` must be larger: the most merged tokens leave "
            f"{best:.2f} ms on this machine. Received: max_ms={max_ms!r}"
        )
    return merged(model, min(reached, key=loss))


def merged(model, tome: tuple[int, ...]) -> VisionTransformer:
    """Return a model with the same weights that merges tokens by a schedule."""
    return copy_weights(model, build_like(model, tome=tome))


def macs_of(config: ViTConfig, tome: tuple[int, ...]) -> int:
    """Return the multiplications of a configuration with a schedule."""
    return macs(config.replace(tome=tome))


def _check(config, task, max_drop, max_ms):
    if (max_drop is None) == (max_ms is None):
        raise ValueError(
            "Either `max_drop` or `max_ms` must be given with tokens='merge'. "
            f"Received: max_drop={max_drop!r}, max_ms={max_ms!r}"
        )
    for name, value in (("max_drop", max_drop), ("max_ms", max_ms)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and value > 0):
            raise ValueError(
                f"`{name}` must be a number above 0. Received: {name}={value!r}"
            )
    classes = HEADS[config.head].metric == "accuracy"
    if task != "classify" or not (config.include_top and classes):
        raise ValueError(
            "tokens='merge' needs a model of classes, of which one is right. Received: "
            f"task={task!r}, head={config.head!r}, include_top={config.include_top}"
        )
    if config.tome:
        raise ValueError(
            "`tokens` must be None for a model whose tokens are merged. Received: "
            f"tome={config.tome!r}"
        )


class _Loss:
    """Percentage points that a schedule loses, each measured once."""

    def __init__(self, model, pixels, labels):
        self.model, self.known = model, {}
        self.images = normalize(pixels, model.config.preprocessing)
        own = self._classes(model)
        self.labels = own if labels is None else _checked(labels, own, model.config)
        self.best = self._score(own)

    def _classes(self, model):
        """The class that a model gives each image, (N,)."""
        outputs = model.predict(self.images, BATCH, verbose=0)
        if outputs.shape[-1] > 1:
            return outputs.argmax(-1)
        middle = 0.5 if model.config.activation == "sigmoid" else 0.0
        return (outputs[:, 0] > middle).astype(int)

    def _score(self, classes):
        return 100 * float(np.mean(classes == self.labels))

    def __call__(self, tome) -> float:
        if tome not in self.known:
            stage(f"merging {' '.join(map(str, tome))} tokens")
            smaller = merged(self.model, tome)
            self.known[tome] = self.best - self._score(self._classes(smaller))
        return self.known[tome]


def _checked(labels, own, config):
    """Labels as an array, if they are classes of as many images as `own` has."""
    labels, number = np.asarray(labels), max(config.classes, 2)
    integers = labels.shape == own.shape and np.issubdtype(labels.dtype, np.integer)
    if not integers or not ((labels >= 0) & (labels < number)).all():
        raise ValueError(
            f"`labels` must be integers from 0 to {number - 1}, one for each of "
            f"{len(own)} images. Received: {labels.dtype} {labels.shape}"
        )
    return labels


def _most(config, shape, loss, max_drop) -> Any:
    """The schedule of a shape that merges most within a loss, or None, by bisection."""
    every = schedules(config, shape)
    low, high = 0, len(every)
    while low < high:
        middle = (low + high) // 2
        if loss(every[middle]) <= max_drop:
            low = middle + 1
        else:
            high = middle
    return every[low - 1] if low else None


def _least(model, shape, max_ms) -> Any:
    """The schedule of a shape that merges least within a time, by bisection; or the
    time of the last one, if that takes longer."""
    every = schedules(model.config, shape)
    low, high, best = 0, len(every) - 1, milliseconds(merged(model, every[-1]))
    if best > max_ms:
        return best
    while low < high:
        middle = (low + high) // 2
        if milliseconds(merged(model, every[middle])) <= max_ms:
            high = middle
        else:
            low = middle + 1
    return every[low]


def milliseconds(model) -> float:
    """Return the CPU time of one image in LiteRT, float32, one thread, in ms."""
    shape = (1, *model.input_shape[1:])
    graph = inference_graph(model, None, np.zeros(shape, "float32"), integers=False)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "merged.tflite")
        path.write_bytes(float_file(graph.function, shape))
        (timing,) = benchmark([path], runs=TIMED)
    return timing.cpu_ms

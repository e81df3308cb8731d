"""The endless stream of training batches, a function of the step number alone."""

import collections
import concurrent.futures
import os
import threading
import time

import numpy as np

from .. import preprocessing as pp
from ..data import Dataset, read_pixels, targets
from ..heads import HEADS
from .augment import CROP, augment, draws_for, mix, random_crop
from .class_weights import class_weights, sample_weights
from .dense_augment import map_views

# Approximate memory limit of batches that are made ahead.
AHEAD_BYTES = 2**31


class Stream:
    """Augmented training batches by number.

    Batch g is number `g % n` of pass `g // n` over the data's n batches, in an order
    given by (seed, pass). Nothing depends on earlier draws, so a run resumed at step g
    continues exactly as an uninterrupted one.

    Arguments:
        dataset: from `data.prepare`: pixels, or files that are read when needed.
        config: a `ViTConfig`; gives image size and preprocessing.
        recipe: a `Recipe`.
        teacher: function from normalised images to the teacher's outputs, or None.
        shard: (index, count) of this process, which gets that part of every batch:
            contiguous rows, equal to those of the whole batch to the last bit.

    Item g is `(images float32 (B, H, W, C), targets float32 (B, K))`, with a teacher
    `(images, {"label": labels, "teacher": outputs})`; with `class_weights` in the
    recipe, the images' weights in the loss follow, float32 (B,). With maps as labels it
    is `(images, maps (B, H, W))`. The last images of a pass that do not fill a batch
    are skipped.
    """

    def __init__(
        self,
        dataset: Dataset,
        config,
        recipe,
        *,
        teacher=None,
        shard=(0, 1),
    ):
        self.dataset, self.config, self.recipe = dataset, config, recipe
        self.workers = os.cpu_count() or 1
        # Each thread makes one batch at a time, with fewer threads if memory is short.
        size = 4 * np.prod((*config.image_size, len(config.preprocessing.mean)))
        size *= recipe.batch_size // recipe.accumulate
        self.makers = int(np.clip(AHEAD_BYTES // (2 * size), 1, self.workers))
        self.teacher, self.shard = teacher, shard
        by_class = class_weights(dataset, recipe)
        self.maps = HEADS[dataset.head].dense
        # Those of pixels are in the loss, see `compiled`.
        self.class_weights = None if self.maps else by_class
        self.pixel_weights = by_class if self.maps else None
        self.busy, self.made, self.lock = 0.0, 0, threading.Lock()
        self._order = (-1, np.array([], int))

    def batches(self, start: int):
        """Yield batches from `start` on without end, made ahead by threads, in order.

        Threads suffice, because Pillow and NumPy release the interpreter's lock.
        """
        new = concurrent.futures.ThreadPoolExecutor
        with new(self.workers) as readers, new(self.makers) as makers:
            ahead = collections.deque()
            try:
                while True:
                    while len(ahead) < 2 * self.makers:
                        ahead.append(makers.submit(self.batch, start, readers.map))
                        start += 1
                    yield ahead.popleft().result()
            finally:  # cancel batches that are no longer needed
                for waiting in ahead:
                    waiting.cancel()

    def order(self, number):
        """Return the indices of the images in pass `number`."""
        with self.lock:
            if self._order[0] != number:
                draws = np.random.default_rng((self.recipe.seed, number))
                order = draws.permutation(len(self.dataset))
                # Copies of an image are in the same batch (arXiv 1902.05509).
                order = np.repeat(order, self.recipe.repeats)[: len(self.dataset)]
                self._order = (number, order)
            return self._order[1]

    def __getitem__(self, step):
        return self.batch(step, map)

    def batch(self, step, each):
        """Make batch number `step`; `each`, such as `map`, reads its files."""
        started = time.perf_counter()
        size = self.recipe.batch_size // self.recipe.accumulate
        batches = max(len(self.dataset) // size, 1)
        part, of = self.shard
        order = self.order(step // batches)
        begin = (step % batches) * size
        order = order[begin : begin + size]
        mine = range(len(order) * part // of, len(order) * (part + 1) // of)
        # Mixing needs other images: then each process makes the whole batch.
        mixes = self.recipe.mixup or self.recipe.cutmix
        made = range(len(order)) if mixes else mine
        rows = order[made.start : made.stop]
        images, labels = self.pairs(rows, step, made, each)
        if mixes:
            images, labels = mix(images, labels, self.recipe, step)
            images, labels = (x[mine.start : mine.stop] for x in (images, labels))
        with self.lock:
            self.busy += time.perf_counter() - started
            self.made += len(labels) * of  # the other processes do the same
        item = images, labels
        if self.teacher is not None:
            item = images, {"label": labels, "teacher": self.teacher(images)}
        if self.class_weights is not None:
            item = *item, sample_weights(labels, self.class_weights)
        return item

    def pairs(self, rows, step, positions, each):
        """Return inputs of the model and targets, for images of a batch."""
        recipe, prep = self.recipe, self.config.preprocessing
        if self.maps:
            images, maps = map_views(
                self.dataset, rows, step, positions, self.config, recipe, each
            )
            return pp.normalize(images, prep), maps
        images = self._read(rows, step, positions, each)
        images = augment(images, recipe, step, positions)
        return pp.normalize(images, prep), targets(self.dataset, rows)

    def _read(self, rows, step, positions, each):
        """Return the pixels of some images, cropped at random or as in evaluation."""
        images, size = self.dataset.images, self.config.image_size
        prep, smallest = self.config.preprocessing, self.recipe.crop
        if isinstance(images, np.ndarray) and smallest is None:
            if images.shape[1:] == (*size, len(prep.mean)):
                return images[rows]

        def read(row, position):
            pixels = read_pixels(images[row], len(prep.mean))
            if smallest is None:
                return pp.fit(pixels, size, prep)
            draws = draws_for(self.recipe.seed, step, position, CROP)
            return random_crop(pixels, size, smallest, draws, prep.interpolation)

        return np.stack(list(each(read, rows, positions)))

    def images_per_second(self) -> float:
        """Return the possible speed of the threads since the last call."""
        with self.lock:
            speed = self.made * self.makers / self.busy if self.busy else np.inf
            self.busy, self.made = 0.0, 0
        return speed

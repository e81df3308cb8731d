"""The endless stream of training batches: a function of the step number alone."""

import collections
import concurrent.futures
import os
import threading
import time

import numpy as np

from .. import preprocessing as pp
from ..data import Dataset, read_pixels
from .augment import BatchAugment, augment_image, draws_for


class Stream:
    """Augmented batches by number.

    Batch g is number `g % n` of pass `g // n` over the data's n batches, whose order
    follows from (seed, pass): nothing depends on what was drawn before, so a run that
    is taken up at step g goes on exactly as an unbroken one.

    Arguments:
        dataset: from `data.prepare`: pixels, or files that are read when needed.
        config: a `ViTConfig`; its image size and preprocessing are used.
        recipe: a `Recipe`.
        teacher: function from normalised images to the teacher's outputs, or None.
        shard: (index, count) of this process, which gets that part of every batch: its
            rows lie together, and are those of the whole batch to the last bit.

    Item g is `(images float32 (B, H, W, C), labels float32 (B, classes))`, with a
    teacher `(images, {"label": labels, "teacher": outputs})`. The last images of a pass
    that do not fill a batch are left out of it.
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
        self.teacher, self.shard = teacher, shard
        self.batch_augment = BatchAugment(recipe)
        self.busy, self.made, self.lock = 0.0, 0, threading.Lock()
        self._order = (-1, np.array([], int))

    def batches(self, start: int):
        """Endless generator from batch `start` on, made ahead by threads, in order.

        Threads, because Pillow and NumPy release the lock of the interpreter.
        """
        with concurrent.futures.ThreadPoolExecutor(self.workers) as threads:
            ahead = collections.deque()
            while True:
                while len(ahead) < 2 * self.workers:
                    ahead.append(threads.submit(self.__getitem__, start))
                    start += 1
                yield ahead.popleft().result()

    def order(self, number):
        """Positions of the images in pass `number`."""
        with self.lock:
            if self._order[0] != number:
                draws = np.random.default_rng((self.recipe.seed, number))
                order = draws.permutation(len(self.dataset))
                # A repeated image comes again in the same batch (arXiv 1902.05509).
                order = np.repeat(order, self.recipe.repeats)[: len(self.dataset)]
                self._order = (number, order)
            return self._order[1]

    def __getitem__(self, step):
        started = time.perf_counter()
        size = self.recipe.batch_size // self.recipe.accumulate
        batches = max(len(self.dataset) // size, 1)
        part, of = self.shard
        order = self.order(step // batches)
        begin = (step % batches) * size
        whole = range(begin, min(begin + size, len(order)))
        mine = whole[len(whole) * part // of : len(whole) * (part + 1) // of]
        # MixUp takes from other images of the batch, and erasing draws for all at once:
        # for them each process makes the whole batch.
        made = whole if self.batch_augment else mine
        pixels = [self._image(order[at], step, at - begin) for at in made]
        labels = self.dataset.labels[order[made.start : made.stop]]
        labels = np.eye(len(self.dataset.classes), dtype="float32")[labels]
        images = np.stack(pixels)
        if self.batch_augment:
            floats = images.astype("float32")
            images, labels = self.batch_augment(floats, labels, step)
            rows = slice(mine.start - begin, mine.stop - begin)
            images, labels = images[rows], labels[rows]
        images = pp.normalize(images, self.config.preprocessing)
        with self.lock:
            self.busy += time.perf_counter() - started
            self.made += len(images) * of  # the other processes do the same
        if self.teacher is None:
            return images, labels
        return images, {"label": labels, "teacher": self.teacher(images)}

    def _image(self, at, step, position):
        source, size = self.dataset.images[at], self.config.image_size
        prep = self.config.preprocessing
        source = read_pixels(source, len(prep.mean))
        if self.recipe.crop is None and source.shape[:2] != tuple(size):
            source = pp.fit(source, size, prep)
        draws = draws_for(self.recipe.seed, step, position)
        return augment_image(source, size, self.recipe, draws)

    def images_per_second(self) -> float:
        """What the threads could deliver since this was asked last."""
        with self.lock:
            speed = self.made * self.workers / self.busy if self.busy else np.inf
            self.busy, self.made = 0.0, 0
        return speed

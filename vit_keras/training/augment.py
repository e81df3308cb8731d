"""Random changes to training images, in NumPy, that keep their label."""

import numpy as np


def make_augment(shift, flip):
    """A function for `data.Batches`.

    Arguments:
        shift: largest translation, as a share of the sides; the edge is repeated.
        flip: mirror half of the images.

    Returns:
        Function from (uint8 (B, H, W, C), NumPy generator) to the same shape, or None
        if there is nothing to do.
    """
    if not shift and not flip:
        return None

    def augment(images, draws):
        batch, height, width, _ = images.shape
        rows, columns = round(height * shift), round(width * shift)
        padded = np.pad(
            images, ((0, 0), (rows, rows), (columns, columns), (0, 0)), mode="edge"
        )
        tops = draws.integers(0, 2 * rows + 1, batch)
        lefts = draws.integers(0, 2 * columns + 1, batch)
        mirror = draws.random(batch) < 0.5 * flip
        changed = np.empty_like(images)
        for i in range(batch):
            crop = padded[i, tops[i] : tops[i] + height, lefts[i] : lefts[i] + width]
            changed[i] = crop[:, ::-1] if mirror[i] else crop
        return changed

    return augment

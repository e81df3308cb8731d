"""Resizing of position embeddings and patch kernels, as the weights' authors do it.

Every method is linear and separable, so it is one small matrix per axis:
`new = rows @ old @ columns.T`. Exact in float64, without a framework.
"""

import numpy as np


def _cubic(a):
    """Return Keys' cubic convolution kernel (IEEE ASSP 1981) with parameter `a`."""

    def kernel(x):
        x = np.abs(x)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return np.where(x < 1, near, np.where(x < 2, far, 0.0))

    return kernel


def _triangle(x):
    return np.maximum(0.0, 1.0 - np.abs(x))


def _convolution(kernel, radius, antialias):
    """Return a resize with half-pixel centres, as torch.nn.functional.interpolate."""

    def matrix(old, new):
        scale = old / new
        stretch = max(scale, 1.0) if antialias else 1.0
        weights = np.zeros((new, old))
        for i in range(new):
            centre = (i + 0.5) * scale - 0.5
            reach = int(np.ceil(radius * stretch)) + 1
            taps = np.arange(int(np.floor(centre)) - reach, int(centre) + reach + 2)
            values = kernel((taps - centre) / stretch)
            if antialias:  # taps outside the image are dropped; the others sum to 1
                inside = (taps >= 0) & (taps < old)
                values = np.where(inside, values, 0.0)
                values = values / values.sum()
            # Otherwise the border is repeated.
            np.add.at(weights[i], taps.clip(0, old - 1), values)
        return weights

    return matrix


def _zoom(old, new):
    """Return the matrix of scipy.ndimage.zoom(order=1): corners are aligned."""
    at = np.linspace(0.0, old - 1.0, new) if new > 1 else np.zeros(1)
    return _triangle(at[:, None] - np.arange(old)[None, :])


# name: matrix (new, old) of one axis. The two bicubics also differ in their parameter:
# PyTorch uses -0.75 without antialiasing, and Pillow's -0.5 with it.
METHODS = {
    "zoom": _zoom,
    "bilinear": _convolution(_triangle, 1, antialias=False),
    "bilinear_antialias": _convolution(_triangle, 1, antialias=True),
    "bicubic": _convolution(_cubic(-0.75), 2, antialias=False),
    "bicubic_antialias": _convolution(_cubic(-0.5), 2, antialias=True),
}


def resize_positions(grid, size, method: str):
    """Resize position embeddings to another grid.

    Arguments:
        grid: array (rows, columns, D).
        size: (rows, columns) of the result.
        method: a name in `METHODS`.

    Returns:
        float64 array (*size, D); the input itself if it has that size.
    """
    old_h, old_w = grid.shape[:2]
    if (old_h, old_w) == tuple(size):
        return grid
    rows, columns = METHODS[method](old_h, size[0]), METHODS[method](old_w, size[1])
    return np.einsum("hH,wW,HWd->hwd", rows, columns, grid.astype("float64"))


def resize_patches(kernel, size, method: str):
    """Resize a patch projection to another size (FlexiViT, arXiv 2212.08013, 3.4).

    Uses the pseudo-inverse of the resize: tokens of resized patches are as close as
    possible to those of the original ones, and equal if patches grow.

    Arguments:
        kernel: array (p, q, C, D).
        size: (p, q) of the result.
        method: how images would be resized, a name in `METHODS`.

    Returns:
        float64 array (*size, C, D); the input itself if it has that size.
    """
    old_h, old_w = kernel.shape[:2]
    if (old_h, old_w) == tuple(size):
        return kernel
    method = "bilinear" if method == "zoom" else method  # FlexiViT's choice
    rows = np.linalg.pinv(METHODS[method](old_h, size[0]).T)
    columns = np.linalg.pinv(METHODS[method](old_w, size[1]).T)
    return np.einsum("pP,qQ,PQcd->pqcd", rows, columns, kernel.astype("float64"))

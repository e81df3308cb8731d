"""Our resizing against PyTorch, SciPy and timm, which the published weights know."""

import itertools

import numpy as np
import pytest

from tests import peers
from vit_keras.weights.resize import METHODS, resize_patches, resize_positions

# Growing, shrinking, equal, odd ratios, and the single row that has no neighbour.
SIZES = (1, 2, 3, 4, 7, 14, 16)
PAIRS = list(itertools.product(SIZES, SIZES))
RECTANGLES = [
    ((2, 3), (5, 4)),
    ((7, 7), (3, 12)),
    ((1, 4), (4, 1)),
    ((1, 1), (3, 2)),
    ((14, 14), (24, 24)),
    ((24, 10), (5, 6)),
]
TORCH = {
    "bilinear": {"mode": "bilinear"},
    "bilinear_antialias": {"mode": "bilinear", "antialias": True},
    "bicubic": {"mode": "bicubic"},
    "bicubic_antialias": {"mode": "bicubic", "antialias": True},
}


def grid_of(size, width=3):
    rng = np.random.default_rng(size[0] * 100 + size[1])
    return rng.standard_normal((*size, width))


def by_torch(grid, size, **options):
    torch = pytest.importorskip("torch", reason="the definition of these methods")
    x = torch.from_numpy(grid.transpose(2, 0, 1)[None].copy())
    y = torch.nn.functional.interpolate(x, size, align_corners=False, **options)
    return y[0].numpy().transpose(1, 2, 0)


@pytest.mark.parametrize("method", TORCH)
def test_as_torch_does(method):
    cases = [((a, a), (b, b)) for a, b in PAIRS] + RECTANGLES
    for old, new in cases:
        grid = grid_of(old)
        # Both in float64: what is left is the order of a few additions.
        np.testing.assert_allclose(
            resize_positions(grid, new, method),
            by_torch(grid, new, **TORCH[method]),
            rtol=0,
            atol=1e-12,
            err_msg=f"{old} to {new}",
        )


def test_zoom_is_that_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage", reason="its zoom is the definition")
    for old, new in [((a, a), (b, b)) for a, b in PAIRS] + RECTANGLES:
        grid = grid_of(old)
        factors = (new[0] / old[0], new[1] / old[1], 1)
        np.testing.assert_allclose(
            resize_positions(grid, new, "zoom"),
            ndimage.zoom(grid, factors, order=1),
            rtol=0,
            atol=1e-12,
            err_msg=f"{old} to {new}",
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("old,new", PAIRS)
def test_a_constant_stays_constant(method, old, new):
    matrix = METHODS[method](old, new)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_same_size_changes_nothing(method):
    grid, kernel = grid_of((3, 5)), np.ones((4, 2, 3, 5), "float32")
    assert resize_positions(grid, (3, 5), method) is grid
    assert resize_patches(kernel, (4, 2), method) is kernel
    np.testing.assert_allclose(METHODS[method](6, 6), np.eye(6), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "old,new",
    [((4, 4), (8, 8)), ((8, 8), (4, 4)), ((3, 5), (7, 6)), ((6, 6), (6, 3))],
)
def test_patches_as_timm_does(old, new):
    torch = pytest.importorskip("torch", reason="timm needs it")
    peers.without_torchvision()
    layers = pytest.importorskip("timm.layers", reason="it resizes patches")
    kernel = grid_of(old, width=6).reshape(*old, 2, 3)
    theirs = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    theirs = layers.resample_patch_embed(
        theirs, list(new), interpolation="bicubic", antialias=True
    )
    # timm's matrix and pseudo-inverse are of float32.
    np.testing.assert_allclose(
        resize_patches(kernel, new, "bicubic_antialias"),
        theirs.numpy().transpose(2, 3, 1, 0),
        rtol=0,
        atol=2e-5,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "old,new", [((4, 4), (8, 8)), ((3, 5), (7, 6)), ((2, 2), (2, 3)), ((1, 4), (3, 4))]
)
def test_grown_patches_give_the_same_tokens(method, old, new):
    """FlexiViT, arXiv 2212.08013, section 3.4: <B x, w'> = <x, w> if B grows x."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((*old, 3, 5))
    patches = rng.standard_normal((6, *old, 3))
    by = "bilinear" if method == "zoom" else method  # as big_vision's FlexiViT does
    grown = np.stack([resize_positions(patch, new, by) for patch in patches])
    np.testing.assert_allclose(
        np.einsum("npqc,pqcd->nd", grown, resize_patches(kernel, new, method)),
        np.einsum("npqc,pqcd->nd", patches, kernel),
        rtol=0,
        atol=1e-10,  # the pseudo-inverse, in float64
    )


def test_shrunk_patches_are_the_best_approximation():
    """Least squares: no other kernel is nearer for patches of independent pixels."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((6, 6, 1, 1))
    matrix = METHODS["bilinear"]
    shrink = np.kron(matrix(6, 4), matrix(6, 4))  # flattened patch, small from large
    best = np.linalg.lstsq(shrink.T, kernel.ravel(), rcond=None)[0]
    ours = resize_patches(kernel, (4, 4), "bilinear")
    np.testing.assert_allclose(ours.ravel(), best, rtol=0, atol=1e-10)

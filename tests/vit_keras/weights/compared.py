"""Models of ours and of the real packages, side by side."""

import warnings

import numpy as np
import safetensors.numpy

import vit_keras
from tests.models import randomise
from tests.vit_keras.weights.golden_files import CASES, file_of
from vit_keras import create_model

# float32 over two or three blocks, a head, and outputs of order 1: the two sides take
# the same sums in another order.
TOLERANCE = {"rtol": 0, "atol": 2e-5}
SIZES = {"image_size": 32, "num_heads": 2}
PATCH = 8  # pixels of a patch in all models of transformers
TANH = {"mlp_activation": "gelu_tanh"}


def images(height=32, width=32, channels=3):
    """Standard normal, (N, H, W, C)."""
    shape = (2, height, width, channels)
    return np.random.default_rng(7).standard_normal(shape).astype("float32")


def run_torch(module, x, **options):
    import torch

    with torch.inference_mode():
        return module.eval()(
            torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), **options
        )


def flat_patches(x):
    """What Siglip2ImageProcessor makes of images that need no padding."""
    import torch

    n, height, width, channels = x.shape
    rows, columns = height // PATCH, width // PATCH
    flat = x.reshape(n, rows, PATCH, columns, PATCH, channels)
    flat = flat.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * columns, -1)
    return torch.from_numpy(flat.copy()), {
        "pixel_attention_mask": torch.ones(n, rows * columns),
        "spatial_shapes": torch.tensor([[rows, columns]] * n),
    }


def fill(module, seed=3):
    """Every weight of a PyTorch model drawn, norms around 1."""
    import torch

    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            if name.endswith("num_batches_tracked"):
                continue
            value = 0.2 * rng.standard_normal(tuple(tensor.shape))
            scale = tensor.ndim == 1 and bool((tensor == 1).all())  # fresh norms
            tensor.copy_(torch.from_numpy(np.asarray(value + scale)))
    return module.eval()


def close(ours, theirs):
    theirs = np.asarray(theirs)
    assert np.isfinite(theirs).all() and np.abs(theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, **TOLERANCE)


def model_of(config, **changes):
    return randomise(create_model(config.replace(**changes)))


def written(path):
    """The arrays of a file that we wrote, read without our own reader."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    return safetensors.numpy.load_file(path)


# What is in their files and belongs to no network of ours.
NOT_OURS = {"embeddings.mask_token"}


def golden_model(name, **options):
    needs = CASES[name]["needs"]
    return vit_keras.from_checkpoint(file_of(name), **needs, **options)


def save_quietly(model, path, layout):
    """timm has no way to say the epsilon of CLIP; the warning has its own test."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*computes with norm_epsilon")
        return vit_keras.save_checkpoint(model, path, layout)

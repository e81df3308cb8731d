"""Models with rotary positions on images of another size, as timm's are."""

import numpy as np
import pytest

import vit_keras
from tests.models import run
from tests.vit_keras.weights.against_timm import TOLERANCE, save, small
from tests.vit_keras.weights.compared import images, run_torch

# Rows and columns of patches; 3 by 3 in the file.
GRID = (4, 6)
NAMES = ["vit_tiny_patch16_dinov3_qkvb", "eva02_tiny_patch14_224"]
NAMES += ["vit_pe_core_tiny_patch16_384", "vit_small_patch16_rope_ape_224"]


@pytest.mark.parametrize("name", NAMES)
def test_size_of_images(name, timm, monkeypatch, tmp_path):
    module = small(timm, monkeypatch, name)
    path = save(module, tmp_path)
    patch = module.patch_embed.patch_size[0]
    size = (GRID[0] * patch, GRID[1] * patch)
    module.set_input_size(img_size=size)
    x = images(*size)
    expected = run_torch(module, x).numpy()
    ours = run(vit_keras.from_checkpoint(path, image_size=size), x)
    assert np.abs(ours - expected).max() < TOLERANCE * np.abs(expected).max()

"""What the golden checkpoints of PyTorch share."""

import numpy as np
import torch
from common import draw


def fill(module):
    """Draws all weights of a PyTorch model; returns it ready for inference."""
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            if tensor.ndim == 0:  # a count of batches
                continue
            if name.endswith(("gamma", "lambda1")):
                kind = "layer_scale"
            elif name.endswith("weight") and tensor.ndim == 1:
                kind = "scale"  # only norms have weights of one dimension
            else:
                kind = "weight"
            tensor.copy_(torch.from_numpy(draw(rng, tuple(tensor.shape), kind)))
    return module.eval()


def run(module, x):
    """The outputs of a PyTorch model for images (N, H, W, C)."""
    with torch.inference_mode():
        return module(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))

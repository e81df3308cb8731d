"""Small models with outputs at each pixel, and images for them."""

import keras
import numpy as np

from vit_keras import ViTConfig, create_model

SIZE, CLASSES = (32, 48), ("road", "sky", "tree", "car", "wall")
CONFIG = ViTConfig(
    image_size=SIZE,
    patch_size=8,
    num_layers=4,
    hidden_size=32,
    num_heads=2,
    mlp_dim=64,
    num_register_tokens=1,
    layer_scale_init_value=0.5,
)


def dense(task="segment", **changes):
    """A model a little away from its fresh weights."""
    keras.utils.set_random_seed(0)
    if task == "segment":
        changes = {"classes": len(CLASSES), "labels": CLASSES, **changes}
    model = create_model(CONFIG, task=task, **changes)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "moving" not in weight.path:
            weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    return model


def pictures(number=8):
    """Smooth patterns, (N, *SIZE, 3) uint8."""
    rng = np.random.default_rng(1)
    coarse = rng.uniform(0, 255, (number, 8, 12, 3))
    return np.repeat(np.repeat(coarse, 4, 1), 4, 2).astype("uint8")


def outlier(model, times=40.0):
    """Plant what pre-trained ViTs have: one channel that is far larger than the rest,
    and shrunk again by the gamma of every norm that reads it."""
    channel, width = 3, model.config.hidden_size
    positions = model.get_layer("posembed_input").embedding
    positions.assign(positions + times * np.eye(width)[channel])
    norms = [model.get_layer("encoder_norm")]
    for index in range(model.config.num_layers):
        block = model.get_layer(f"encoderblock_{index}")
        norms += [block.norm1, block.norm2]
    for norm in norms:  # others were divided by a standard deviation of times / sqrt(D)
        gamma = np.asarray(norm.gamma) * times / np.sqrt(width)
        gamma[channel] = 0.01
        norm.gamma.assign(gamma)
    return model

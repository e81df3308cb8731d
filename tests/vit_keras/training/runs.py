"""What the tests of the training share: a tiny recipe, data and a silent console."""

import io

import numpy as np
from rich.console import Console

from vit_keras import data
from vit_keras.training import RECIPES

SIZES = {
    "image_size": 8,
    "patch_size": 4,
    "num_layers": 1,
    "hidden_size": 32,
    "num_heads": 2,
    "mlp_dim": 32,
}
# AdamW: the graph of Muon takes TensorFlow longer to build than all else.
FAST = RECIPES["digits"].replace(epochs=2, model=SIZES, optimizer="adamw")
# Over in a second or two: 100 images, four steps.
SHORT = FAST.replace(epochs=2, batch_size=40, warmup=0.0)


def quiet():
    return Console(file=io.StringIO(), width=200)


def few(number=100):
    """The first digits."""
    return data.digits()[0].take(np.arange(number))


def same(first, second):
    """Whether two models have the same weights, bit for bit."""
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)

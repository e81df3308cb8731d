"""Drop-in functions for code written for the PyPI package vit-keras 0.2.

Names, arguments and outputs are the same, with two safer differences: nothing is
downloaded by default (`pretrained` and `pretrained_top` are False), and models save and
load as `.keras` files without custom objects or unsafe mode.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .config import ViTConfig
from .model import create_model
from .network import VisionTransformer
from .preprocessing import Preprocessing, normalize
from .weights import download
from .weights.formats import open_checkpoint
from .weights.loader import apply
from .weights.recognise import recognise

CONFIG_B = {
    "dropout": 0.1,
    "mlp_dim": 3072,
    "num_heads": 12,
    "num_layers": 12,
    "hidden_size": 768,
}
CONFIG_L = {
    "dropout": 0.1,
    "mlp_dim": 4096,
    "num_heads": 16,
    "num_layers": 24,
    "hidden_size": 1024,
}
# vit-keras' name of weights: number of classes, and suffix of the name in `PUBLISHED`
WEIGHTS = {
    "imagenet21k": (21_843, "in21k"),
    "imagenet21k+imagenet2012": (1_000, "384"),
}


def preprocess_inputs(X: ArrayLike) -> np.ndarray:
    """Normalise pixels (..., 3) in 0..255 to float32 in -1..1."""
    return normalize(np.asarray(X), Preprocessing())


def build_model(
    image_size: int | Sequence[int],
    patch_size: int | Sequence[int],
    num_layers: int,
    hidden_size: int,
    num_heads: int,
    name: str,
    mlp_dim: int,
    classes: int,
    dropout: float = 0.1,
    activation: str = "linear",
    include_top: bool = True,
    representation_size: int | None = None,
) -> VisionTransformer:
    """Build a ViT from its sizes.

    Arguments:
        image_size: int or (height, width), a multiple of `patch_size`.
        patch_size, num_layers, hidden_size, num_heads, mlp_dim: the architecture.
        name: name of the model.
        classes: outputs of the head.
        dropout: rate in the MLPs and after attention.
        activation: activation of the head.
        include_top: without it the output is the class token, (N, hidden_size).
        representation_size: width of a tanh layer before the head, or None.

    Returns:
        A functional Keras model on images (N, height, width, 3) in -1..1.

    Raises:
        ValueError: the sizes do not fit together.
    """
    config = ViTConfig(
        image_size=image_size,
        patch_size=patch_size,
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=num_heads,
        mlp_dim=mlp_dim,
        classes=classes,
        dropout=dropout,
        activation=activation,
        include_top=include_top,
        representation_size=representation_size,
    )
    return create_model(config, name=name)


def _check_weights(weights, classes, include_top, pretrained, pretrained_top):
    """Return the number of classes; a pre-trained top decides it."""
    if weights not in WEIGHTS:
        raise ValueError(
            f"`weights` must be one of {sorted(WEIGHTS)}. Received: weights={weights!r}"
        )
    expected, _ = WEIGHTS[weights]
    if not pretrained_top:
        return classes
    if not (include_top and pretrained):
        raise ValueError(
            "`pretrained_top` must be False without include_top and pretrained. "
            f"Received: include_top={include_top}, pretrained={pretrained}"
        )
    if classes != expected:
        warnings.warn(
            f"classes={expected}, as the pre-trained top has, not {classes}",
            stacklevel=3,
        )
    return expected


def _load(model, weights, pretrained_top):
    """Load the files that vit-keras uses: those of the ViT paper."""
    name = model.name.replace("-", "_")  # vit-b16 -> vit_b16
    path = download.fetch(f"{name}_{WEIGHTS[weights][1]}")
    match = recognise(open_checkpoint(path))
    # vit-keras runs them with the exact GELU; this module does too.
    apply(match, model, model.config, head=pretrained_top, chosen=True)


def _variant(
    sizes: dict[str, Any], name: str, patch_size: int, default_image_size: Sequence[int]
):
    def build(
        image_size: int | Sequence[int] = default_image_size,
        classes: int = 1000,
        activation: str = "linear",
        include_top: bool = True,
        pretrained: bool = False,
        pretrained_top: bool = False,
        weights: str = "imagenet21k+imagenet2012",
    ) -> VisionTransformer:
        classes = _check_weights(
            weights, classes, include_top, pretrained, pretrained_top
        )
        model = build_model(
            **sizes,
            name=name,
            patch_size=patch_size,
            image_size=image_size,
            classes=classes,
            activation=activation,
            include_top=include_top,
            representation_size=(
                sizes["hidden_size"] if weights == "imagenet21k" else None
            ),
        )
        if pretrained:
            _load(model, weights, pretrained_top)
        return model

    build.__name__ = build.__qualname__ = name.replace("-", "_")
    build.__doc__ = f"""Build {name.upper()}.

    Arguments:
        image_size: int or (height, width), a multiple of {patch_size}.
        classes: outputs of the head.
        activation: activation of the head.
        include_top: without it the output is the class token.
        pretrained: whether to load the weights of the ViT paper, downloaded or cached.
        pretrained_top: whether to load their head too, which decides `classes`.
        weights: "imagenet21k+imagenet2012", or "imagenet21k", which adds the tanh layer
            of those weights.

    Raises:
        ValueError: an argument is invalid, or a top is given without the rest.
        DownloadError: the download failed; the message says what to do.
    """
    return build


vit_b16 = _variant(CONFIG_B, "vit-b16", 16, (224, 224))
vit_b32 = _variant(CONFIG_B, "vit-b32", 32, (224, 224))
vit_l16 = _variant(CONFIG_L, "vit-l16", 16, (384, 384))
vit_l32 = _variant(CONFIG_L, "vit-l32", 32, (384, 384))

"""Vision Transformers as others write them, with random weights.

Small ones: 48 pixels in patches of 8, 3 blocks of width 64 with 4 heads.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.export.recognition import builders
from vit_keras.preprocessing import get_preprocessing

SIZE, PATCH, WIDTH, HEADS, HIDDEN, BLOCKS, CLASSES = 48, 8, 64, 4, 160, 3, 7


def randomise(model, seed):
    """Gammas, biases, tokens and positions of a trained model are not 1 and 0."""
    draws = np.random.default_rng(seed)
    for weight in model.weights:
        value, name = np.asarray(weight), weight.path.split("/")[-1]
        if value.dtype.kind != "f" or name in ("mean", "variance", "count"):
            continue
        if value.ndim < 2:
            spread = 0.1
        elif any(part in weight.path for part in ("token", "pos", "embeddings")):
            spread = 0.2
        else:
            spread = 0.3 * value.shape[-1] ** -0.5
        noise = draws.normal(0, spread, value.shape)
        if "gamma" in name:
            value = np.exp(5 * noise)
        else:
            value = value + (np.abs(noise) if "moving" in name else noise)
        weight.assign(value.astype("float32"))
    return model


# ---- of the layers of Keras, as in the examples of keras.io --------------------------


class CutPatches(layers.Layer):
    """Patches as rows, cut without a convolution."""

    def call(self, x):
        x = ops.image.extract_patches(x, size=PATCH)
        return ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))


def embed(images, **options):
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    return builders.embed(x, width=WIDTH, patch=PATCH, **options)


def encode(x, attention=None, dense=None, blocks=BLOCKS):
    attention = attention or (lambda y: builders.stock_attention(y, WIDTH // HEADS))
    dense = dense or (lambda y: builders.mlp(y, hidden=HIDDEN))
    return builders.norm(builders.encode(x, blocks, attention, dense))


def classifier(images, x, pooling=None):
    x = builders.pool(x, pooling) if pooling else x
    return keras.Model(images, layers.Dense(CLASSES)(x))


def io(pooling):
    """A ViT of stock layers; of None, its tokens."""
    images = keras.Input((SIZE, SIZE, 3))
    x = encode(embed(images, token=pooling == "token"))
    return classifier(images, x, pooling) if pooling else keras.Model(images, x)


def io_tutorial():
    """image_classification_with_vision_transformer: GELU after both layers of an MLP,
    and heads as wide as the model."""
    images = keras.Input((SIZE, SIZE, 3))
    mean, variance = [120.0, 115.0, 100.0], [3600.0, 3025.0, 2500.0]
    x = layers.Normalization(mean=mean, variance=variance)(images)
    x = builders.AddPositions()(layers.Dense(WIDTH)(CutPatches()(x)))

    def dense(x):
        for units in (2 * WIDTH, WIDTH):
            x = layers.Dropout(0.1)(layers.Dense(units, activation="gelu")(x))
        return x

    x = encode(x, lambda x: builders.stock_attention(x, WIDTH), dense)
    x = layers.Flatten()(x)
    for units in (96, 48):
        x = layers.Dense(units, activation="gelu")(x)
    return classifier(images, x)


def io_hybrid():
    """Convolutions make the tokens."""
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 255)(images)
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Reshape((-1, WIDTH))(layers.Conv2D(WIDTH, 1)(x))
    return classifier(images, encode(builders.AddPositions()(x), blocks=2), "gap")


def timm_like():
    """Queries, keys and values of one dense layer."""
    images = keras.Input((SIZE, SIZE, 3))
    x = encode(embed(images, token=True), lambda x: builders.Attention(heads=HEADS)(x))
    return classifier(images, x, "token")


# ---- of KerasHub ---------------------------------------------------------------------

SIZES: dict[str, Any] = {"patch_size": PATCH, "num_layers": BLOCKS, "num_heads": HEADS}
SIZES |= {"hidden_dim": WIDTH, "image_shape": (SIZE, SIZE, 3)}
S16: dict[str, Any] = {"patch_size": 16, "num_layers": 12, "num_heads": 6}
S16 |= {"hidden_dim": 384, "mlp_dim": 1536, "image_shape": (224, 224, 3)}


def hub_vit(pooling="token", **sizes):
    from keras_hub import models

    sizes = {"mlp_dim": HIDDEN, **SIZES, **sizes}
    backbone = models.ViTBackbone(use_class_token=pooling == "token", **sizes)
    return models.ViTImageClassifier(
        backbone=backbone, num_classes=CLASSES, pooling=pooling
    )


def hub_deit():
    from keras_hub import models

    backbone = models.DeiTBackbone(intermediate_dim=HIDDEN, **SIZES)
    return models.DeiTImageClassifier(backbone=backbone, num_classes=CLASSES)


def hub_encoder(kind):
    """Tokens, of DINOv2 with registers and LayerScale; of SigLIP a vector."""
    from keras_hub import models
    from keras_hub.src.models.clip.clip_vision_encoder import CLIPVisionEncoder
    from keras_hub.src.models.siglip.siglip_vision_encoder import SigLIPVisionEncoder

    options: dict[str, Any] = {"intermediate_dim": HIDDEN, **SIZES}
    if kind == "dinov2":
        options |= {"position_embedding_shape": (64, 64, 3), "num_register_tokens": 4}
        options |= {"layer_scale_init_value": 0.2, "apply_layernorm": True}
        encoder = models.DINOV2Backbone(**options)
    else:
        make = SigLIPVisionEncoder if kind == "siglip" else CLIPVisionEncoder
        encoder = make(**options)
    return keras.Model(encoder.inputs[0], encoder.outputs[0])


LARGE = "hub_vit_s16"
MODELS = {
    "io_gap": lambda: io("gap"),
    "io_token": lambda: io("token"),
    "io_tutorial": io_tutorial,
    "io_hybrid": io_hybrid,
    "io_features": lambda: io(None),
    "hub_vit": hub_vit,
    "hub_vit_gap": lambda: hub_vit("gap"),
    "hub_deit": hub_deit,
    "hub_dinov2": lambda: hub_encoder("dinov2"),
    "hub_siglip": lambda: hub_encoder("siglip"),
    "hub_clip": lambda: hub_encoder("clip"),
    "timm_like": timm_like,
    LARGE: lambda: hub_vit(**S16),
}


def build(name, seed):
    """(model, preprocessing that the library leaves outside of it, or None)."""
    keras.utils.set_random_seed(seed)
    model = randomise(MODELS[name](), seed)
    return model, get_preprocessing("-1..1") if name.startswith("hub") else None

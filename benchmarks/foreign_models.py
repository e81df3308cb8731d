"""Vision Transformers as others write them, with random weights.

Small ones: 48 pixels in patches of 8, 3 blocks of width 64 with 4 heads.
"""

import keras
import numpy as np
from keras import layers, ops

from vit_keras.preprocessing import get_preprocessing

SIZE, PATCH, WIDTH, HEADS, HIDDEN, BLOCKS, CLASSES = 48, 8, 64, 4, 160, 3, 7
TOKENS = (SIZE // PATCH) ** 2


def randomise(model, seed):
    """Gammas, biases, tokens and positions of a trained model are not 1 and 0."""
    draws = np.random.default_rng(seed)
    for weight in model.weights:
        value, name = np.asarray(weight), weight.path.split("/")[-1]
        if value.dtype.kind != "f" or name in ("mean", "variance", "count"):
            continue
        if "gamma" in name:
            value = np.exp(draws.normal(0, 0.5, value.shape))
        elif "moving" in name:
            value = value + np.abs(draws.normal(0, 0.1, value.shape))
        elif value.ndim < 2:
            value = value + draws.normal(0, 0.1, value.shape)
        elif any(part in weight.path for part in ("token", "pos", "embeddings")):
            value = value + draws.normal(0, 0.2, value.shape)
        else:
            spread = 0.3 * value.shape[-1] ** -0.5
            value = value + draws.normal(0, spread, value.shape)
        weight.assign(value.astype("float32"))
    return model


# ---- of the layers of Keras, as in the examples of keras.io --------------------------


class CutPatches(layers.Layer):
    """Patches as rows, cut without a convolution."""

    def call(self, x):
        x = ops.image.extract_patches(x, size=PATCH)
        return ops.reshape(x, (-1, TOKENS, x.shape[-1]))


class AddPositions(layers.Layer):
    """Learned positions."""

    def build(self, shape):
        self.table = self.add_weight(shape=(1, *shape[1:]), name="pos")

    def call(self, x):
        return x + self.table


class AddToken(layers.Layer):
    """A class token in front."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1)


class FusedAttention(layers.Layer):
    """Queries, keys and values of one dense layer, as in timm."""

    def build(self, shape):
        self.qkv, self.out = layers.Dense(3 * shape[-1]), layers.Dense(shape[-1])
        self.qkv.build(shape)
        self.out.build(shape)

    def call(self, x):
        tokens, width = x.shape[1:]
        qkv = ops.reshape(self.qkv(x), (-1, tokens, 3, HEADS, width // HEADS))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3)
        q = q * (width // HEADS) ** -0.5
        y = ops.matmul(ops.softmax(ops.matmul(q, ops.swapaxes(k, -1, -2))), v)
        return self.out(
            ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, tokens, width))
        )


def norm(x):
    return layers.LayerNormalization(epsilon=1e-6)(x)


def embed(x, token=False):
    x = layers.Reshape((-1, WIDTH))(layers.Conv2D(WIDTH, PATCH, PATCH)(x))
    return AddPositions()(AddToken()(x) if token else x)


def attention(x, key_dim=WIDTH // HEADS):
    return layers.MultiHeadAttention(HEADS, key_dim, dropout=0.1)(x, x)


def mlp(x):
    x = layers.Dense(HIDDEN, activation="gelu")(x)
    return layers.Dense(WIDTH)(layers.Dropout(0.1)(x))


def encode(x, attention=attention, mlp=mlp, blocks=BLOCKS):
    for _ in range(blocks):
        x = x + attention(norm(x))
        x = x + mlp(norm(x))
    return norm(x)


def scaled(images):
    return layers.Rescaling(1 / 127.5, offset=-1)(images)


def classify(images, x):
    return keras.Model(images, layers.Dense(CLASSES)(x))


def io_gap():
    images = keras.Input((SIZE, SIZE, 3))
    x = encode(embed(scaled(images)))
    return classify(images, layers.GlobalAveragePooling1D()(x))


def io_token():
    images = keras.Input((SIZE, SIZE, 3))
    return classify(images, encode(embed(scaled(images), token=True))[:, 0])


def io_features():
    images = keras.Input((SIZE, SIZE, 3))
    return keras.Model(images, encode(embed(scaled(images))))


def io_tutorial():
    """image_classification_with_vision_transformer: GELU after both layers of an MLP,
    and heads as wide as the model."""
    images = keras.Input((SIZE, SIZE, 3))
    mean, variance = [120.0, 115.0, 100.0], [3600.0, 3025.0, 2500.0]
    x = layers.Normalization(mean=mean, variance=variance)(images)
    x = AddPositions()(layers.Dense(WIDTH)(CutPatches()(x)))

    def dense(x):
        for units in (2 * WIDTH, WIDTH):
            x = layers.Dropout(0.1)(layers.Dense(units, activation="gelu")(x))
        return x

    x = layers.Flatten()(encode(x, lambda x: attention(x, WIDTH), dense))
    for units in (96, 48):
        x = layers.Dense(units, activation="gelu")(x)
    return classify(images, x)


def io_hybrid():
    """Convolutions make the tokens."""
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 255)(images)
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Reshape((-1, WIDTH))(layers.Conv2D(WIDTH, 1)(x))
    x = encode(AddPositions()(x), blocks=2)
    return classify(images, layers.GlobalAveragePooling1D()(x))


def timm_like():
    images = keras.Input((SIZE, SIZE, 3))
    x = encode(embed(scaled(images), token=True), lambda x: FusedAttention()(x))
    return classify(images, x[:, 0])


# ---- of KerasHub ---------------------------------------------------------------------

SIZES = {"patch_size": PATCH, "num_layers": BLOCKS, "num_heads": HEADS}
SIZES |= {"hidden_dim": WIDTH, "image_shape": (SIZE, SIZE, 3)}


def hub_vit(pooling="token", **sizes):
    from keras_hub import models

    sizes = SIZES | {"mlp_dim": HIDDEN} | sizes
    backbone = models.ViTBackbone(use_class_token=pooling == "token", **sizes)
    return models.ViTImageClassifier(
        backbone=backbone, num_classes=CLASSES, pooling=pooling
    )


def hub_vit_s16():
    sizes = {"patch_size": 16, "num_layers": 12, "num_heads": 6, "hidden_dim": 384}
    return hub_vit(mlp_dim=1536, image_shape=(224, 224, 3), **sizes)


def hub_deit():
    from keras_hub import models

    backbone = models.DeiTBackbone(intermediate_dim=HIDDEN, **SIZES)
    return models.DeiTImageClassifier(backbone=backbone, num_classes=CLASSES)


def hub_dinov2():
    """Tokens, with registers and LayerScale."""
    from keras_hub import models

    backbone = models.DINOV2Backbone(
        position_embedding_shape=(64, 64, 3),
        num_register_tokens=4,
        layer_scale_init_value=0.2,
        apply_layernorm=True,
        intermediate_dim=HIDDEN,
        **SIZES,
    )
    return keras.Model(backbone.inputs[0], backbone.outputs[0])


def hub_siglip():
    """A vector, by attention pooling."""
    from keras_hub.src.models.siglip import siglip_vision_encoder as siglip

    encoder = siglip.SigLIPVisionEncoder(intermediate_dim=HIDDEN, **SIZES)
    return keras.Model(encoder.inputs[0], encoder.outputs[0])


def hub_clip():
    """Tokens."""
    from keras_hub.src.models.clip import clip_vision_encoder as clip

    encoder = clip.CLIPVisionEncoder(intermediate_dim=HIDDEN, **SIZES)
    return keras.Model(encoder.inputs[0], encoder.outputs[0])


LARGE = "hub_vit_s16"
# Each takes pixels, or [-1, 1] where the library scales them outside of the model.
MODELS = {
    "io_gap": io_gap,
    "io_token": io_token,
    "io_tutorial": io_tutorial,
    "io_hybrid": io_hybrid,
    "io_features": io_features,
    "hub_vit": hub_vit,
    "hub_vit_gap": lambda: hub_vit("gap"),
    "hub_deit": hub_deit,
    "hub_dinov2": hub_dinov2,
    "hub_siglip": hub_siglip,
    "hub_clip": hub_clip,
    "timm_like": timm_like,
    LARGE: hub_vit_s16,
}


def build(name, seed):
    """(model, the preprocessing that it leaves to others, or None)."""
    keras.utils.set_random_seed(seed)
    model = randomise(MODELS[name](), seed)
    return model, get_preprocessing("-1..1") if name.startswith("hub") else None

"""Small Vision Transformers as others write them, and what only looks like one.

Mostly of one block: what takes the time of these tests is TensorFlow's converter.

Images of 32 pixels in patches of 8: T = 16 tokens of width 32, H = 4 heads of d = 8.
"""

import keras
import numpy as np
from keras import layers, ops

SIZE, PATCH, WIDTH, HEADS, HIDDEN, CLASSES = 32, 8, 32, 4, 48, 5
TOKENS = (SIZE // PATCH) ** 2


def randomise(model, seed=0):
    """Weights that are neither fresh nor trivial; returns the model."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        name = weight.path.split("/")[-1]
        if "int" in str(weight.dtype) or name in ("mean", "variance", "count"):
            continue
        value = np.asarray(weight)
        if "gamma" in name or name == "scale":
            value = np.exp(rng.normal(0, 0.5, value.shape))
        elif value.ndim < 2 or "moving" in name:
            value = value + np.abs(rng.normal(0, 0.1, value.shape))
        elif "pos" in weight.path or "token" in name or "embeddings" in name:
            value = value + rng.normal(0, 0.2, value.shape)
        else:
            value = value + rng.normal(0, 0.3 * value.shape[-1] ** -0.5, value.shape)
        weight.assign(value.astype("float32"))
    return model


def images(model, number=4):
    """Random ones: normalised, and pixels."""
    rng, shape = np.random.default_rng(5), model.input_shape[1:]
    found = [rng.normal(size=shape) for _ in range(number // 2)]
    found += [rng.uniform(0, 255, shape) for _ in range(number // 2)]
    return np.stack(found).astype("float32")


# ---- layers -------------------------------------------------------------------------


class CutPatches(layers.Layer):
    """Patches as in the tutorial of keras.io."""

    def call(self, x):
        patches = ops.image.extract_patches(x, size=PATCH)
        return ops.reshape(patches, (-1, TOKENS, PATCH * PATCH * x.shape[-1]))


class EncodePatches(layers.Layer):
    """A projection plus an embedding of the index, as in the tutorial."""

    def build(self, shape):
        self.projection = layers.Dense(WIDTH)
        self.position = layers.Embedding(TOKENS, WIDTH)
        self.projection.build(shape)
        self.position.build((TOKENS,))

    def call(self, x):
        index = ops.expand_dims(ops.arange(0, TOKENS, 1), axis=0)
        return self.projection(x) + self.position(index)


class AddToken(layers.Layer):
    """A class token, in front or behind."""

    def __init__(self, last=False, **kwargs):
        super().__init__(**kwargs)
        self.last = last

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([x, token] if self.last else [token, x], axis=1)


class AddPositions(layers.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(1, *shape[1:]), name="pos")

    def call(self, x):
        return x + self.table


class Attention(layers.Layer):
    """Attention by hand: queries, keys and values of one dense layer.

    `kind` is what makes it another one than that of a ViT, or "qk_norm".
    """

    def __init__(self, kind="", heads=HEADS, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.heads = kind, heads

    def build(self, shape):
        _, tokens, width = shape
        self.qkv, self.out = layers.Dense(3 * width), layers.Dense(width)
        self.norms = [layers.LayerNormalization(epsilon=1e-5) for _ in range(2)]
        self.qkv.build(shape)
        self.out.build(shape)
        if self.kind == "qk_norm":
            for norm in self.norms:
                norm.build((None, self.heads, tokens, width // self.heads))
        if self.kind == "bias":
            size = (self.heads, tokens, tokens)
            self.bias = self.add_weight(shape=size, name="bias")

    def call(self, x):
        tokens, width = x.shape[1:]
        size = width // self.heads
        qkv = ops.reshape(self.qkv(x), (-1, tokens, 3, self.heads, size))
        qkv = ops.transpose(qkv, (2, 0, 3, 1, 4))
        q, k, v = qkv[0], qkv[1], qkv[2]
        if self.kind == "rotary":
            q, k = turned(q), turned(k)
        if self.kind == "qk_norm":
            q, k = self.norms[0](q), self.norms[1](k)
        scores = ops.matmul(q * size**-0.5, ops.swapaxes(k, -1, -2))
        if self.kind == "bias":
            scores = scores + self.bias
        if self.kind == "causal":
            scores = scores + np.triu(np.full((tokens, tokens), -1e9, "float32"), 1)
        if self.kind == "capped":
            scores = ops.tanh(scores / 5) * 5
        if self.kind == "relu":
            weights = ops.relu(scores) / tokens
        else:
            weights = ops.softmax(scores)
        if self.kind == "talking":
            mix = np.random.default_rng(0).normal(size=(self.heads, self.heads))
            weights = ops.transpose(weights, (0, 2, 3, 1))
            weights = ops.matmul(weights, mix.astype("float32"))
            weights = ops.transpose(weights, (0, 3, 1, 2))
        y = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
        return self.out(ops.reshape(y, (-1, tokens, width)))


def turned(x):
    """Rotary positions."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[2])[:, None] * 100.0 ** (-np.arange(half) / half)
    sin, cos = np.sin(angles).astype("float32"), np.cos(angles).astype("float32")
    a, b = x[..., :half], x[..., half:]
    return ops.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


class Scale(layers.Layer):
    """LayerScale."""

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")

    def call(self, x):
        return x * self.scale


# ---- models -------------------------------------------------------------------------


def norm(x, epsilon=1e-6):
    return layers.LayerNormalization(epsilon=epsilon)(x)


def embed(x, *, token=False, positions="last", width=WIDTH, patch=PATCH):
    """A convolution; `positions` come before or after the token."""
    x = layers.Conv2D(width, patch, patch, name="patches")(x)
    x = layers.Reshape((-1, width))(x)
    x = AddPositions()(x) if positions == "first" else x
    x = AddToken()(x) if token else x
    return AddPositions()(x) if positions == "last" else x


def stock_attention(x, key_dim=WIDTH // HEADS):
    """The layer of Keras; with dropout it computes keys times queries."""
    return layers.MultiHeadAttention(HEADS, key_dim, dropout=0.1)(x, x)


def mlp(x, activation="gelu", hidden=HIDDEN):
    width = x.shape[-1]
    return layers.Dense(width)(layers.Dense(hidden, activation=activation)(x))


def encode(x, blocks=1, attention=stock_attention, dense=mlp, norm=norm):
    for _ in range(blocks):
        x = x + attention(norm(x))
        x = x + dense(norm(x))
    return x


def pool(x, kind):
    if kind == "token":
        return x[:, 0]
    return layers.GlobalAveragePooling1D()(x)


def exact_gelu(x):
    return ops.gelu(x, approximate=False)


def tanh_gelu(x):
    return ops.gelu(x, approximate=True)


def keras_io(key_dim=24):
    """Rescaling inside, heads wider than D / H, softmax at the end."""
    entry = x = keras.Input((SIZE, SIZE, 3))
    x = embed(layers.Rescaling(1 / 127.5, offset=-1)(x))
    x = encode(x, 2, attention=lambda y: stock_attention(y, key_dim))
    x = layers.Dropout(0.5)(pool(norm(x), "gap"))
    return keras.Model(entry, layers.Dense(CLASSES, activation="softmax")(x))


def tutorial(front=None):
    """image_classification_with_vision_transformer: both layers of an MLP have GELU.

    Arguments:
        front: layer that normalises; None for known statistics.
    """
    entry = keras.Input((SIZE, SIZE, 3))
    mean, variance = [120.0, 115.0, 100.0], [3600.0, 3025.0, 2500.0]
    front = front or layers.Normalization(mean=mean, variance=variance)
    x = EncodePatches()(CutPatches()(front(entry)))

    def dense(y):
        for units in (HIDDEN, WIDTH):
            y = layers.Dense(units, activation=keras.activations.gelu)(y)
            y = layers.Dropout(0.1)(y)
        return y

    x = layers.Flatten()(norm(encode(x, dense=dense)))
    x = layers.Dropout(0.5)(x)
    for units in (24, 12):
        x = layers.Dense(units, activation="gelu")(x)
    return keras.Model(entry, layers.Dense(CLASSES)(x))


def class_token():
    entry = keras.Input((SIZE, SIZE, 3))
    x = encode(embed(entry, token=True), 2, dense=lambda y: mlp(y, "relu"))
    return keras.Model(entry, layers.Dense(CLASSES)(pool(norm(x), "token")))


def all_tokens_pooled():
    """The mean of class token and patches; positions are of the patches alone."""
    entry = keras.Input((SIZE, SIZE, 3))
    x = encode(embed(entry, token=True, positions="first"))
    return keras.Model(entry, layers.Dense(CLASSES)(pool(norm(x), "gap")))


def without_last_norm():
    entry = keras.Input((SIZE, SIZE, 3))
    x = encode(embed(entry), dense=lambda y: mlp(y, "silu"))
    return keras.Model(entry, layers.Dense(CLASSES)(pool(x, "gap")))


def many_activations():
    """One in each block; and all labels at once."""
    entry = keras.Input((SIZE, SIZE, 3))
    x = embed(entry)
    for name in ("tanh", quick_gelu, tanh_gelu):
        x = encode(x, dense=lambda y, name=name: mlp(y, name))
    x = layers.Dense(16, activation="relu")(pool(norm(x), "gap"))
    return keras.Model(entry, layers.Dense(CLASSES, activation="sigmoid")(x))


def quick_gelu(x):
    return x * ops.sigmoid(1.702 * x)


def timm_like():
    """One layer for q, k and v, norms of q and k, LayerScale, a norm of the mean."""
    entry = keras.Input((SIZE, SIZE, 3))
    x = encode(
        embed(entry),
        attention=lambda y: Scale()(Attention("qk_norm")(y)),
        dense=lambda y: Scale()(mlp(y, exact_gelu)),
    )
    return keras.Model(entry, layers.Dense(CLASSES)(norm(pool(x, "gap"), 1e-5)))


def channels_first():
    entry = x = keras.Input((3, SIZE, SIZE))
    x = encode(embed(layers.Permute((2, 3, 1))(x), token=True))
    return keras.Model(entry, layers.Dense(CLASSES)(pool(norm(x), "token")))


def rms_normed():
    entry = keras.Input((SIZE, SIZE, 3))

    def rms(x):
        return layers.RMSNormalization(epsilon=1e-5)(x)

    x = rms(encode(embed(entry), norm=rms))
    return keras.Model(entry, layers.Dense(CLASSES)(pool(x, "gap")))


def square():
    """T = H = d: no axis is told by its size."""
    entry = keras.Input((32, 32, 3))
    x = embed(entry, width=64, patch=16)
    x = encode(x, attention=lambda y: Attention(heads=4)(y[..., :]))
    return keras.Model(entry, norm(x))


def hybrid():
    """Convolutions make the tokens."""
    entry = x = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 255)(x)
    for filters in (8, 16, 16):
        x = layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Reshape((TOKENS, WIDTH))(layers.Conv2D(WIDTH, 1)(x))
    x = norm(encode(AddPositions()(x)))
    return keras.Model(entry, layers.Dense(CLASSES)(pool(x, "gap")))


def not_plain(kind):
    """A ViT of one block with something that `InferenceViT` does not know."""
    entry = keras.Input((SIZE, SIZE, 3))
    if kind == "overlap":
        x = layers.Conv2D(WIDTH, PATCH + 3, PATCH, padding="same")(entry)
        x = AddPositions()(layers.Reshape((TOKENS, WIDTH))(x))
    else:
        x = embed(entry)
    x = AddToken(last=True)(x) if kind == "token_last" else x
    if kind == "parallel":
        x = x + Attention()(norm(x)) + mlp(norm(x))
    elif kind == "post_norm":
        x = norm(x + Attention()(x))
        x = norm(x + mlp(x))
    elif kind == "sandwich":
        x = encode(x, 1, lambda y: norm(Attention()(y)), lambda y: norm(mlp(y)))
    elif kind == "convolution":
        x = encode(x, 1, Attention(), convolutional_mlp)
    elif kind == "gated":
        x = encode(x, 1, Attention(), gated_mlp)
    else:
        x = encode(x, 1, Attention(kind))
    if kind == "levels":
        x = layers.Concatenate()([x, encode(x, 1, Attention())])
    if kind == "foreign":
        x = x + layers.Dense(WIDTH, activation="relu")(x)
        x = encode(x, 1, Attention())
    x = norm(x)
    x = x[:, -1] if kind == "token_last" else pool(x, "gap")
    return keras.Model(entry, layers.Dense(CLASSES)(x))


def without_attention():
    """MLPs over tokens and over channels in turn (arXiv 2105.01601)."""
    entry = keras.Input((SIZE, SIZE, 3))

    def across(x):
        y = layers.Permute((2, 1))(x)
        y = layers.Dense(TOKENS)(layers.Dense(HIDDEN, activation="gelu")(y))
        return layers.Permute((2, 1))(y)

    x = norm(encode(embed(entry), attention=across))
    return keras.Model(entry, layers.Dense(CLASSES)(pool(x, "gap")))


def without_mlp():
    entry = keras.Input((SIZE, SIZE, 3))
    x = embed(entry)
    return keras.Model(entry, x + Attention()(norm(x)))


def convolutional_mlp(x):
    y = layers.Dense(HIDDEN, activation="gelu")(x)
    y = layers.Reshape((SIZE // PATCH, SIZE // PATCH, HIDDEN))(y)
    y = layers.DepthwiseConv2D(3, padding="same")(y)
    return layers.Dense(WIDTH)(layers.Reshape((TOKENS, HIDDEN))(y))


def gated_mlp(x):
    gate = layers.Dense(HIDDEN, activation="silu")(x)
    return layers.Dense(WIDTH)(gate * layers.Dense(HIDDEN)(x))


# ---- of KerasHub --------------------------------------------------------------------


def hub(kind):
    """A model of KerasHub; of a backbone, its tokens."""
    import keras_hub

    names = keras_hub.models
    sizes = {"patch_size": PATCH, "num_layers": 1, "num_heads": HEADS}
    sizes |= {"hidden_dim": WIDTH, "image_shape": (SIZE, SIZE, 3)}
    hidden = {"intermediate_dim": HIDDEN}
    if kind == "vit":
        backbone = names.ViTBackbone(mlp_dim=HIDDEN, **sizes)
        return names.ViTImageClassifier(backbone=backbone, num_classes=CLASSES)
    if kind == "deit":
        backbone = names.DeiTBackbone(**hidden, **sizes)
        return names.DeiTImageClassifier(backbone=backbone, num_classes=CLASSES)
    if kind == "dinov2":
        backbone = names.DINOV2Backbone(
            position_embedding_shape=(SIZE, SIZE, 3),
            num_register_tokens=3,
            layer_scale_init_value=0.2,
            apply_layernorm=True,
            **hidden,
            **sizes,
        )
        tokens = backbone.outputs[0]
        return keras.Model(backbone.inputs[0], tokens)
    if kind == "siglip":
        from keras_hub.src.models.siglip.siglip_vision_encoder import (
            SigLIPVisionEncoder as Encoder,
        )
    else:
        from keras_hub.src.models.clip.clip_vision_encoder import (
            CLIPVisionEncoder as Encoder,
        )
    encoder = Encoder(**hidden, **sizes)
    return keras.Model(encoder.inputs[0], encoder.outputs[0])

"""A Vision Transformer of tf_keras (Keras 2) layers; the one file that imports it.

The model is functional, every part is a layer and every kernel 2-D or a convolution:
TensorFlow Model Optimization's public functions can annotate, wrap and clone it.
"""

import tensorflow as tf
import tf_keras
from tf_keras import layers

from vit_keras.layers.positions import sincos2d


@tf_keras.utils.register_keras_serializable("vit_keras")
class Prefix(layers.Layer):
    """Prepend `num_tokens` learned tokens to (N, T, D)."""

    def __init__(self, num_tokens=1, **kwargs):
        super().__init__(**kwargs)
        self.num_tokens = num_tokens

    def build(self, input_shape):
        shape = (1, self.num_tokens, input_shape[-1])
        self.token = self.add_weight(name="token", shape=shape, initializer="zeros")
        super().build(input_shape)

    def call(self, x):
        shape = (tf.shape(x)[0], self.num_tokens, x.shape[-1])
        return tf.concat([tf.broadcast_to(self.token, shape), x], axis=1)

    def get_config(self):
        return {**super().get_config(), "num_tokens": self.num_tokens}


@tf_keras.utils.register_keras_serializable("vit_keras")
class Positions(layers.Layer):
    """Add learned or fixed position embeddings to (N, T, D)."""

    def __init__(self, grid, prefix=0, kind="learned", **kwargs):
        super().__init__(**kwargs)
        self.grid, self.prefix, self.kind = tuple(grid), prefix, kind

    def build(self, input_shape):
        if self.kind == "learned":
            shape = (1, *input_shape[1:])
            self.embedding = self.add_weight(
                name="embedding", shape=shape, initializer="zeros"
            )
        super().build(input_shape)

    def call(self, x):
        if self.kind == "learned":
            return x + self.embedding
        table = sincos2d(self.grid, x.shape[-1])
        return x + tf.pad(table, ((self.prefix, 0), (0, 0)))

    def get_config(self):
        given = {"grid": self.grid, "prefix": self.prefix, "kind": self.kind}
        return {**super().get_config(), **given}


@tf_keras.utils.register_keras_serializable("vit_keras")
class Scale(layers.Layer):
    """LayerScale: multiply the channels of (N, T, D) by learned factors."""

    def build(self, input_shape):
        self.gamma = self.add_weight(
            name="gamma", shape=input_shape[-1:], initializer="ones"
        )
        super().build(input_shape)

    def call(self, x):
        return x * self.gamma


@tf_keras.utils.register_keras_serializable("vit_keras")
class Probe(layers.Layer):
    """Return a learned query (N, 1, D) for every image; of the input only N is read."""

    def build(self, input_shape):
        shape = (1, 1, input_shape[-1])
        self.probe = self.add_weight(name="probe", shape=shape, initializer="zeros")
        super().build(input_shape)

    def call(self, x):
        return tf.broadcast_to(self.probe, (tf.shape(x)[0], 1, x.shape[-1]))


@tf_keras.utils.register_keras_serializable("vit_keras")
class MatMul(layers.Layer):
    """Return `(a * scale) @ b` of a list [a, b]: tfmot's wrappers pass one argument."""

    def __init__(self, scale=1.0, transpose_b=False, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.transpose_b = scale, transpose_b

    def call(self, inputs):
        a, b = inputs
        return tf.matmul(a * self.scale, b, transpose_b=self.transpose_b)

    def get_config(self):
        given = {"scale": self.scale, "transpose_b": self.transpose_b}
        return {**super().get_config(), **given}


@tf_keras.utils.register_keras_serializable("vit_keras")
class Take(layers.Layer):
    """Return tokens `begin` to `end` of (N, T, D)."""

    def __init__(self, begin, end=None, **kwargs):
        super().__init__(**kwargs)
        self.begin, self.end = begin, end

    def call(self, x):
        return x[:, self.begin : self.end]

    def get_config(self):
        return {**super().get_config(), "begin": self.begin, "end": self.end}


@tf_keras.utils.register_keras_serializable("vit_keras")
class Cut(layers.Layer):
    """Cut images (N, H, W, C) into flat patches (N, P, p * q * C)."""

    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = tuple(patch_size)

    def call(self, images):
        size = (1, *self.patch_size, 1)
        x = tf.image.extract_patches(images, size, size, (1, 1, 1, 1), "VALID")
        return tf.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}


LAYERS = (Prefix, Positions, Scale, Probe, MatMul, Take, Cut)


def build(config, task):
    """Build the twin of `vit_keras.create_model(config, task=task)`, untrained.

    A layer is named by the path of its counterpart, with "." instead of "/".
    """
    parts = _Parts(config)
    inputs = layers.Input((*config.image_size, config.channels), name="images")
    x = parts.embed(inputs)
    if config.pre_norm:
        x = parts.norm(x, "pre_norm")
    for i in range(config.num_layers):
        x = parts.block(x, f"encoderblock_{i}")
    if not config.fc_norm:
        x = parts.norm(x, "encoder_norm")
    if task == "classify" and config.pooling is not None:
        x = parts.top(x)
    return tf_keras.Model(inputs, x, name="vit_twin")


class _Parts:
    """Builder of the parts of one configuration's graph."""

    def __init__(self, config):
        self.config = config
        self.head_dim = config.head_dim or config.hidden_size // config.num_heads

    def norm(self, x, name):
        epsilon = self.config.norm_epsilon
        return layers.LayerNormalization(epsilon=epsilon, name=name)(x)

    def embed(self, images):
        config, (rows, columns) = self.config, self.config.grid
        width, size = config.hidden_size, config.patch_size
        if config.patch_norm:
            x = Cut(size, name="patches")(images)
            x = self.norm(x, "embedding.norm_before")
            x = layers.Dense(width, name="embedding")(x)
            x = self.norm(x, "embedding.norm_after")
        else:
            x = layers.Conv2D(width, size, size, name="embedding")(images)
            x = layers.Reshape((rows * columns, width), name="patches")(x)
        prefix = config.num_prefix_tokens if config.position_prefix else 0
        positions = Positions(
            config.grid, prefix, config.positions, name="posembed_input"
        )
        x = x if config.position_prefix else positions(x)
        if config.num_register_tokens:
            x = Prefix(config.num_register_tokens, name="register_tokens")(x)
        if config.distillation_token:
            x = Prefix(name="distillation_token")(x)
        if config.class_token:
            x = Prefix(name="class_token")(x)
        return positions(x) if config.position_prefix else x

    def block(self, x, name):
        y = self.norm(x, f"{name}.norm1")
        y = self.attention(y, y, f"{name}.attention")
        x = self.add(x, y, f"{name}.layer_scale1", f"{name}.add1")
        y = self.mlp(self.norm(x, f"{name}.norm2"), f"{name}.mlp")
        return self.add(x, y, f"{name}.layer_scale2", f"{name}.add2")

    def add(self, x, y, scale, name):
        if self.config.layer_scale_init_value is not None and scale:
            y = Scale(name=scale)(y)
        return layers.Add(name=name)([x, y])

    def attention(self, query, source, name, plain=False):
        config, size = self.config, self.head_dim
        inner = config.num_heads * size

        def heads(x, part):
            bias = config.qkv_bias or plain
            x = layers.Dense(inner, use_bias=bias, name=f"{name}.{part}")(x)
            shape = (x.shape[1], config.num_heads, size)
            x = layers.Reshape(shape, name=f"{name}.{part}_heads")(x)
            if config.qk_norm and not plain and part != "value":
                x = self.norm(x, f"{name}.{part}_norm")
            return layers.Permute((2, 1, 3), name=f"{name}.{part}_by_head")(x)

        q, k, v = heads(query, "query"), heads(source, "key"), heads(source, "value")
        scores = MatMul(size**-0.5, True, name=f"{name}.scores")([q, k])
        scores = layers.Softmax(name=f"{name}.softmax")(scores)
        x = MatMul(name=f"{name}.values")([scores, v])
        x = layers.Permute((2, 1, 3), name=f"{name}.by_token")(x)
        x = layers.Reshape((query.shape[1], inner), name=f"{name}.joined")(x)
        return layers.Dense(config.hidden_size, name=f"{name}.out")(x)

    def mlp(self, x, name):
        config = self.config
        x = layers.Dense(config.mlp_dim, name=f"{name}.dense1")(x)
        function = ACTIVATIONS[config.mlp_activation]
        x = layers.Activation(function, name=f"{name}.gelu")(x)
        x = layers.Dense(config.hidden_size, name=f"{name}.dense2")(x)
        if config.mlp_out_activation is not None and not name.startswith("pooling"):
            function = ACTIVATIONS[config.mlp_out_activation]
            x = layers.Activation(function, name=f"{name}.out")(x)
        return x

    def pool(self, tokens):
        config, width = self.config, self.config.hidden_size
        if config.pooling == "token":
            return self.token(tokens, 0, "pooling")
        prefix = config.num_prefix_tokens
        patches = Take(prefix, name="patch_tokens")(tokens) if prefix else tokens
        if config.pooling == "gap":
            return layers.GlobalAveragePooling1D(name="pooling")(patches)
        probe = Probe(name="pooling")(patches)
        x = self.attention(probe, patches, "pooling.attention", plain=True)
        y = self.mlp(self.norm(x, "pooling.norm"), "pooling.mlp")
        return layers.Reshape((width,), name="pooled")(
            self.add(x, y, None, "pooling.add")
        )

    def token(self, tokens, index, name):
        x = Take(index, index + 1, name=f"{name}.token")(tokens)
        return layers.Reshape((self.config.hidden_size,), name=f"{name}.vector")(x)

    def top(self, tokens):
        config = self.config
        x = self.pool(tokens)
        if config.fc_norm:
            x = self.norm(x, "fc_norm")
        if config.representation_size is not None:
            size = config.representation_size
            x = layers.Dense(size, activation="tanh", name="pre_logits")(x)
        if not config.include_top:
            return x
        x = layers.Dense(config.classes, name="head")(x)
        if config.distillation_token:
            other = self.token(tokens, 1, "distillation_pooling")
            other = layers.Dense(config.classes, name="head_dist")(other)
            x = layers.Average(name="head_average")([x, other])
        if config.activation == "linear":
            return x
        return layers.Activation(config.activation, name="predictions")(x)


@tf_keras.utils.register_keras_serializable("vit_keras")
def gelu_tanh(x):
    """Apply the GELU approximation that published JAX weights were trained with."""
    return tf.nn.gelu(x, approximate=True)


@tf_keras.utils.register_keras_serializable("vit_keras")
def quick_gelu(x):
    """Apply the GELU approximation of CLIP."""
    return x * tf.sigmoid(1.702 * x)


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": "relu",
    "silu": "swish",
    "tanh": "tanh",
}

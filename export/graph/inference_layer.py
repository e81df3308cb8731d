"""The inference graph of `Weights`: few operators, rank 4 at most, in float32."""

import keras
from keras import ops

from ..targets import GraphOptions
from .activations import PROBABILITIES, SIGNED, activate
from .vit_weights import Attention, Linear, Norm, Weights
from .weight_tree import map_arrays


@keras.saving.register_keras_serializable(package="vit_keras_export")
class InferenceViT(keras.layers.Layer):
    """A layer that computes the model of a `Weights`, written for a target.

    Arguments:
        weights: after its rewrites.
        options: how the graph is written.
        trainable: whether the weights can be trained.
        frozen: paths of weights that cannot, such as "positions".
        keep: keep `weights` beside the variables, for `update`; else they are freed.

    Call arguments:
        images: float32 (N, H, W, C).

    Returns:
        The output of the model that the weights come from, or a list of the readers'.

    Subclasses override `activation` (every tensor with its own scale in an integer
    file), `operand` and `result` (inputs and outputs of linear layers), and
    `graph_weights` (all weights).
    """

    def __init__(
        self,
        weights: Weights,
        options: GraphOptions | None = None,
        trainable=False,
        frozen=(),
        keep=True,
        **kwargs,
    ):
        super().__init__(trainable=trainable, dtype="float32", **kwargs)
        self.frozen = frozen
        self.options = options or GraphOptions()
        self.seen = None  # a list: attention appends queries, keys and values to it
        self.visit = None  # a function, called with each linear layer and its input
        self.source_weights = weights if keep else None
        self._variables = map_arrays(weights, self._variable_of, consume=not keep)

    def _variable_of(self, path, array):
        # One variable per array, so that every format stores it once.
        return self.add_weight(
            shape=array.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(array, dtype),
            trainable=path not in self.frozen,
        )

    def update(self):
        """Copy changed `source_weights` into the variables."""
        arrays, variables = [], []
        map_arrays(self.source_weights, lambda _, array: arrays.append(array))
        map_arrays(self._variables, lambda _, variable: variables.append(variable))
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array.astype("float32"))

    def activation(self, x, fixed=None):
        """Return a tensor of the graph unchanged; hook for subclasses.

        Arguments:
            x: the tensor.
            fixed: the (min, max) of int8 kernels that do not take the range from the
                values.
        """
        return x

    def operand(self, x):
        """Return the input of a linear layer unchanged; hook for subclasses."""
        return x

    def result(self, x):
        """Return the output of a linear layer, as an activation."""
        return self.activation(x)

    def rsqrt(self, x):
        """Return `1 / sqrt(x)`, x > 0."""
        return ops.rsqrt(x)

    def graph_weights(self) -> Weights:
        """Return the weights to compute with, as variables or tensors."""
        return self._variables

    def call(self, images, training=None, mask=None):
        # `training` and `mask` are passed by a model around a replaced ViT.
        w = self.graph_weights()
        with keras.name_scope("embedding"):
            x = self._embed(self.activation(images), w)
        if w.pre_norm is not None:
            x = self.norm(x, w.pre_norm)
        streams = []
        for index, block in enumerate(w.blocks):
            last = index == len(w.blocks) - 1
            if w.queries is not None and w.queries.before == index:
                x = self._prepended(w.queries.tokens, x)
            # Scopes become tensor names of the file, which error reports show.
            with keras.name_scope(f"encoderblock_{index}"):
                x = self._block(x, block, w.tokens_read if last else None)
            streams.append(x)
        with keras.name_scope("taps" if w.readers else "top"):
            return self._taps(streams, w) if w.readers else self._top(x, w)

    def _embed(self, images, w):
        config, a = w.config, self.activation
        if w.scale is not None:
            images = a(a(images * w.scale) + w.offset)
        (rows, columns), (height, width) = config.grid, config.patch_size
        count, inner = rows * columns, config.hidden_size
        if w.patch_norms is not None:
            before, after = w.patch_norms
            patches = ops.image.extract_patches(
                images, config.patch_size, data_format="channels_last"
            )
            x = ops.reshape(patches, (-1, count, w.embedding.kernel.shape[0]))
            x = self.norm(self.linear(self.norm(x, before), w.embedding), after)
        else:
            images, channels = self.operand(images), config.channels
            if self.visit is not None:
                self.visit(w.embedding, images)
            if self.options.columns_as_channels:
                width, channels = 1, width * channels
                images = ops.reshape(images, (-1, rows * height, columns, channels))
            kernel = ops.reshape(w.embedding.kernel, (height, width, channels, inner))
            x = ops.conv(images, kernel, (height, width), "valid", "channels_last")
            # Before the reshape, so that it is fused as the convolution's bias.
            x = ops.reshape(self.result(x + w.embedding.bias), (-1, count, inner))
        x = a(x + w.positions)
        return self._prepended(w.prefix, x) if w.prefix.shape[0] else x

    def _prepended(self, tokens, x):
        tokens = ops.broadcast_to(tokens[None], (ops.shape(x)[0], *tokens.shape))
        return self.activation(ops.concatenate([tokens, x], axis=1))

    def _block(self, x, block, tokens=None):
        """Compute one block, with `tokens` only for this many first tokens."""
        a, normed = self.activation, self.norm(x, block.norm1)
        query = normed
        if tokens is not None and tokens < x.shape[1]:
            query, x = normed[:, :tokens], x[:, :tokens]
        with keras.name_scope("attention"):
            y = self._attention(query, normed, block.attention)
        x = a(x + (y if block.scale1 is None else a(y * block.scale1)))
        normed = self.norm(x, block.norm2)
        with keras.name_scope("mlp"):
            y = self._mlp(normed, block.dense1, block.dense2, block.activation)
            if block.out_activation is not None:
                y = activate(block.out_activation, y, a, self.options.gelu)
        return a(x + (y if block.scale2 is None else a(y * block.scale2)))

    def _attention(self, query, source, attention: Attention):
        projections = (
            (query, attention.query, attention.query_norm),
            (source, attention.key, attention.key_norm),
            (source, attention.value, None),
        )
        if self.options.heads_apart and self.seen is None:
            parts = []
            for columns in attention.columns():
                q, k, v = (self._head(*row, columns) for row in projections)
                parts.append(self._products(q, k, v, attention.scale))
            y = self.activation(ops.concatenate(parts, axis=-1))
            return self.linear(y, attention.out)

        q, k, v = (self._heads(*row, attention) for row in projections)
        y = ops.transpose(self._products(q, k, v, attention.scale), (0, 2, 1, 3))
        inner = attention.heads * attention.head_dim
        y = ops.reshape(y, (-1, query.shape[1], inner))
        return self.linear(y, attention.out)

    def _heads(self, x, linear, own_norm, attention):
        """Return all heads' queries, keys or values (N, H, T, d)."""
        x = self.linear(x, linear)
        x = ops.reshape(x, (-1, x.shape[1], attention.heads, attention.head_dim))
        x = x if own_norm is None else self.norm(x, own_norm)
        if self.seen is not None:
            self.seen.append(x)
        return ops.transpose(x, (0, 2, 1, 3))

    def _head(self, x, linear, own_norm, columns):
        """Return one head's queries, keys or values (N, T, d)."""
        x = self.linear(x, Linear(linear.kernel[:, columns], linear.bias[columns]))
        return x if own_norm is None else self.norm(x, own_norm)

    def _products(self, q, k, v, scale):
        """Compute attention of q (..., Q, d) over k and v (..., T, d)."""
        a = self.activation
        if scale != 1.0:
            q = a(q * scale)
        if self.options.keys_as_rows:
            import tensorflow as tf  # `keras.ops.matmul` has no transpose argument

            scores = a(tf.matmul(q, k, transpose_b=True))
        else:
            scores = a(ops.matmul(q, ops.swapaxes(k, -1, -2)))
        if not self.options.split_softmax:
            return a(ops.matmul(a(ops.softmax(scores, -1), PROBABILITIES), v))
        top = ops.max(scores, axis=-1, keepdims=True)
        shares = a(ops.exp(a(scores - top)))
        root = a(self.rsqrt(a(ops.sum(shares, axis=-1, keepdims=True))))
        return a(a(ops.matmul(a(shares * root), v)) * root)

    def _mlp(self, x, dense1, dense2, activation):
        x = self.linear(x, dense1)
        x = activate(activation, x, self.activation, self.options.gelu)
        return self.linear(x, dense2)

    def norm(self, x, n: Norm):
        """Apply a layer norm or RMS norm over the last axis."""
        with keras.name_scope("norm"):
            return self._norm(x, n)

    def _norm(self, x, n):
        a = self.activation
        if n.centred:
            x = a(x - a(ops.mean(x, axis=-1, keepdims=True)))
        square = a(ops.mean(a(x * x), axis=-1, keepdims=True))
        root = a(self.rsqrt(a(square + n.epsilon)))
        if n.gamma_first:
            return a(a(a(x * n.gamma) * root) + n.beta)
        y = a(x * root)
        y = y if n.gamma is None else a(y * n.gamma)
        return y if n.beta is None else a(y + n.beta)

    def linear(self, x, dense: Linear):
        """Apply a linear layer: (..., I) to (..., O)."""
        x, kernel = self.operand(x), dense.kernel
        if self.visit is not None:
            self.visit(dense, x)
        (inner, outer), options = kernel.shape, self.options
        if len(x.shape) != 3 or not (options.convolutions or options.flat_tokens):
            return self.result(ops.matmul(x, kernel) + dense.bias)
        if options.flat_tokens:
            y = ops.matmul(ops.reshape(x, (-1, inner)), kernel)
        else:
            y = ops.conv(
                ops.reshape(x, (-1, x.shape[1], 1, inner)),
                ops.reshape(kernel, (1, 1, inner, outer)),
                data_format="channels_last",
            )
        return ops.reshape(self.result(y + dense.bias), (-1, x.shape[1], outer))

    def _taps(self, streams, w):
        """Return what the readers make of the tokens after each block."""
        tokens, outputs = {}, []
        for index, start, stop in w.tapped:
            x = streams[index][:, start:stop]
            x = x if w.norm is None else self.norm(x, w.norm)
            tokens[index, start, stop] = x
        for reader in w.readers:
            read = [tokens[i, reader.start, reader.stop] for i in reader.blocks]
            x = self.activation(ops.concatenate(read, -1)) if read[1:] else read[0]
            outputs.append(self.linear(x, reader.linear))
        return outputs

    def _top(self, x, w):
        config, a = w.config, self.activation
        pooled = w.task == "classify" and config.pooling is not None
        if w.norm is not None and not (config.fc_norm and pooled):
            x = self.norm(x, w.norm)
        if not pooled:
            return x if w.unrotate is None else self.linear(x, w.unrotate)
        tokens, width, prefix = x, config.hidden_size, config.num_prefix_tokens
        patches = tokens[:, prefix:] if prefix else tokens
        if config.pooling == "token":
            x = take(tokens, 0)
        elif config.pooling == "gap":
            x = a(ops.mean(patches, axis=1))
        else:
            probe, attention, inner, dense1, dense2, activation = w.pool
            probe = ops.broadcast_to(probe[None], (ops.shape(x)[0], 1, width))
            x = self._attention(probe, patches, attention)
            x = a(x + self._mlp(self.norm(x, inner), dense1, dense2, activation))
            x = ops.reshape(x, (-1, width))
        if config.fc_norm and w.norm is not None:
            x = self.norm(x, w.norm)
        if w.unrotate is not None:
            x = self.linear(x, w.unrotate)
        if w.pre_logits is not None:
            x = a(ops.tanh(self.linear(x, w.pre_logits)), SIGNED)
        if not w.heads:
            return x
        x = self.linear(x, w.heads[0])
        if len(w.heads) > 1:
            x = a(a(x + self.linear(take(tokens, 1), w.heads[1])) * 0.5)
        return keras.activations.get(config.activation)(x)


def take(x, index):
    """Return one token (N, D), sliced: GPU delegates refuse to drop an axis."""
    return ops.reshape(x[:, index : index + 1], (-1, x.shape[-1]))

"""The blocks of the inference graph: norms, linear layers, attention, MLP."""

import keras
from keras import ops

from vit_keras.layers.tome import match_tokens, merge_tokens

from ..targets import GraphOptions
from .activations import PROBABILITIES, activate
from .vit_weights import Attention, Linear, Norm


class InferenceBlocks(keras.layers.Layer):
    """What `InferenceViT` computes between embedding and head.

    Arguments:
        options: how the graph is written.

    Subclasses override `activation` (every tensor with its own scale in an integer
    file), `operand` and `result` (inputs and outputs of linear layers), and `note`.
    """

    def __init__(self, options: GraphOptions | None = None, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.options = options or GraphOptions()
        self.seen = None  # a list: attention appends queries, keys and values to it
        self.squares = None  # a list: norms append themselves and their largest sum
        self.rotation = None  # rotary positions of the blocks
        self.prefix = 0  # tokens before the patches
        self.sizes = None  # (N, T, 1), of tokens that stand for several patches
        self.keys = None  # of the last attention: (N, H, T, d), or a list of heads'
        self.visit = None  # a function, called with each linear layer and its input

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

    def note(self, name, *tensors):
        """Do nothing with tensors inside; hook for subclasses with more outputs."""

    def _block(self, x, block, tokens=None):
        """Compute one block, with `tokens` only for this many first tokens."""
        a, post = self.activation, block.post_norm
        query = normed = x if post else self.norm(x, block.norm1)
        if tokens is not None and tokens < x.shape[1]:
            query, x = normed[:, :tokens], x[:, :tokens]
        with keras.name_scope("attention"):
            y = self._attention(query, normed, block.attention, self.rotation)
        y = self.norm(y, block.norm1) if post else y
        x = a(x + (y if block.scale1 is None else a(y * block.scale1)))
        if block.merged and tokens is None:
            with keras.name_scope("tome"):
                x = self._fewer(x, block.merged)
        normed = x if post else self.norm(x, block.norm2)
        with keras.name_scope("mlp"):
            parts = block.dense1, block.dense2, block.activation
            y = self._mlp(normed, *parts, block.gate, block.inner_norm)
            if block.out_activation is not None:
                y = activate(block.out_activation, y, a, self.options.gelu)
        y = self.norm(y, block.norm2) if post else y
        return a(x + (y if block.scale2 is None else a(y * block.scale2)))

    def _fewer(self, x, merged):
        """Merge tokens with similar keys, as `ToMeBlock` does."""
        if isinstance(self.keys, list):
            keys = sum(self.keys[1:], self.keys[0]) / len(self.keys)
        else:
            keys = ops.mean(self.keys, axis=1)
        import tensorflow as tf  # as in `_products`: one operator

        match = match_tokens(keys, merged, self.prefix, tf.argmax)
        x, self.sizes = merge_tokens(x, self.sizes, match, self.prefix)
        return x

    def _attention(self, query, source, attention: Attention, rotation=None):
        projections = (
            (query, attention.query, attention.query_norm),
            (source, attention.key, attention.key_norm),
            (source, attention.value, None),
        )
        if self.options.heads_apart and self.seen is None:
            parts, self.keys = [], []
            for columns in attention.columns():
                q, k, v = (self._head(*row, columns) for row in projections)
                q, k = self._turned(q, rotation), self._turned(k, rotation)
                self.keys.append(k)
                parts.append(self._products(q, k, v, attention.scale))
            return self._out(self.activation(ops.concatenate(parts, -1)), attention)

        q, k, v = (self._heads(*row, attention) for row in projections)
        q, k = self._turned(q, rotation), self._turned(k, rotation)
        self.keys = k
        return self._beside(self._products(q, k, v, attention.scale), attention)

    def _pooled(self, source, attention):
        """Return attention (N, 1, D) of a constant query, by its scores of tokens."""
        scores, heads = self.linear(source, attention.scores), attention.heads
        tokens = source.shape[1]
        rows = self.options.split_softmax and self.options.transposed_scores
        if not self.options.heads_apart:
            shape = (tokens, 1) if rows else (1, tokens)
            scores = ops.transpose(scores, (0, 2, 1))
            scores = ops.reshape(scores, (-1, heads, *shape))
            v = self.linear(source, attention.value)
            v = ops.reshape(v, (-1, tokens, heads, attention.head_dim))
            y = self._weighted(scores, ops.transpose(v, (0, 2, 1, 3)))
            return self._beside(y, attention)
        parts = []
        for head, columns in enumerate(attention.columns()):
            own = scores[..., head : head + 1]
            own = own if rows else ops.reshape(own, (-1, 1, tokens))
            v = self._head(source, attention.value, None, columns)
            parts.append(self._weighted(own, v))
        return self._out(self.activation(ops.concatenate(parts, -1)), attention)

    def _beside(self, y, attention):
        """Return the output of attention, of the heads' (N, H, Q, d)."""
        y, inner = ops.transpose(y, (0, 2, 1, 3)), attention.heads * attention.head_dim
        return self._out(ops.reshape(y, (-1, y.shape[1], inner)), attention)

    def _out(self, y, attention):
        if attention.inner_norm is not None:
            y = self.norm(y, attention.inner_norm)
        return self.linear(y, attention.out)

    def _turned(self, x, rotation):
        """Return queries or keys (..., T, d), or of the first tokens, turned."""
        a, tokens, half = self.activation, x.shape[-2], x.shape[-1] // 2
        if rotation is None or tokens <= rotation.unturned:
            return x
        # Signs are in the sines: a negation would be one more operator.
        swapped = a(ops.concatenate([x[..., half:], x[..., :half]], axis=-1))
        turned = a(x * rotation.cosines[:tokens])
        return a(turned + a(swapped * rotation.sines[:tokens]))

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
        if self.options.split_softmax and self.options.transposed_scores:
            return self._weighted(a(ops.matmul(k, ops.swapaxes(q, -1, -2))), v)
        if self.options.keys_as_rows:
            import tensorflow as tf  # `keras.ops.matmul` has no transpose argument

            scores = a(tf.matmul(q, k, transpose_b=True))
        else:
            scores = a(ops.matmul(q, ops.swapaxes(k, -1, -2)))
        if self.sizes is not None:
            counts = ops.log(ops.swapaxes(self.sizes, 1, 2))
            scores = scores + (counts[:, None] if len(scores.shape) == 4 else counts)
        return self._weighted(scores, v)

    def _weighted(self, scores, v):
        """Return means of values (..., T, d) by scores (..., Q, T), or (..., T, Q)."""
        a = self.activation
        if self.options.split_softmax and self.options.transposed_scores:
            v = ops.swapaxes(v, -1, -2)
            shares, root = self._split_softmax(scores, -2)
            self.note("shares", *(ops.swapaxes(x, -1, -2) for x in (shares, root)))
            return ops.swapaxes(a(a(ops.matmul(v, shares)) * root), -1, -2)
        if not self.options.split_softmax:
            shares = a(ops.softmax(scores, -1), PROBABILITIES)
            self.note("shares", shares)
            return a(ops.matmul(shares, v))
        shares, root = self._split_softmax(scores, -1)
        self.note("shares", shares, root)
        return a(a(ops.matmul(shares, v)) * root)

    def _split_softmax(self, scores, axis):
        """Return `e / sqrt(s)` and `1 / sqrt(s)` of the split softmax over an axis."""
        a = self.activation
        top = ops.max(scores, axis=axis, keepdims=True)
        shares = a(ops.exp(a(scores - top)))
        root = a(self.rsqrt(self._sum(shares, axis)))
        return a(shares * root), root

    def _mlp(self, x, dense1, dense2, activation, gate=None, inner_norm=None):
        y = self.linear(x, dense1 if gate is None else gate)
        y = activate(activation, y, self.activation, self.options.gelu)
        y = y if gate is None else self.activation(y * self.linear(x, dense1))
        y = y if inner_norm is None else self.norm(y, inner_norm)
        return self.linear(y, dense2)

    def norm(self, x, n: Norm):
        """Apply a layer norm or RMS norm over the last axis."""
        with keras.name_scope("norm"):
            return self._norm(x, n)

    def _norm(self, x, n):
        a = self.activation
        if n.centred:
            x = a(x - self._mean_over_channels(x))
        if self.squares is not None:
            self.squares.append((n, ops.max(ops.sum(x * x, axis=-1))))
        square = self._mean_over_channels(a(x * x))
        root = a(self.rsqrt(a(square + n.epsilon)))
        if n.gamma_first:
            return a(a(a(x * n.gamma) * root) + n.beta)
        y = a(x * root)
        y = y if n.gamma is None else a(y * n.gamma)
        return y if n.beta is None else a(y + n.beta)

    def _mean_over_channels(self, x):
        a = self.activation
        if not self.options.vela_reductions:
            return a(ops.mean(x, axis=-1, keepdims=True))
        return a(a(ops.sum(x, axis=-1, keepdims=True)) * (1 / x.shape[-1]))

    def _sum(self, x, axis):
        a = self.activation
        if axis == -1 or not self.options.vela_reductions:
            return a(ops.sum(x, axis=axis, keepdims=True))
        return a(a(ops.mean(x, axis=axis, keepdims=True)) * float(x.shape[axis]))

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

"""`NamedViT`: the inference graph with what is inside a ViT as further outputs."""

import keras
import numpy as np
from keras import ops

from .inference_layer import InferenceViT
from .named_outputs import ATTENTION, FEATURES, POOLED
from .vit_weights import Linear, Weights


@keras.saving.register_keras_serializable(package="vit_keras_export")
class NamedViT(InferenceViT):
    """An `InferenceViT` that gives {name: output}.

    The outputs beside the model's own are small: attention is that of the last block,
    whose scores for the tokens that the pooling reads are computed anyhow. A target
    without EXP in int8 has a softmax in steps of 1/256, which rounds it: of 257 tokens
    to a correlation of 0.98.

    Arguments:
        weights, options, and others: of `InferenceViT`.
        names: of the outputs, of `named_outputs.names_inside`.

    Call arguments:
        images: float32 (N, H, W, C).

    Returns:
        {name: float32 (N, ...)}.
    """

    def __init__(self, weights: Weights, *args, names: tuple[str, ...], **kwargs):
        super().__init__(weights, *args, **kwargs)
        self.names, self._config = names, weights.config
        self._is_pooled = not weights.heads  # what the model itself gives
        self._shares, self._found = [], {}

    def call(self, images, training=None, mask=None):
        own = super().call(images)
        found, self._found = self._found, {}
        if ATTENTION in self.names:
            with keras.name_scope("attention_map"):
                found[ATTENTION] = self._attention_map(self._shares)
        self._shares = []
        return {name: found.get(name, own) for name in self.names}

    def _block(self, x, block, tokens=None):
        self._shares = []  # those of the last block stay
        if FEATURES in self.names:
            tokens = None
        elif tokens is not None and ATTENTION in self.names:
            tokens = max(tokens, self._rows().stop)
        return super()._block(x, block, tokens)

    def note(self, name, *tensors):
        """Keep what becomes an output, and the shares of attention, perhaps with what
        they are still to be multiplied by."""
        if name == "shares":
            self._shares.append(tensors)
        elif name in self.names and not (name == POOLED and self._is_pooled):
            (x,), w = tensors, self.graph_weights()
            parts = w.pool, w.pre_logits, w.unrotate
            behind = any(part is not None for part in parts)
            if w.inside is not None and not (name == POOLED and behind):
                x = self.linear(x, w.inside)
            self._found[name] = x

    def _rows(self) -> slice:
        """The tokens whose attention is shown, as `attention_map` takes them."""
        config = self._config
        if config.pooling != "map" and config.distillation_token:
            return slice(0, 2)
        if config.pooling == "token":
            return slice(0, 1)
        return slice(0 if config.pool_prefix else config.num_prefix_tokens, None)

    def _attention_map(self, shares):
        """(N, rows, columns), which sum to 1; see `vit_keras.attention_map`.

        Arguments:
            shares: what `note` got of the last block, and behind it of attention
                pooling: of all heads (N, H, Q, T), or of each (N, Q, T).
        """
        config, a = self._config, self.activation
        prefix, tokens = config.num_prefix_tokens, shares[0][0].shape[-1]
        if config.pooling == "map":
            half = len(shares) // 2
            block = self._mean_of_heads(shares[:half], self._rows())
            pool = self._mean_of_heads(shares[half:], slice(None))
            row = a(ops.matmul(pool, block))
        else:
            row = self._mean_of_heads(shares, self._rows(), of_rows=True)
        patches = ops.reshape(row, (-1, tokens))[:, prefix:]
        if prefix:  # the rest of the attention goes to these tokens
            root = a(self.rsqrt(a(ops.sum(patches, axis=-1, keepdims=True))))
            patches = a(a(patches * root) * root)
        return ops.reshape(patches, (-1, *config.grid))

    def _mean_of_heads(self, shares, rows, of_rows=False):
        """The mean over heads (N, Q, T), or over heads and rows (N, 1, T)."""
        a, found = self.activation, []
        for part in shares:
            part = [x[..., rows, :] if _takes_some(rows, x) else x for x in part]
            x = part[0] if len(part) == 1 else a(part[0] * part[1])
            if of_rows and x.shape[-2] > 1:
                x = a(ops.mean(x, axis=-2, keepdims=True))
            found.append(x if len(x.shape) == 4 else ops.expand_dims(x, 1))
        x = found[0] if len(found) == 1 else a(ops.concatenate(found, axis=1))
        return x if x.shape[1] == 1 else a(ops.mean(x, axis=1))


def _takes_some(rows, x):
    return len(range(*rows.indices(x.shape[-2]))) < x.shape[-2]


def with_inside(weights: Weights, names: tuple[str, ...]) -> Weights:
    """The weights, ready to give tokens after the last norm beside other outputs.

    The rewrites fold gamma and beta and undo the rotation in a linear layer."""
    if {FEATURES, POOLED} & set(names):
        width = weights.config.hidden_size
        weights.inside = Linear(np.eye(width), np.zeros(width))
    return weights

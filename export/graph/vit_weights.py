"""A Vision Transformer as plain arrays, for rewrites and the inference graph.

Letters: T tokens, P of them patches, D width, H heads, d width of a head, M MLP width.
The residual stream is written to by `embedding`, `prefix`, `positions` and each block's
`out` and `dense2`, and read through a norm by the others. An exact rewrite is a change
of these arrays.
"""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass
class Linear:
    """`x @ kernel + bias`: kernel (I, O), bias (O,).

    Kernels, nearly all of a model's memory, stay in float32, as trained. All other
    arrays are float64, so that products with them are computed in float64.
    """

    kernel: np.ndarray
    bias: np.ndarray

    def __setattr__(self, name, value):
        if name == "kernel" and isinstance(value, np.ndarray):
            value = value.astype("float32", copy=False)
        super().__setattr__(name, value)

    @classmethod
    def of(cls, dense) -> "Linear":
        """Read a Keras Dense layer; a missing bias is zero."""
        kernel = np.asarray(dense.kernel, "float32")
        bias = np.zeros(kernel.shape[-1])
        return cls(kernel, bias if dense.bias is None else as_float64(dense.bias))


@dataclasses.dataclass
class Norm:
    """Layer norm: gamma and beta (D,), or None once they are folded into the readers.

    `centred` says whether the mean is subtracted; if not, this is an RMS norm. With
    `gamma_first` gamma multiplies before the root: the converter, which folds a factor
    into the next kernel, then has none to fold.
    """

    gamma: Any
    beta: Any
    epsilon: float
    centred: bool = True
    gamma_first: bool = False

    @classmethod
    def of(cls, layer) -> "Norm":
        """Read a LayerNormalization of this package."""
        return cls(as_float64(layer.gamma), as_float64(layer.beta), layer.epsilon)


@dataclasses.dataclass
class Attention:
    """`query`, `key`, `value` (D, H*d), `out` (H*d, D); `scale` of the scores.

    A constant query, as that of attention pooling, may have `scores` (D, H) instead of
    `query` and `key`, which are None then.
    """

    query: Any
    key: Any
    value: Linear
    out: Linear
    heads: int
    scale: float
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    inner_norm: Norm | None = None
    scores: Linear | None = None

    @classmethod
    def of(cls, layer) -> "Attention":
        """Read a MultiHeadAttention of this package.

        Channels that rotary positions turn together are put into the two halves of each
        head, of queries and keys alike, so that their products stay the same."""
        query, key = Linear.of(layer.query), Linear.of(layer.key)
        norms = [None, None]
        if layer.qk_norm:
            norms = [Norm.of(layer.query_norm), Norm.of(layer.key_norm)]
        if layer.rotary_embedding is not None:
            order = layer.rotary_embedding.order(len(query.bias) // layer.num_heads)
            for linear in (query, key):
                for name in ("kernel", "bias"):
                    array = getattr(linear, name)
                    heads = array.reshape(*array.shape[:-1], layer.num_heads, -1)
                    setattr(linear, name, heads[..., order].reshape(array.shape))
            for norm in filter(None, norms):
                norm.gamma, norm.beta = norm.gamma[order], norm.beta[order]
        return cls(
            query=query,
            key=key,
            value=Linear.of(layer.value),
            out=Linear.of(layer.out),
            heads=layer.num_heads,
            scale=(query.kernel.shape[1] // layer.num_heads) ** -0.5,
            query_norm=norms[0],
            key_norm=norms[1],
            inner_norm=_norm_or_none(layer.inner_norm),
        )

    @property
    def head_dim(self) -> int:
        """Width d of a head."""
        return self.value.kernel.shape[1] // self.heads

    def columns(self) -> list[slice]:
        """Return each head's columns in the outputs of query, key and value."""
        size = self.head_dim
        return [slice(i * size, (i + 1) * size) for i in range(self.heads)]


@dataclasses.dataclass
class Block:
    """One encoder block; `scale1` and `scale2` (D,) are LayerScale, None if folded.

    `activation` and, of what the MLP gives, `out_activation` are of `ACTIVATIONS`. That
    of a `gate` (D, M) multiplies what `dense1` gives. `post_norm` puts the norms behind
    attention and MLP. `merged` tokens join similar ones between both (ToMe).
    """

    norm1: Norm
    attention: Attention
    scale1: np.ndarray | None
    norm2: Norm
    dense1: Linear
    dense2: Linear
    scale2: np.ndarray | None
    activation: str
    out_activation: str | None = None
    gate: Linear | None = None
    inner_norm: Norm | None = None
    post_norm: bool = False
    merged: int = 0

    @classmethod
    def of(cls, layer) -> "Block":
        """Read an EncoderBlock."""
        scales = (layer.layer_scale1, layer.layer_scale2)
        scale1, scale2 = (None if s is None else as_float64(s.gamma) for s in scales)
        return cls(
            *(Norm.of(layer.norm1), Attention.of(layer.attention), scale1),
            *(Norm.of(layer.norm2), Linear.of(layer.mlp.dense1)),
            *(Linear.of(layer.mlp.dense2), scale2, layer.mlp.activation),
            layer.mlp.out_activation,
            gate=None if layer.mlp.gate is None else Linear.of(layer.mlp.gate),
            inner_norm=_norm_or_none(layer.mlp.inner_norm),
            post_norm=layer.post_norm,
            merged=getattr(layer, "merged", 0),
        )


@dataclasses.dataclass
class Reader:
    """A linear layer that reads the tokens of some blocks.

    Attributes:
        blocks: n indices of blocks, whose tokens lie side by side.
        start, stop: the tokens that it reads, as of a slice.
        linear: kernel (n * D, O).
    """

    blocks: tuple[int, ...]
    start: int
    stop: int | None
    linear: Linear


@dataclasses.dataclass
class Rotation:
    """Rotary positions: `x * cosines + halves swapped x * sines`, both (T, d); of the
    first tokens, before the patches, cosines are 1 and sines 0."""

    cosines: np.ndarray
    sines: np.ndarray
    unturned: int


@dataclasses.dataclass
class Queries:
    """Tokens (Q, D) that are put in front of the others before a block."""

    before: int
    tokens: np.ndarray


@dataclasses.dataclass
class Merge:
    """A linear layer from k x k neighbours of the patches to one token.

    Attributes:
        before: index of the block that it stands before.
        grid: (rows, columns) of the patches that it reads.
        factor: k.
        linear: kernel (k * k * D, D), of the neighbours row by row.
    """

    before: int
    grid: tuple[int, int]
    factor: int
    linear: Linear

    def turned(self, rotation: np.ndarray) -> np.ndarray:
        """Return the kernel of a stream that is turned, which it reads and writes.

        Arguments:
            rotation: (D, D), orthogonal.
        """
        parts = self.linear.kernel.reshape(-1, *rotation.shape)
        return (rotation.T @ parts @ rotation).reshape(self.linear.kernel.shape)


@dataclasses.dataclass
class Weights:
    """All weights of a model.

    Attributes:
        config: its `ViTConfig`.
        task: "classify" or "features"; "taps" for what the readers give.
        scale, offset: (C,), normalisation of the input, or None once they are folded.
        embedding: projection of a flattened patch (p*q*C, D).
        patch_norms: norms before and after it, or None.
        prefix: (T - P, D), tokens before the patches, with their positions.
        positions: (P, D), or None.
        pre_norm: norm before the first block, or None.
        blocks: the encoder blocks.
        norm: the last norm, of all tokens or (`fc_norm`) of the pooled vector; None for
            features without. The readers' tokens of each block pass it, too.
        pool: the AttentionPooling as (probe (1, D), attention, norm, dense1, dense2,
            activation), or None.
        unrotate: (D, D) and (D,) after the last norm, which undo the rotation of the
            stream where no linear layer follows; or None.
        pre_logits: hidden layer of the head, or None.
        heads: `head`, with a distillation token also `head_dist`.
        inside: (D, D) and (D,), what `unrotate` is for tokens after the last norm that
            are an output beside others; or None.
        readers: the first layers of a decoder.
        queries: those of a decoder, or None.
        rotation: of queries and keys in the blocks, or None.
        unit: norm of the vector that the head reads, up to a factor; or None.
        merges: of tokens between blocks.
    """

    config: Any
    task: str
    scale: np.ndarray | None
    offset: np.ndarray | None
    embedding: Linear
    patch_norms: tuple[Norm, Norm] | None
    prefix: np.ndarray
    positions: Any
    pre_norm: Norm | None
    blocks: list[Block]
    norm: Norm | None
    pool: Any
    unrotate: Linear | None
    pre_logits: Linear | None
    heads: list[Linear]
    inside: Linear | None = None
    readers: list[Reader] = dataclasses.field(default_factory=list)
    queries: Queries | None = None
    rotation: Rotation | None = None
    unit: Norm | None = None
    merges: list[Merge] = dataclasses.field(default_factory=list)

    @property
    def tapped(self) -> list[tuple[int, int, int | None]]:
        """Each (block, start, stop) that a reader reads, in order, once."""
        found = ((i, r.start, r.stop) for r in self.readers for i in r.blocks)
        return list(dict.fromkeys(found))

    @property
    def tokens_read(self) -> int | None:
        """How many first tokens of the last block the head reads; None for all."""
        if self.task != "classify" or self.config.pooling != "token":
            return None
        return 1 + (len(self.heads) > 1)

    @property
    def centred(self) -> bool:
        """Whether any norm that reads the residual stream subtracts its mean."""
        norms = [self.norm, *(n for b in self.blocks for n in (b.norm1, b.norm2))]
        return any(n is not None and n.centred for n in norms)


def _norm_or_none(layer):
    return None if layer is None else Norm.of(layer)


def as_float64(variable) -> np.ndarray:
    """Return a variable as a float64 array."""
    return np.asarray(variable, "float64")

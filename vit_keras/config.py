"""`ViTConfig`: the architecture as data.

Needs no Keras: a configuration can be read, changed and stored anywhere.
"""

import dataclasses
import difflib
from typing import Any

from .config_checks import DECODERS as DECODERS
from .config_checks import as_pair as as_pair
from .config_checks import check_config
from .decoder_sizes import decoder_sizes
from .heads import HEADS
from .preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """The settings that determine a Vision Transformer's graph and weights.

    The names follow the ViT paper (arXiv 2010.11929) and `keras.applications`.

    Arguments:
        image_size: input height and width in pixels; an int means a square.
        patch_size: patch height and width in pixels; must divide `image_size`.
        channels: colour channels of the input.
        num_layers: number of encoder blocks, L.
        hidden_size: width of a token, D.
        num_heads: attention heads, H.
        mlp_dim: hidden width of the MLP.
        head_dim: width of one head, d; None means `hidden_size // num_heads`.
        mlp_activation: "gelu" (exact, erf) or "gelu_tanh", published weights differ;
            or "quick_gelu" (CLIP), "relu", "silu", "tanh".
        mlp_gated: whether the activation is that of a second layer, by which the first
            one's output is multiplied; with "silu" SwiGLU (arXiv 2002.05202).
        mlp_norm, attention_norm: layer norm before the last layer of the MLP, and of
            attention (EVA-02, arXiv 2303.11331).
        mlp_out_activation: one more behind the second MLP layer, as in the ViT tutorial
            of keras.io; None for none.
        qkv_bias: whether query, key and value have a bias.
        key_bias: whether keys have a bias, if queries and values have.
        qk_norm: layer norm on queries and keys (arXiv 2302.05442).
        post_norm: whether each block's norms come behind attention and MLP, before the
            sums (arXiv 2111.09883, section 3.2).
        pre_norm: layer norm on the tokens before the first block (CLIP, arXiv
            2103.00020).
        fc_norm: layer norm on the pooled vector instead of on the tokens after the last
            block (MAE, arXiv 2111.06377).
        norm_epsilon: added to the variance in every layer norm.
        layer_scale_init_value: initial value of LayerScale (arXiv 2103.17239), or None
            for no LayerScale.
        dropout: rate after positions, attention output and both MLP layers.
        attention_dropout: rate on the attention weights.
        drop_path_rate: stochastic depth (arXiv 1603.09382) of the last block; it rises
            linearly from 0 at the first.
        class_token: prepend a class token; None means only if it is used
            (`pooling="token"`).
        distillation_token: second token with its own head (DeiT, arXiv 2012.12877);
            the output is the mean of both heads' logits.
        num_register_tokens: extra tokens that no layer reads (arXiv 2309.16588), R.
        positions: "learned" 1-D, fixed "sincos2d" (arXiv 2205.01580) or "none".
        rotary: convention of rotary positions on queries and keys, a name in
            `rotary_positions.ROTARY` ("dinov3", "eva02", "rope_vit", "pe"), or None.
        rotary_temperature: of their frequencies; None for the convention's.
        rotary_grid: (rows, columns) to which the patches' indices are rescaled, as a
            model trained with this grid expects; None for none.
        position_prefix: whether the prefix tokens get position embeddings too.
        patch_norm: layer norm on the flattened patch before its projection and on
            the token after it, as lucidrains/vit-pytorch has.
        token_merging: ((blocks, k), ...): behind so many blocks, 0 to L - 1, each k x k
            neighbours of the patch grid become one token by a linear layer, see
            `layers.TokenMerging`. k is 2, or more if it divides the grid. Features and
            outputs at each pixel keep the grid: merged tokens are repeated.
        tome: r of each block, how many tokens it merges with similar ones (ToMe, arXiv
            2210.09461), see `layers.ToMeBlock`; () for none. Of classifiers alone.
        pooling: "token" (class token), "gap" (mean of the patch tokens), "map"
            (attention pooling of the patch tokens, arXiv 2106.04560), "max" (largest
            of the patch tokens in each channel) or None (all tokens).
        pool_heads: heads of "map"; None for `num_heads`.
        pool_prefix: whether "map" reads the tokens before the patches too.
        representation_size: width of a layer before the head, or None.
        representation_activation: of this layer, "tanh" or "linear"; CLIP's projection
            is linear, without bias, which here is zero.
        unit_norm: whether the vector that the head reads, or the model gives without
            one, is divided by its length.
        include_top: whether the model ends in the classification head.
        classes: outputs of the head, C.
        labels: names of the classes, labels or values, in the order of the outputs
            (two for head="sigmoid"), or None.
        head: what the outputs mean, a name in `HEADS`: "softmax" (C classes, one is
            right), "sigmoid" (two classes, C = 1), "multi_label" (C independent
            labels), "regression" (C values), "segmentation" (C classes at each pixel)
            or "depth" (C = 1, see `depth_type`).
        activation: what the head's layer applies, any Keras name that fits `head`;
            "linear" for logits, or values.
        decoder: from tokens to outputs at each pixel, a name in `DECODERS`; the
            files of `vit_keras.decoders` describe them.
        taps: blocks whose tokens the decoder, or the task "features", reads: their
            indices, or the number of blocks at equal distances, the last one included.
        tap_norm: whether these tokens pass the last layer norm, as in DINOv2.
        decoder_width: channels inside the decoder; None for its default.
        decoder_depth: steps or blocks of the decoder; None for its default.
        decoder_channels: of the maps of the four taps of "dpt", before their fusion;
            None for (D/8, D/4, D/2, D).
        decoder_queries: of "eomt", Q; None for 100.
        readout: what "dpt" does with the class token: "ignore" (also None) or "project"
            (with each patch through a layer).
        max_depth: by which a depth is multiplied behind `activation`, as that of
            "sigmoid" is a share of the largest one; None for no factor.
        depth_type: "metric" for distances; "inverse" for inverse distances up to a
            scale and a shift that differ from image to image (MiDaS, arXiv 1907.01341),
            as relative depth models give.
        preprocessing: conversion of photographs to the input.

    Raises:
        ValueError: a value or a combination is invalid.
    """

    # An int is accepted, hence `Any`; it is stored as a pair.
    image_size: tuple[int, int] | Any = 224
    patch_size: tuple[int, int] | Any = 16
    channels: int = 3
    num_layers: int = 12
    hidden_size: int = 192
    num_heads: int = 3
    mlp_dim: int = 768
    head_dim: int | None = None
    mlp_activation: str = "gelu"
    mlp_gated: bool = False
    mlp_norm: bool = False
    attention_norm: bool = False
    mlp_out_activation: str | None = None
    qkv_bias: bool = True
    key_bias: bool = True
    qk_norm: bool = False
    post_norm: bool = False
    pre_norm: bool = False
    fc_norm: bool = False
    norm_epsilon: float = 1e-6
    layer_scale_init_value: float | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path_rate: float = 0.0
    class_token: bool | None = None
    distillation_token: bool = False
    num_register_tokens: int = 0
    positions: str = "learned"
    rotary: str | None = None
    rotary_temperature: float | None = None
    rotary_grid: tuple[int, int] | Any = None
    position_prefix: bool = True
    patch_norm: bool = False
    token_merging: tuple[tuple[int, int], ...] | Any = ()
    tome: tuple[int, ...] | Any = ()
    pooling: str | None = "token"
    pool_heads: int | None = None
    pool_prefix: bool = False
    representation_size: int | None = None
    representation_activation: str = "tanh"
    unit_norm: bool = False
    include_top: bool = True
    classes: int = 1000
    labels: tuple[str, ...] | Any = None
    head: str = "softmax"
    activation: str = "linear"
    decoder: str = "linear"
    taps: int | tuple[int, ...] | Any = 1
    tap_norm: bool = True
    decoder_width: int | None = None
    decoder_depth: int | None = None
    decoder_channels: tuple[int, ...] | Any = None
    decoder_queries: int | None = None
    readout: str | None = None
    max_depth: float | None = None
    depth_type: str = "metric"
    preprocessing: Preprocessing = Preprocessing()

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("image_size", as_pair("image_size", self.image_size))
        put("patch_size", as_pair("patch_size", self.patch_size))
        if self.rotary_grid is not None:
            put("rotary_grid", as_pair("rotary_grid", self.rotary_grid))
        if isinstance(self.preprocessing, dict):
            put("preprocessing", Preprocessing(**self.preprocessing))
        if self.labels is not None:
            put("labels", tuple(self.labels))
        for name in ("taps", "decoder_channels", "tome"):
            if isinstance(getattr(self, name), list):  # from JSON
                put(name, tuple(getattr(self, name)))
        if isinstance(self.token_merging, (list, tuple)):
            pairs = (tuple(m) if isinstance(m, list) else m for m in self.token_merging)
            put("token_merging", tuple(pairs))
        if self.class_token is None:
            put("class_token", self.pooling == "token" or self.distillation_token)
        check_config(self)

    @property
    def tap_blocks(self) -> tuple[int, ...]:
        """Indices of the blocks that `taps` names."""
        if isinstance(self.taps, tuple):
            return self.taps
        return tuple(
            (i + 1) * self.num_layers // self.taps - 1 for i in range(self.taps)
        )

    @property
    def rotary_width(self) -> int:
        """Width of a head, d."""
        return self.head_dim or self.hidden_size // self.num_heads

    @property
    def first_with_queries(self) -> int | None:
        """Index of the first block that has the queries of "eomt" too, or None."""
        if self.decoder != "eomt":
            return None
        return self.num_layers - decoder_sizes(self).depth

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along (height, width)."""
        (height, width), (patch_h, patch_w) = self.image_size, self.patch_size
        return height // patch_h, width // patch_w

    @property
    def block_grids(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of the patch tokens in each block, which merging reduces."""
        merged, (rows, columns), grids = dict(self.token_merging), self.grid, []
        for index in range(self.num_layers):
            k = merged.get(index, 1)
            rows, columns = -(-rows // k), -(-columns // k)
            grids.append((rows, columns))
        return tuple(grids)

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: class, distillation, registers, in this order."""
        special = int(bool(self.class_token)) + int(self.distillation_token)
        return special + self.num_register_tokens

    @property
    def num_tokens(self) -> int:
        """Length of the token sequence before any merging, N."""
        return self.grid[0] * self.grid[1] + self.num_prefix_tokens

    @property
    def block_tokens(self) -> tuple[int, ...]:
        """Length of the token sequence that each block takes."""
        return tuple(
            h * w + self.num_prefix_tokens - sum(self.tome[:index])
            for index, (h, w) in enumerate(self.block_grids)
        )

    def replace(self, **changes: Any) -> "ViTConfig":
        """Return a copy with some fields changed; unknown names raise a ValueError.

        Another number of `classes` drops the `labels` of the old ones.
        """
        valid = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in valid:
                close = difflib.get_close_matches(name, valid, n=1)
                hint = f" Did you mean `{close[0]}`?" if close else ""
                raise ValueError(
                    f"`{name}` is not an argument of ViTConfig.{hint} "
                    f"Valid arguments: {', '.join(valid)}"
                )
        if "pooling" in changes and "class_token" not in changes:
            changes["class_token"] = None  # decided by the new pooling
        names = HEADS.get(changes.get("head", self.head), HEADS["softmax"]).names
        if names(changes.get("classes", self.classes)) != len(self.labels or ()):
            changes.setdefault("labels", None)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; `ViTConfig(**data)` is the inverse."""
        return dataclasses.asdict(self)

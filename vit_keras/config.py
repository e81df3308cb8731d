"""`ViTConfig`: the architecture as data.

Needs no Keras: a configuration can be read, changed and stored anywhere.
"""

import dataclasses
import difflib
from typing import Any

from .heads import HEADS, check_head
from .preprocessing import Preprocessing

POOLINGS = ("token", "gap", "map", None)
POSITIONS = ("learned", "sincos2d")
MLP_ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "tanh")


def as_pair(name, value) -> tuple[int, int]:
    """Return an int or a pair of ints as a (height, width) tuple."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(type(v) is int and v > 0 for v in pair):
        raise ValueError(
            f"`{name}` must be a positive integer or a pair (height, width) of them. "
            f"Received: {name}={value!r}"
        )
    return pair


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
        mlp_out_activation: one more behind the second MLP layer, as in the ViT tutorial
            of keras.io; None for none.
        qkv_bias: whether query, key and value have a bias.
        qk_norm: layer norm on queries and keys (arXiv 2302.05442).
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
        positions: "learned" 1-D or fixed "sincos2d" (arXiv 2205.01580).
        position_prefix: whether the prefix tokens get position embeddings too.
        patch_norm: layer norm on the flattened patch before its projection and on
            the token after it, as lucidrains/vit-pytorch has.
        pooling: "token" (class token), "gap" (mean of the patch tokens), "map"
            (attention pooling of the patch tokens, arXiv 2106.04560) or None (all
            tokens).
        representation_size: width of a tanh layer before the head, or None.
        include_top: whether the model ends in the classification head.
        classes: outputs of the head, C.
        labels: names of the classes, labels or values, in the order of the outputs
            (two for head="sigmoid"), or None.
        head: what the outputs mean, a name in `HEADS`: "softmax" (C classes, one is
            right), "sigmoid" (two classes, C = 1), "multi_label" (C independent
            labels) or "regression" (C values).
        activation: what the head's layer applies, any Keras name that fits `head`;
            "linear" for logits, or values.
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
    mlp_out_activation: str | None = None
    qkv_bias: bool = True
    qk_norm: bool = False
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
    position_prefix: bool = True
    patch_norm: bool = False
    pooling: str | None = "token"
    representation_size: int | None = None
    include_top: bool = True
    classes: int = 1000
    labels: tuple[str, ...] | Any = None
    head: str = "softmax"
    activation: str = "linear"
    preprocessing: Preprocessing = Preprocessing()

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("image_size", as_pair("image_size", self.image_size))
        put("patch_size", as_pair("patch_size", self.patch_size))
        if isinstance(self.preprocessing, dict):
            put("preprocessing", Preprocessing(**self.preprocessing))
        if self.labels is not None:
            put("labels", tuple(self.labels))
        if self.class_token is None:
            put("class_token", self.pooling == "token" or self.distillation_token)
        self._check_numbers()
        self._check_choices()
        self._check_combinations()

    def _check_numbers(self):
        positive = ["channels", "num_layers", "hidden_size", "num_heads", "mlp_dim"]
        positive += ["classes"]
        optional = ("head_dim", "representation_size")
        positive += [n for n in optional if getattr(self, n) is not None]
        for name in positive:
            _require_int(name, getattr(self, name), 1)
        _require_int("num_register_tokens", self.num_register_tokens, 0)
        for name in ("dropout", "attention_dropout", "drop_path_rate"):
            if not (_is_number(getattr(self, name)) and 0 <= getattr(self, name) < 1):
                raise ValueError(
                    f"`{name}` must be in [0, 1). "
                    f"Received: {name}={getattr(self, name)!r}"
                )
        value = self.layer_scale_init_value
        if value is not None and not _is_number(value):
            raise ValueError(
                "`layer_scale_init_value` must be a number or None. "
                f"Received: layer_scale_init_value={value!r}"
            )
        if not isinstance(self.preprocessing, Preprocessing):
            raise ValueError(
                "`preprocessing` must be a Preprocessing. "
                f"Received: preprocessing={self.preprocessing!r}"
            )
        if not (_is_number(self.norm_epsilon) and self.norm_epsilon > 0):
            raise ValueError(
                "`norm_epsilon` must be above 0. "
                f"Received: norm_epsilon={self.norm_epsilon!r}"
            )

    def _check_choices(self):
        for name, valid in (
            ("pooling", POOLINGS),
            ("head", tuple(HEADS)),
            ("positions", POSITIONS),
            ("mlp_activation", MLP_ACTIVATIONS),
            ("mlp_out_activation", (None, *MLP_ACTIVATIONS)),
        ):
            if getattr(self, name) not in valid:
                raise ValueError(
                    f"`{name}` must be one of {valid}. "
                    f"Received: {name}={getattr(self, name)!r}"
                )

    def _check_combinations(self):
        (height, width), (patch_h, patch_w) = self.image_size, self.patch_size
        if height % patch_h or width % patch_w:
            raise ValueError(
                "`image_size` must be a multiple of `patch_size`. "
                f"Received: image_size={self.image_size}, patch_size={self.patch_size}"
            )
        if self.head_dim is None and self.hidden_size % self.num_heads:
            raise ValueError(
                "`hidden_size` must be a multiple of `num_heads`, or `head_dim` given. "
                f"Received: hidden_size={self.hidden_size}, num_heads={self.num_heads}"
            )
        if self.positions == "sincos2d" and self.hidden_size % 4:
            raise ValueError(
                "`hidden_size` must be a multiple of 4 for positions='sincos2d'. "
                f"Received: hidden_size={self.hidden_size}"
            )
        if self.pooling == "token" and not self.class_token:
            raise ValueError(
                "`class_token` must not be False when pooling='token'. "
                "Use pooling='gap' or 'map' for a model without class token."
            )
        if self.distillation_token and self.pooling != "token":
            raise ValueError(
                "`pooling` must be 'token' when distillation_token=True. "
                f"Received: pooling={self.pooling!r}"
            )
        if self.fc_norm and (self.pooling is None or self.distillation_token):
            raise ValueError(
                "`fc_norm` must be False for pooling=None or distillation_token=True: "
                f"it needs one vector per image. Received: pooling={self.pooling!r}"
            )
        if self.pooling is None and self.include_top:
            raise ValueError(
                "`pooling` must be 'token', 'gap' or 'map' when include_top=True: "
                "a head needs one vector per image. Received: pooling=None"
            )
        if self.include_top:
            check_head(self.head, self.classes, self.activation)
        names = HEADS[self.head].names(self.classes)
        if self.labels is not None and len(self.labels) != names:
            raise ValueError(
                f"`labels` must be {names} names for classes={self.classes} and "
                f"head={self.head!r}. Received: {len(self.labels)} names"
            )
        if len(self.preprocessing.mean) != self.channels:
            raise ValueError(
                "`preprocessing` must have one mean and std per channel. Received: "
                f"channels={self.channels}, mean={self.preprocessing.mean}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along (height, width)."""
        (height, width), (patch_h, patch_w) = self.image_size, self.patch_size
        return height // patch_h, width // patch_w

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: class, distillation, registers, in this order."""
        special = int(bool(self.class_token)) + int(self.distillation_token)
        return special + self.num_register_tokens

    @property
    def num_tokens(self) -> int:
        """Length of the token sequence, N."""
        return self.grid[0] * self.grid[1] + self.num_prefix_tokens

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


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _require_int(name, value, least):
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"`{name}` must be an integer >= {least}. Received: {name}={value!r}"
        )

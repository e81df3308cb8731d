"""The functional graph of a configuration: `VisionTransformer` and its layers."""

import math
from typing import Any, cast

import keras

from . import layers
from .config import ViTConfig
from .decoder_sizes import decoder_sizes
from .heads import DENSE, check_map_outputs
from .layers.maps import concatenated

TASKS = ("classify", "features", *DENSE)


@keras.saving.register_keras_serializable(package="vit_keras")
class VisionTransformer(keras.Model):
    """A functional `keras.Model` with the configuration it was built from.

    Its layers are flat and named; `summary`, `get_layer`, `fit`, `save` and nesting in
    another model work as usual. `config` (a `ViTConfig`) and `task` are saved with it,
    so that an export finds the preprocessing.
    """

    config: ViTConfig  # None if it was made by hand, without one
    task: str

    # The first three arguments are those of a functional model, so that Keras saves the
    # whole graph, with the user's changes.
    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str | None = None,
        *,
        config: ViTConfig | dict[str, Any] | None = None,
        task: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        config = ViTConfig(**config) if isinstance(config, dict) else config
        self.config, self.task = cast(ViTConfig, config), cast(str, task)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "task": self.task}
        config["config"] = self.config.to_dict() if self.config is not None else None
        return config


def build_network(config, task, name):
    """Build the functional model of a configuration."""
    try:
        keras.activations.get(config.activation)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "`activation` must be the name of a Keras activation. "
            f"Received: activation={config.activation!r}"
        ) from error
    if task in DENSE:
        check_map_outputs(config.head, config.classes)
    if task != "classify" and config.tome:
        raise ValueError(
            f"`tome` must be () for task={task!r}, which needs the grid of patches; "
            f"`token_merging` keeps it. Received: tome={config.tome}"
        )

    inputs = keras.Input((*config.image_size, config.channels), name="images")
    x = _embed(inputs, config)
    if config.pre_norm:
        x = _norm(config, "pre_norm")(x)
    taps, merged, grid = [], dict(config.token_merging), config.grid
    sizes = []  # of tokens that stand for several patches
    for i in range(config.num_layers):
        if i in merged:
            x = layers.TokenMerging(
                *(grid, config.num_prefix_tokens, merged[i]),
                name=f"token_merging_{i}",
            )(x)
            grid = config.block_grids[i]
        if task in DENSE and i == config.first_with_queries:
            number = decoder_sizes(config).queries
            x = layers.ClassToken(number, name="decoder_queries")(x)
        block = _block(config, i)
        if isinstance(block, layers.ToMeBlock):
            x, *sizes = block(x, *sizes)
        else:
            x = block(x)
        if i in config.tap_blocks:
            taps.append((i, x))
    norm = None if config.fc_norm else _norm(config, "encoder_norm")
    if task == "classify":
        outputs = _top(x if norm is None else norm(x), config, sizes)
    else:
        # Not above: Keras may be loading because of `layers`, which decoders import.
        from .decoders import decode_tokens

        if norm is not None and config.tap_norm:
            taps = [(i, norm(x)) for i, x in taps]
        taps = [_repeated(x, i, config) for i, x in taps]
        outputs = (
            concatenated(taps) if task == "features" else decode_tokens(taps, config)
        )
    return VisionTransformer(inputs, outputs, name, config=config, task=task)


def _embed(inputs, config):
    """Embed images (N, H, W, C) as tokens (N, T, D) with positions."""
    x = layers.Patches(
        config.patch_size,
        config.hidden_size,
        config.patch_norm,
        config.norm_epsilon,
        name="embedding",
    )(inputs)

    def prepend(x):  # the last one prepended comes first in the sequence
        if config.num_register_tokens:
            number = config.num_register_tokens
            x = layers.ClassToken(number, name="register_tokens")(x)
        if config.distillation_token:
            x = layers.ClassToken(name="distillation_token")(x)
        if config.class_token:
            x = layers.ClassToken(name="class_token")(x)
        return x

    prefix = config.num_prefix_tokens if config.position_prefix else 0
    if config.positions == "none":
        x = prepend(x)
    else:
        positions = layers.AddPositionEmbs(
            config.grid, prefix, config.positions, name="posembed_input"
        )
        x = positions(prepend(x)) if config.position_prefix else prepend(positions(x))
    return keras.layers.Dropout(config.dropout, name="posembed_dropout")(x)


def _norm(config, name):
    return layers.LayerNormalization(config.norm_epsilon, name=name)


def _block(config, index):
    """Return encoder block `index`; the rate of stochastic depth rises with it."""
    share = index / max(config.num_layers - 1, 1)
    rotary = None
    if config.rotary is not None:
        rotary = {
            "kind": config.rotary,
            "grid": config.grid,
            "temperature": config.rotary_temperature,
            "reference_grid": config.rotary_grid,
        }
    kind, merging = layers.EncoderBlock, {}
    if any(config.tome[: index + 1]):
        kind, prefix = layers.ToMeBlock, config.num_prefix_tokens
        merging = {"merged": config.tome[index], "num_prefix_tokens": prefix}
    return kind(
        config.num_heads,
        config.mlp_dim,
        head_dim=config.head_dim,
        mlp_activation=config.mlp_activation,
        qkv_bias=config.qkv_bias,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        drop_path=config.drop_path_rate * share,
        layer_scale_init_value=config.layer_scale_init_value,
        qk_norm=config.qk_norm,
        norm_epsilon=config.norm_epsilon,
        mlp_out_activation=config.mlp_out_activation,
        post_norm=config.post_norm,
        key_bias=config.key_bias,
        attention_norm=config.attention_norm,
        mlp_norm=config.mlp_norm,
        mlp_gated=config.mlp_gated,
        rotary=rotary,
        **merging,
        name=f"encoderblock_{index}",
    )


def _repeated(tokens, index, config):
    """Return a block's tokens for all patches of the grid, merged ones repeated."""
    factor = math.prod(k for before, k in config.token_merging if before <= index)
    if factor == 1:
        return tokens
    return layers.TokenRepetition(
        *(config.grid, config.num_prefix_tokens, factor),
        name=f"token_repetition_{index}",
    )(tokens)


def _pool(tokens, config, sizes):
    """Pool tokens (N, T, D), perhaps with their sizes, to one vector (N, D)."""
    if config.pooling == "token":
        return layers.TokenPooling(name="pooling")(tokens)
    prefix = config.num_prefix_tokens
    if config.pooling == "gap":
        return layers.AveragePooling(prefix, name="pooling")(tokens, *sizes)
    if config.pooling == "max":
        return layers.MaxPooling(prefix, name="pooling")(tokens)
    return layers.AttentionPooling(
        config.pool_heads or config.num_heads,
        config.mlp_dim,
        config.mlp_activation,
        config.norm_epsilon,
        None if config.pool_heads else config.head_dim,
        0 if config.pool_prefix else prefix,
        name="pooling",
    )(tokens)


def _top(tokens, config, sizes):
    """Compute a classifier's output from tokens (N, T, D), and sizes of merged ones."""
    if config.pooling is None:
        return _repeated(tokens, config.num_layers - 1, config)
    x = _pool(tokens, config, sizes)
    if config.fc_norm:
        x = _norm(config, "fc_norm")(x)
    if config.representation_size is not None:
        x = keras.layers.Dense(
            config.representation_size,
            activation=config.representation_activation,
            name="pre_logits",
        )(x)
    if config.unit_norm:
        x = layers.UnitNorm(name="unit_norm")(x)
    if not config.include_top:
        return x
    if not config.distillation_token:
        return _head(config, "head", config.activation)(x)
    distilled = layers.TokenPooling(1, name="distillation_pooling")(tokens)
    x = keras.layers.Average(name="head_average", dtype="float32")(
        [_head(config, "head")(x), _head(config, "head_dist")(distilled)]
    )
    if config.activation == "linear":
        return x
    return keras.layers.Activation(
        config.activation, name="predictions", dtype="float32"
    )(x)


def _head(config, name, activation="linear"):
    # Logits in float32 also under mixed precision, for a stable loss. Small random
    # weights, not zeros, so that outputs of untrained models can be compared.
    return keras.layers.Dense(
        config.classes,
        activation=activation,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        dtype="float32",
        name=name,
    )

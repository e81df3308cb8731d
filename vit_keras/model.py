"""A configuration becomes a Keras model: `create_model`."""

import os
from typing import Any

import keras

from . import layers
from .config import ViTConfig
from .presets import get_config
from .weights.describe import describe, tells_heads
from .weights.entries import CheckpointError
from .weights.formats.keras_file import is_own
from .weights.loader import apply, find, load_weights
from .weights.recognise import recognise

TASKS = ("classify", "features")
# What a checkpoint decides of a preset, and what it must agree on.
TRAINED = (
    *("mlp_activation", "qkv_bias", "qk_norm", "pre_norm", "fc_norm", "norm_epsilon"),
    *("layer_scale_init_value", "class_token", "distillation_token", "pooling"),
    *("num_register_tokens", "positions", "position_prefix", "patch_norm"),
    *("representation_size", "preprocessing", "head_dim"),
)
SIZES = ("num_layers", "hidden_size", "num_heads", "mlp_dim", "channels")


@keras.saving.register_keras_serializable(package="vit_keras")
class VisionTransformer(keras.Model):
    """A functional `keras.Model` that remembers the configuration it was built from.

    Everything a functional model does works as usual: its layers are flat and named,
    and `summary`, `get_layer`, `fit`, `save` and nesting in another model need nothing
    special. `config` (a `ViTConfig`) and `task` are saved with it, so that an exporter
    finds the preprocessing.
    """

    # The first three arguments must be those of a functional model, so that Keras
    # saves the whole graph, with what the user changed in it, and not a recipe.
    def __init__(self, inputs, outputs, name=None, *, config=None, task=None, **kwargs):
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self.config = ViTConfig(**config) if isinstance(config, dict) else config
        self.task = task

    def get_config(self):
        config = {**super().get_config(), "task": self.task}
        config["config"] = self.config.to_dict() if self.config is not None else None
        return config


def create_model(
    preset: str | ViTConfig = "vit_b16",
    *,
    task: str = "classify",
    weights: str | os.PathLike | None = None,
    name: str | None = None,
    **overrides: Any,
) -> VisionTransformer:
    """Build a Vision Transformer (arXiv 2010.11929) as a flat functional model.

    The layers carry the names of the paper's code: `embedding`, `class_token`,
    `posembed_input`, `encoderblock_{i}`, `encoder_norm`, `pre_logits`, `head`.

    Arguments:
        preset: a name in `PRESETS`, or a `ViTConfig`.
        task: "classify" (logits or what `activation` makes of them), or "features"
            (all tokens after the last norm).
        weights: None for random values, a name in `PUBLISHED`, or a file or folder as
            `load_weights` takes them. Of a preset it decides what its numbers were
            trained with and the sizes do not say (GELU, epsilon, tokens, pooling,
            preprocessing), unless an override says otherwise; a `ViTConfig` stays as
            it is. A head for other classes starts fresh, with a warning.
        name: name of the model; by default the preset's.
        **overrides: any argument of `ViTConfig`, such as `image_size=384`,
            `classes=10`, `pooling="gap"`, `drop_path_rate=0.1`.

    Returns:
        A model from images (N, H, W, C), normalised as `config.preprocessing` says, to
        (N, classes) for "classify", (N, D) with `include_top=False`, or tokens
        (N, T, D), T = prefix tokens then patches row by row, for "features" or
        `pooling=None`.

    Raises:
        ValueError: an unknown name, or values that can not work together.
        FileNotFoundError: `weights` names no file.
        CheckpointError: `weights` can not be read, or is of another size.
    """
    if task not in TASKS:
        raise ValueError(f"`task` must be one of {TASKS}. Received: task={task!r}")
    if isinstance(preset, ViTConfig):
        config, name = preset, name or "vit"
    else:
        config, name = get_config(preset), name or preset
    match = None
    if weights is not None and not is_own(weights):
        match = recognise(find(weights))
    config = config.replace(**overrides)
    if match is not None and isinstance(preset, str):
        config = _as_trained(match, config, overrides)
    model = _build(config, task, name)
    if match is not None:
        apply(match, model, config, chosen=isinstance(preset, str))
    elif weights is not None:
        load_weights(model, weights)
    return model


def from_checkpoint(
    path: str | os.PathLike,
    *,
    task: str = "classify",
    name: str | None = None,
    **overrides: Any,
) -> VisionTransformer:
    """Build the model that a checkpoint holds, with its weights.

    Sizes, tokens, pooling, GELU, epsilon and preprocessing are read from the shapes,
    from the JSON settings beside the file, and from what the layout implies.

    Arguments:
        path: anything that `load_weights` takes, or a name of `PUBLISHED`.
        task: "classify" or "features".
        name: name of the model.
        **overrides: arguments of `ViTConfig` that differ from the file's, such as
            `image_size=384` (positions are resized) or `classes=10` (a fresh head), and
            what the file does not tell, such as `num_heads`.

    Returns:
        A model, as from `create_model`.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it can not be read, is of no known layout, or is incomplete.
        ValueError: overrides that can not work.
    """
    if is_own(path):
        raise ValueError(
            f"`path` must tell the architecture, and '{path}' holds weights only: "
            "create_model(preset, weights=...) loads it, and a .keras file tells both"
        )
    match = recognise(find(path))
    config = describe(match, **overrides)
    model = _build(config, task, name or "vit")
    apply(match, model, config, chosen=True)
    return model


def _as_trained(match, config, overrides):
    """A preset with what its checkpoint was trained with."""
    heads = {} if tells_heads(match) else {"num_heads": config.num_heads}
    implied = describe(match, **{**heads, **overrides})
    wrong = [
        f"{field}={getattr(implied, field)!r}, not {getattr(config, field)!r}"
        for field in SIZES
        if getattr(implied, field) != getattr(config, field)
    ]
    if wrong:
        raise CheckpointError(
            f"`weights` must have the sizes of the preset; '{match.checkpoint.path}' "
            f"has {'; '.join(wrong)}"
        )
    trained = {field: getattr(implied, field) for field in TRAINED}
    if implied.pooling is None and config.include_top:
        trained["pooling"] = config.pooling
    head_kept = implied.include_top and match.sizes.get("K") == config.classes
    if config.include_top and not head_kept:
        trained["representation_size"] = None  # it belongs to the head that is dropped
    return config.replace(**{**trained, **overrides})


def _build(config, task, name):
    """The functional model of a configuration."""
    try:
        keras.activations.get(config.activation)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "`activation` must be the name of a Keras activation. "
            f"Received: activation={config.activation!r}"
        ) from error

    inputs = keras.Input((*config.image_size, config.channels), name="images")
    x = _embed(inputs, config)
    if config.pre_norm:
        x = _norm(config, "pre_norm")(x)
    for i in range(config.num_layers):
        x = _block(config, i)(x)
    tokens = x if config.fc_norm else _norm(config, "encoder_norm")(x)
    outputs = tokens if task == "features" else _top(tokens, config)
    return VisionTransformer(inputs, outputs, name, config=config, task=task)


def open_model(path):
    """Open a `.keras` file in safe mode, for inference.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no Keras model that can be opened safely.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no model file '{path}'")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # zip, HDF5, JSON and Keras errors alike
        raise ValueError(
            f"`model` must be a .keras file. '{path}' can not be opened: {error}"
        ) from error


def _embed(inputs, config):
    """Images (N, H, W, C) to tokens (N, T, D) with positions."""
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
    positions = layers.AddPositionEmbs(
        config.grid, prefix, config.positions, name="posembed_input"
    )
    x = positions(prepend(x)) if config.position_prefix else prepend(positions(x))
    return keras.layers.Dropout(config.dropout, name="posembed_dropout")(x)


def _norm(config, name):
    return layers.LayerNormalization(config.norm_epsilon, name=name)


def _block(config, index):
    """Encoder block number `index`; stochastic depth rises linearly with it."""
    share = index / max(config.num_layers - 1, 1)
    return layers.EncoderBlock(
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
        name=f"encoderblock_{index}",
    )


def _pool(tokens, config):
    """Tokens (N, T, D) to one vector (N, D)."""
    if config.pooling == "token":
        return layers.TokenPooling(name="pooling")(tokens)
    if config.pooling == "gap":
        prefix = config.num_prefix_tokens
        return layers.AveragePooling(prefix, name="pooling")(tokens)
    return layers.AttentionPooling(
        config.num_heads,
        config.mlp_dim,
        config.mlp_activation,
        config.norm_epsilon,
        config.head_dim,
        config.num_prefix_tokens,
        name="pooling",
    )(tokens)


def _top(tokens, config):
    """Tokens (N, T, D) to what the model returns when it classifies."""
    if config.pooling is None:
        return tokens
    x = _pool(tokens, config)
    if config.fc_norm:
        x = _norm(config, "fc_norm")(x)
    if config.representation_size is not None:
        x = keras.layers.Dense(
            config.representation_size, activation="tanh", name="pre_logits"
        )(x)
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
    # weights, not zeros: an untrained model then has something to compare.
    return keras.layers.Dense(
        config.classes,
        activation=activation,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        dtype="float32",
        name=name,
    )

"""`create_model` and `from_checkpoint`: Keras models from configurations and files."""

import os
from collections.abc import Mapping
from typing import Any

from .config import ViTConfig
from .decoder_sizes import OF_DECODERS
from .heads import DENSE, HEADS
from .network import TASKS, VisionTransformer, build_network
from .presets import get_config
from .weights.describe import describe, tells_heads
from .weights.entries import CheckpointError
from .weights.folding import joined
from .weights.formats.keras_file import is_own
from .weights.loader import apply, find, load_weights
from .weights.recognise import recognise
from .weights.told import assumption, check_assumed, check_classifier

# Fields of a preset that a checkpoint sets (TRAINED), or must agree with (SIZES).
TRAINED = (
    *("mlp_activation", "qkv_bias", "qk_norm", "pre_norm", "fc_norm", "norm_epsilon"),
    *("layer_scale_init_value", "class_token", "distillation_token", "pooling"),
    *("num_register_tokens", "positions", "position_prefix", "patch_norm"),
    *("key_bias", "post_norm", "attention_norm", "mlp_norm", "mlp_gated", "unit_norm"),
    *("rotary", "rotary_temperature", "rotary_grid", "pool_heads", "pool_prefix"),
    "representation_activation",
    *("representation_size", "preprocessing", "head_dim", "mlp_out_activation"),
)
# Those of a decoder of depths.
OF_DEPTH = ("activation", "max_depth", "depth_type")
SIZES = ("num_layers", "hidden_size", "num_heads", "mlp_dim", "channels")
# Arguments that a task does not read.
UNUSED = {
    "classify": OF_DECODERS,
    "features": ("representation_size", *sorted({*OF_DECODERS} - {"taps", "tap_norm"})),
    **{task: ("representation_size", "include_top") for task in DENSE},
}


def create_model(
    preset: str | ViTConfig = "vit_b16",
    *,
    task: str = "classify",
    weights: str | os.PathLike[str] | None = None,
    assume: Mapping[str, Any] | None = None,
    name: str | None = None,
    **overrides: Any,
) -> VisionTransformer:
    """Build a Vision Transformer (arXiv 2010.11929) as a flat functional model.

    The layers have the names of the paper's code: `embedding`, `class_token`,
    `posembed_input`, `encoderblock_{i}`, `encoder_norm`, `pre_logits`, `head`.

    Arguments:
        preset: a name in `PRESETS`, or a `ViTConfig`.
        task: "classify" (logits, or the result of `activation`), "features" (all
            tokens after the last norm), "segment" (logits of classes at each pixel) or
            "depth" (a depth at each pixel, see `ViTConfig.depth_type`).
        weights: None for random values, a name in `PUBLISHED`, or a file or folder as
            in `load_weights`. For a preset, the settings that the weights were trained
            with and that the sizes do not determine (GELU, epsilon, tokens, pooling,
            preprocessing) come from the checkpoint, unless overridden; a `ViTConfig`
            is not changed. A head for other classes is initialised, with a warning.
        assume: for a preset, as in `from_checkpoint`.
        name: name of the model; by default the preset's.
        **overrides: any argument of `ViTConfig`, such as `image_size=384`,
            `classes=10`, `pooling="gap"`, `drop_path_rate=0.1`; for "segment" and
            "depth" `decoder="upconv"`, `taps=4`.

    Returns:
        A model from images (N, H, W, C), normalised by `config.preprocessing`, to
        (N, classes) for "classify", (N, D) with `include_top=False`; tokens (N, T, D),
        prefix tokens before patches row by row, for "features" or `pooling=None`, those
        of several `taps` side by side in the last axis; (N, H, W, classes) for
        "segment", (N, H, W, 1) for "depth".

    Raises:
        ValueError: an unknown name, or values that do not fit together.
        FileNotFoundError: `weights` names no file.
        CheckpointError: `weights` cannot be read, or has other sizes.
    """
    if task not in TASKS:
        raise ValueError(f"`task` must be one of {TASKS}. Received: task={task!r}")
    chosen = not isinstance(preset, ViTConfig)
    own = get_config(preset) if chosen else preset
    overrides = _of_task(task, overrides, own)
    config, match = _configure(preset, weights, overrides, assume)
    name = name or (preset if isinstance(preset, str) else "vit")
    model = build_network(config, task, name)
    if match is not None:
        stated = {"num_heads", *overrides}  # a preset has its own
        notes = _notes(match, model, stated, assume) if chosen else ()
        apply(match, model, config, chosen=chosen, notes=notes)
    elif weights is not None:
        load_weights(model, weights)
    return model


def _of_task(task, overrides, own):
    """Return overrides with the head of a task, for a model or file of its own head."""
    _check_used(task, overrides)
    given, wanted = overrides.get("head"), DENSE.get(task)
    if given is not None:
        if task != "features" and HEADS.get(given, HEADS["softmax"]).task != task:
            valid = [name for name, head in HEADS.items() if head.task == task]
            raise ValueError(
                f"`head` must be one of {', '.join(valid)} for task={task!r}. "
                f"Received: head={given!r}"
            )
    elif task != "features" and HEADS[own.head].task != task:
        # The labels and the activation are those of the other head.
        more: dict[str, Any] = {"head": wanted or "softmax", "labels": None}
        more |= {"activation": "linear", "max_depth": None, "depth_type": "metric"}
        if task == "depth":
            more["classes"] = 1
        # What is the default anyway may come from a checkpoint.
        more = {n: value for n, value in more.items() if getattr(own, n) != value}
        overrides = {**more, **overrides}
    return overrides


def _check_used(task, overrides):
    """Refuse arguments that a task would ignore, unless they have the default."""
    for name in UNUSED[task]:
        if overrides.get(name, default := getattr(ViTConfig, name)) != default:
            uses = ", ".join(other for other in TASKS if name not in UNUSED[other])
            raise ValueError(
                f"`{name}` must not be given for task={task!r}, which does not use it: "
                f"it is for {uses}. Received: {name}={overrides[name]!r}"
            )


def configure(
    preset: str | ViTConfig,
    weights: str | os.PathLike[str] | None = None,
    assume: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> ViTConfig:
    """Return the configuration that `create_model` uses for the same arguments.

    Raises:
        ValueError, FileNotFoundError, CheckpointError: as for `create_model`.
    """
    return _configure(preset, weights, overrides, assume)[0]


def _configure(preset, weights, overrides, assume):
    """Return the configuration, and the recognised checkpoint or None."""
    chosen = not isinstance(preset, ViTConfig)
    config = get_config(preset) if chosen else preset
    match = None
    if weights is not None and not is_own(weights):
        match = recognise(find(weights), accept=assume is not None)
    if assume is not None and (match is None or not chosen):
        raise ValueError(
            "`assume` is for a preset with the weights of another library: a ViTConfig "
            f"states everything. Received: assume={assume!r}"
        )
    if match is not None:
        check_assumed(match.undecided, assume, match.checkpoint.path)
    overrides = {**(assume or {}), **overrides}
    config = config.replace(**overrides)
    if match is not None and chosen:
        config = as_trained(match, config, overrides)
    return config, match


def from_checkpoint(
    path: str | os.PathLike[str],
    *,
    task: str | None = None,
    decoder_weights: str | os.PathLike[str] | None = None,
    assume: Mapping[str, Any] | None = None,
    name: str | None = None,
    **overrides: Any,
) -> VisionTransformer:
    """Build the model of a checkpoint, with its weights.

    Sizes, tokens, pooling, GELU, epsilon and preprocessing are inferred from the
    shapes, the JSON settings beside the file, and the layout. Settings that are not
    understood are refused; what a file without settings leaves open has the default of
    its library, with a warning.

    Arguments:
        path: as in `load_weights`, or a name in `PUBLISHED`.
        task: as for `create_model`; None for that of the file's head or decoder. For
            another one there is a new head or decoder, and `classes` must be given.
        decoder_weights: a file with the decoder alone, as those of DINOv2 are
            published; None if `path` has it.
        assume: what the file leaves open, as fields of `ViTConfig`, such as
            `{"mlp_activation": "quick_gelu", "pooling": "gap"}`; they need no warning.
            An empty dict accepts the defaults. With either, unknown names of
            architectures and settings are taken, too.
        name: name of the model.
        **overrides: arguments of `ViTConfig` that differ from the file's, such as
            `image_size=384` (positions are resized) or `classes=10` (a new head), and
            those that the file does not determine, such as `num_heads`.

    Returns:
        A model, as from `create_model`. DPT and Depth Anything, but for its metric
        models, give inverse depths up to a scale and a shift (`depth_type="inverse"`).

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: it cannot be read, has no known layout, is incomplete, or has
            settings that are not understood.
        ValueError: invalid overrides, or `assume` holds what the file decides.
    """
    if is_own(path):
        raise ValueError(
            f"`path` must tell the architecture, and '{path}' holds weights only: "
            "create_model(preset, weights=...) loads it, and a .keras file tells both"
        )
    if task not in (None, *TASKS):
        raise ValueError(f"`task` must be one of {TASKS}. Received: task={task!r}")
    checkpoint = find(path)
    if decoder_weights is not None:
        checkpoint = joined(checkpoint, find(decoder_weights))
    match = recognise(checkpoint, accept=assume is not None)
    check_assumed(match.undecided, assume, path)
    stated, overrides = overrides, {**(assume or {}), **overrides}
    own = describe(match, **overrides)
    if task != "features":
        check_classifier(match, overrides)
    task = task or HEADS[own.head].task
    changed = _of_task(task, overrides, own)
    needed = task == "segment" or (task == "classify" and own.include_top)
    if needed and changed is not overrides and "classes" not in overrides:
        raise ValueError(
            f"`classes` must be given for task={task!r}: '{path}' has no head for it "
            f"that tells them, but one for {HEADS[own.head].task!r}"
        )
    config = own if changed is overrides else describe(match, **changed)
    model = build_network(config, task, name or "vit")
    notes = _notes(match, model, stated, assume)
    apply(match, model, config, chosen=True, notes=notes)
    return model


def _notes(match, model, stated, assume):
    """Return in one line what was assumed, or no line."""
    about = match.undecided, model.config, stated, assume
    assumed = assumption(*about, pooled=model.task == "classify")
    told = "nothing in the file tells, and assumed is"
    hint = "`assume` states it, assume={} accepts it"
    return [f"{told}: {assumed}. {hint}"] if assumed else []


def as_trained(match, config, overrides):
    """Return a preset with the settings that its checkpoint was trained with."""
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
            f"has {'; '.join(wrong)}. `from_checkpoint`, and the recipe finetune of "
            "`train`, take its own"
        )
    trained = {field: getattr(implied, field) for field in TRAINED}
    if implied.pooling is None and config.include_top:
        trained["pooling"] = config.pooling
    head_kept = implied.include_top and match.sizes.get("K") == config.classes
    if config.head == "depth" and implied.decoder == config.decoder:
        trained |= {field: getattr(implied, field) for field in OF_DEPTH}
    if config.include_top and not head_kept:
        trained["representation_size"] = None  # it belongs to the dropped head
    return config.replace(**{**trained, **overrides})

"""Settings of keras-hub's image encoders, from a preset's folder or a `.keras` file."""

from collections.abc import Callable, Mapping
from typing import Any

from ..preprocessing import Preprocessing
from .entries import CheckpointError
from .known_settings import Known, check_known, one_of

BLOCK = "encoderblock_0/"
# Keras' names, and ours.
ACTIVATIONS = {"gelu": "gelu", "gelu_approximate": "gelu_tanh", "tanh": "tanh"}
ACTIVATIONS |= {"silu": "silu", "swish": "silu", "relu": "relu"}
# Of every model: neither training nor the type of numbers changes what is loaded.
_MODEL = ("name", "trainable", "dtype", "data_format", "build_config")
_TRAINING = ("dropout_rate", "attention_dropout", "drop_path_rate")
_TRAINING += ("layer_scale_init_value", "use_mask_token")
_READ = ("num_heads", "image_shape", "patch_size")
_SIZES = {"hidden_dim": "D", "num_layers": "L", "patch_size": "pq"}
_MLP = {**_SIZES, "intermediate_dim": "M"}

VIT = Known(
    read=(*_READ, "layer_norm_epsilon"),
    sizes={**_SIZES, "mlp_dim": "M"},
    weights={
        "use_mha_bias": f"{BLOCK}attention/query/bias",
        "use_mlp_bias": f"{BLOCK}mlp/dense1/bias",
        "use_patch_bias": "embedding/bias",
        "use_class_token": "class_token/token",
    },
    silent=(*_MODEL, *_TRAINING),
)
DEIT = Known(
    read=(*_READ, "layer_norm_epsilon"),
    sizes=_MLP,
    weights={"use_mha_bias": f"{BLOCK}attention/query/bias"},
    silent=(*_MODEL, *_TRAINING),
)
DINOV2 = Known(
    read=_READ,
    sizes=_SIZES,
    weights={
        "use_swiglu_ffn": f"{BLOCK}mlp/gate/kernel",
        "num_register_tokens": "register_tokens/token",
    },
    silent=(
        *(*_MODEL, *_TRAINING),
        "intermediate_dim",  # of a gated MLP not the width: 2/3 of it, rounded up
        # Of positions in another size, and of the maps of other blocks.
        *("position_embedding_shape", "antialias_in_interpolation", "apply_layernorm"),
    ),
)
DINOV3 = Known(
    read=(*_READ, "layer_norm_eps", "hidden_activation", "rope_theta"),
    sizes=_MLP,
    weights={
        "use_gated_mlp": f"{BLOCK}mlp/gate/kernel",
        "use_query_bias": f"{BLOCK}attention/query/bias",
        "use_key_bias": f"{BLOCK}attention/key/bias",
        "use_value_bias": f"{BLOCK}attention/value/bias",
        "use_proj_bias": f"{BLOCK}attention/out/bias",
        "use_mlp_bias": f"{BLOCK}mlp/dense1/bias",
        "num_register_tokens": "register_tokens/token",
    },
    silent=(*_MODEL, *_TRAINING, "apply_layernorm"),
)
SIGLIP = Known(
    read=(*_READ, "intermediate_activation"),
    sizes=_MLP,
    only={"layer_norm_epsilon": (1e-6,)},  # that of the last norm cannot be set
    silent=_MODEL,
)
# {`Layout.settings`: (keras-hub's classes, settings of the encoder)}
FAMILIES = {
    "keras_hub": (("ViTBackbone", "ViTImageClassifier"), VIT),
    "keras_hub_deit": (("DeiTBackbone", "DeiTImageClassifier"), DEIT),
    "keras_hub_dinov2": (("DINOV2Backbone",), DINOV2),
    "keras_hub_dinov3": (("DINOV3Backbone",), DINOV3),
    "keras_hub_siglip": (("SigLIPVisionEncoder", "SigLIPBackbone"), SIGLIP),
}
CLASSES = [name for names, _ in FAMILIES.values() for name in names]
# Where a model has its encoder: of a classifier, of both towers.
PARTS = ("backbone", "vision_encoder")
TASK = Known(
    read=(*PARTS, "pooling", "activation", "preprocessor"),
    silent=(
        *(*_MODEL, "num_classes", "intermediate_dim", "dropout", "head_dtype"),
        "text_encoder",
    ),
)


def encoder(model: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the image encoder in a description by Keras."""
    settings = model.get("config") or {}
    for part in PARTS:
        if isinstance(settings.get(part), dict):
            return encoder(settings[part])
    return settings


def refuse_other_classes(settings: Mapping[str, dict]) -> None:
    """Refuse the models of keras-hub that none of ours is, by their class.

    Raises:
        CheckpointError: the settings name one.
    """
    model = settings.get("config.json", {})
    name = model.get("class_name")
    if str(model.get("registered_name")).startswith("keras_hub>"):
        if name not in CLASSES:
            raise CheckpointError(
                f"`class_name` of keras-hub must be one of {', '.join(CLASSES)}. "
                f"Received from the settings: {name!r}"
            )


def keras_hub_reader(layout: str) -> Callable[..., dict[str, Any]]:
    """Return the reader of the settings of a layout, a name in `FAMILIES`."""

    def read(files: dict[str, dict], *, accept: bool = False) -> dict[str, Any]:
        whole = files.get("config.json", {})
        if "class_name" not in whole:  # not of keras-hub
            return {}
        classes, known = FAMILIES[layout]
        fields: dict[str, Any] = {}
        model = encoder(whole)
        for description in (whole, files.get("task.json", {})):
            if not accept and "class_name" in description:
                name = description["class_name"]
                one_of("`class_name`", name, dict.fromkeys(classes))
            task = description.get("config") or {}
            if any(part in task for part in PARTS):
                check_known(task, TASK, accept=accept)
                fields |= _read_task(task, model, layout)
        check_known(model, known, accept=accept)
        fields |= _encoder_fields(model)
        images = files.get("image_converter.json")
        if images is not None:
            fields["preprocessing"] = _read_images(images)
        return fields

    return read


def _encoder_fields(model):
    fields: dict[str, Any] = {"num_heads": int(model["num_heads"])}
    for theirs, ours, convert in (
        ("layer_norm_epsilon", "norm_epsilon", float),
        ("layer_norm_eps", "norm_epsilon", float),
        ("rope_theta", "rotary_temperature", float),
        ("hidden_activation", "mlp_activation", _activation),
        ("intermediate_activation", "mlp_activation", _activation),
        ("patch_size", "patch_size", lambda size: size),
    ):
        if theirs in model:
            fields[ours] = convert(model[theirs])
    shape = model.get("image_shape") or ()
    if shape and None not in shape:  # None is any size
        # Channels are the least of three, and may be the first.
        sides = shape[1:] if shape[0] < shape[2] else shape[:2]
        fields["image_size"] = tuple(sides)
    return fields


def _read_task(task, model, layout):
    """Return fields of a classifier's head, and of its preprocessing."""
    fields: dict[str, Any] = {}
    if "pooling" in task:
        fields["pooling"] = task["pooling"]
        tokens = layout == "keras_hub_deit" or model.get("use_class_token", True)
        valid = ("token",) if tokens else ("gap",)
        if task["pooling"] not in valid:  # keras-hub's mean is of all tokens
            raise CheckpointError(
                f"`pooling` must be {valid[0]!r} with these tokens before the patches. "
                f"Received from the settings: {task['pooling']!r}"
            )
    activation = task.get("activation")
    if isinstance(activation, str):
        fields["activation"] = activation
    elif activation is not None:
        raise CheckpointError(
            f"`activation` must be a name. Received from the settings: {activation!r}"
        )
    images = ((task.get("preprocessor") or {}).get("config") or {}).get(
        "image_converter"
    )
    if images:
        fields["preprocessing"] = _read_images(images)
    return fields


def _read_images(description):
    """Return the preprocessing of an `ImageConverter`, `pixels * scale + offset`."""
    settings = description.get("config") or {}
    scale, offset = settings.get("scale"), settings.get("offset")
    scale = _three(1.0 if scale is None else scale)
    offset = _three(0.0 if offset is None else offset)
    std = tuple(1 / (255 * value) for value in scale)
    mean = tuple(-o * s for o, s in zip(offset, std, strict=True))
    options = {"mean": mean, "std": std, "resize": "stretch"}
    if settings.get("crop_to_aspect_ratio", True):
        options["resize"] = "cover"
    if settings.get("pad_to_aspect_ratio"):
        options["resize"] = "contain"
    options["interpolation"] = settings.get("interpolation", "bilinear")
    return Preprocessing(**options)


def _three(value):
    return tuple(value) if isinstance(value, (list, tuple)) else (value,) * 3


def _activation(name):
    return one_of("the activation", str(name), ACTIVATIONS)


READERS = {name: keras_hub_reader(name) for name in FAMILIES}
# {`Layout.settings`: the part of `config.json` that tells of the arrays, its table}
CHECKED = {name: (encoder, known) for name, (_, known) in FAMILIES.items()}

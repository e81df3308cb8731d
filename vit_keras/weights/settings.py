"""Fields of `ViTConfig` from the JSON settings of other libraries."""

from typing import Any

from ..preprocessing import Preprocessing
from .entries import CheckpointError
from .known_settings import (
    EVA_ARGS,
    HUGGINGFACE,
    MODEL_TYPES,
    TIMM,
    TIMM_ARGS,
    TIMM_IMAGES,
    check_known,
    one_of,
)
from .timm_eva import check_pooling, read_eva
from .timm_names import is_eva, read_name

# Names in Hugging Face and timm, and ours.
ACTIVATIONS = {
    **{name: "gelu" for name in ("gelu", "gelu_python")},
    **{name: "gelu_tanh" for name in ("gelu_new", "gelu_pytorch_tanh", "gelu_tanh")},
    **{name: "gelu_tanh" for name in ("gelu_fast", "gelu_accurate")},
    **{name: "silu" for name in ("silu", "swish")},
    **{name: name for name in ("quick_gelu", "relu", "tanh")},
}
RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic")  # by Pillow's number
# `problem_type` of transformers; None is decided there by the labels.
PROBLEMS = {
    "single_label_classification": "softmax",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}

# timm's `crop_mode`, which pads with the mean, too: the way of resizing here.
CROP_MODES = {"center": "cover", "squash": "stretch", "border": "contain"}
POOLING = {"token": "token", "avg": "gap", "map": "map", "max": "max", "": None}
POSITIONS = {"learn": "learned", "": "none", "none": "none"}
# What timm takes where `pretrained_cfg` says nothing: `timm.data.resolve_data_config`.
TIMM_IMAGE = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
TIMM_IMAGE |= {"crop": 0.875}


def _pair(value):
    return tuple(value) if isinstance(value, list) else (value, value)


def _activation(name):
    return one_of("the activation", name, ACTIVATIONS)


def read_huggingface(files: dict[str, dict], *, accept: bool = False) -> dict[str, Any]:
    """Read the files of a plain ViT of transformers.

    Arguments:
        files: `config.json` and `preprocessor_config.json`, as far as they are there.
        accept: take names and settings that are not known.

    Returns:
        Fields of `ViTConfig`.

    Raises:
        CheckpointError: a setting is unknown, or of another network.
    """
    model = files.get("config.json", {})
    check_known(model, HUGGINGFACE, accept=accept)
    kind, implied = model.get("model_type"), {}
    if kind is not None and not (accept and kind not in MODEL_TYPES):
        classes, implied = one_of("`model_type`", kind, MODEL_TYPES)
        for name in () if accept else model.get("architectures") or ():
            one_of("`architectures`", name, dict.fromkeys(classes))
    return {**implied, **read_huggingface_fields(files)}


def read_huggingface_fields(files: dict[str, dict]) -> dict[str, Any]:
    """Read what the models of transformers have in common, with a decoder or without.

    Raises:
        CheckpointError: a value is of another network.
    """
    model, fields = files.get("config.json", {}), {}
    for theirs, ours, convert in (
        ("num_attention_heads", "num_heads", int),
        ("layer_norm_eps", "norm_epsilon", float),
        ("hidden_act", "mlp_activation", _activation),
        ("image_size", "image_size", _pair),
        ("patch_size", "patch_size", _pair),
    ):
        if theirs in model:
            fields[ours] = convert(model[theirs])
    if model.get("use_swiglu_ffn"):  # it has this one, whatever `hidden_act` says
        fields["mlp_activation"] = "silu"
    if model.get("problem_type") in PROBLEMS:
        fields["head"] = PROBLEMS[model["problem_type"]]
    names = _huggingface_names(model.get("id2label") or {})
    if names and names != unnamed(len(names)):
        fields["labels"] = tuple(names)
    images = files.get("preprocessor_config.json")
    if images is not None:
        fields["preprocessing"] = _huggingface_images(images)
    return fields


def _huggingface_names(labels):
    """Return the names of the outputs in their order, which may be given as numbers."""
    numbers = [str(i) for i in range(len(labels))]
    lacking = [n for n in numbers if not isinstance(labels.get(n), (str, int))]
    if lacking:
        raise CheckpointError(
            f"`id2label` must name each output from 0 to {len(labels) - 1}. "
            f"Received none for: {', '.join(lacking[:5])}"
        )
    return [str(labels[n]) for n in numbers]


def unnamed(classes):
    """Return the names that transformers gives to classes without one."""
    return [f"LABEL_{i}" for i in range(classes)]


def _huggingface_images(settings):
    options: dict[str, Any] = {}
    if not settings.get("do_normalize", True):
        options = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    elif "image_mean" in settings:
        options = {"mean": settings["image_mean"], "std": settings["image_std"]}
    # Both are for pixels times this factor, ours for a 255th of them.
    factor = settings.get("rescale_factor", 1 / 255)
    factor = round(255 * (factor if settings.get("do_rescale", True) else 1), 6)
    if options and factor != 1:
        options = {
            name: [v / factor for v in values] for name, values in options.items()
        }
    resample = settings.get("resample")
    if resample is not None:
        filters = dict(enumerate(RESAMPLE))
        options["interpolation"] = one_of("`resample`", resample, filters)
    if settings.get("do_center_crop") and "crop_size" in settings:
        kept, whole = _side(settings["crop_size"]), _side(settings.get("size"))
        if kept and whole:
            options["crop"] = min(1.0, kept / whole)
    return Preprocessing(**options)


def _side(size):
    """Return the shorter side, in any version of the settings."""
    if isinstance(size, dict):
        return size.get("shortest_edge") or min(size.values(), default=None)
    return size


def read_timm(files: dict[str, dict], *, accept: bool = False) -> dict[str, Any]:
    """Read the `config.json` of timm's models on a hub.

    Arguments:
        files: the file, if it is there.
        accept: take names and settings that are not known.

    Returns:
        Fields of `ViTConfig`.

    Raises:
        CheckpointError: a setting is unknown, or of another network.
    """
    if "config.json" not in files:
        return {}
    settings = files["config.json"]
    images = settings.get("pretrained_cfg") or {}
    if "pretrained_cfg" not in settings:  # one object, in old releases
        images = settings
        settings = {name: images[name] for name in TIMM.read if name in images}
    model = _without_none(settings.get("model_args") or {})
    name = str(settings.get("architecture", ""))
    arguments = EVA_ARGS if is_eva(name) else TIMM_ARGS
    for part, known in ((settings, TIMM), (model, arguments), (images, TIMM_IMAGES)):
        check_known(part, known, accept=accept)
    fields = read_name(name, accept=accept)
    if "num_heads" in model:
        fields["num_heads"] = int(model["num_heads"])
    if "act_layer" in model:
        fields["mlp_activation"] = _activation(model["act_layer"])
    if "norm_layer" in model:  # by its name, with timm's own epsilon
        fields["norm_epsilon"] = 1e-6
    if "pos_embed" in model:
        fields["positions"] = one_of("`pos_embed`", model["pos_embed"], POSITIONS)
    fields |= read_eva(model, fields)
    pool = model.get("global_pool", settings.get("global_pool"))
    if pool is not None:
        fields["pooling"] = one_of("`global_pool`", pool, POOLING)
    prefix = bool(model.get("pool_include_prefix", fields.get("pool_prefix")))
    fields |= check_pooling(fields, prefix, is_eva(name))
    channels = 3
    if images.get("input_size"):
        channels = images["input_size"][0]
        fields["image_size"] = tuple(images["input_size"][1:])
    if "img_size" in model:
        fields["image_size"] = _pair(model["img_size"])
    labels = settings.get("label_names") or images.get("label_names")
    if labels:
        fields["labels"] = tuple(map(str, labels))
    options = _timm_images(images, model.get("in_chans", channels))
    return fields | {"preprocessing": Preprocessing(**options)}


def _timm_images(images, channels):
    """Return the arguments of `Preprocessing`."""
    names = {"crop_pct": "crop", "interpolation": "interpolation"}
    names |= {"mean": "mean", "std": "std"}
    options: dict[str, Any] = dict(TIMM_IMAGE)
    images = _without_none(images)
    options |= {ours: images[name] for name, ours in names.items() if name in images}
    for name in ("mean", "std"):  # as `timm.data.loader.adapt_to_chs` has it
        values = options[name]
        if isinstance(values, (list, tuple)) and len(values) != channels:
            options[name] = (sum(values) / len(values),) * channels
    if images.get("crop_mode"):
        options["resize"] = one_of("`crop_mode`", images["crop_mode"], CROP_MODES)
    return options


def _without_none(settings):
    """Return settings without those of `None`, which timm takes for its default."""
    return {name: value for name, value in settings.items() if value is not None}


def read_keras(files: dict[str, dict], *, accept: bool = False) -> dict[str, Any]:
    """Read the number of heads from the model description in a `.h5` file."""
    waiting: list = [files.get("model_config")]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if isinstance(item.get("num_heads"), int):
                return {"num_heads": item["num_heads"]}
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return {}


# {`Layout.settings`: the reader, from {name of a file: its JSON object}}
READERS = {
    "huggingface": read_huggingface,
    "timm": read_timm,
    "keras": read_keras,
}
# {`Layout.settings`: of which part of the file the arrays tell the same, and its table}
CHECKED = {
    "huggingface": (lambda model: model, HUGGINGFACE),
    "timm": (
        lambda model: _without_none(model.get("model_args") or {}),
        TIMM_ARGS | EVA_ARGS,
    ),
}

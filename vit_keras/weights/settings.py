"""Fields of `ViTConfig` from the JSON settings of other libraries."""

from ..preprocessing import Preprocessing
from .entries import CheckpointError

# The two GELUs in Hugging Face and timm.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
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
POOLING = {"token": "token", "avg": "gap", "map": "map", "": None}


def _pair(value):
    return tuple(value) if isinstance(value, list) else (value, value)


def _activation(name):
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"the activation must be one of {', '.join(ACTIVATIONS)}. "
            f"Received from the settings: {name!r}"
        )
    return ACTIVATIONS[name]


def read_huggingface(files: dict[str, dict]) -> dict:
    """Read fields of `ViTConfig` from `config.json` and `preprocessor_config.json`."""
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
    options = {}
    if settings.get("do_normalize", True) and "image_mean" in settings:
        options = {"mean": settings["image_mean"], "std": settings["image_std"]}
    resample = settings.get("resample")
    if isinstance(resample, int) and resample < len(RESAMPLE):
        options["interpolation"] = RESAMPLE[resample]
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


def read_timm(files: dict[str, dict]) -> dict:
    """Read fields of `ViTConfig` from the `config.json` of timm's models on a hub."""
    settings = files.get("config.json", {})
    model = settings.get("model_args") or {}
    images = settings.get("pretrained_cfg") or {}
    fields = {}
    if "num_heads" in model:
        fields["num_heads"] = int(model["num_heads"])
    if "act_layer" in model:
        fields["mlp_activation"] = _activation(model["act_layer"])
    pool = model.get("global_pool", settings.get("global_pool"))
    if pool in POOLING:
        fields["pooling"] = POOLING[pool]
    if "img_size" in model:
        fields["image_size"] = _pair(model["img_size"])
    elif "input_size" in images:
        fields["image_size"] = tuple(images["input_size"][1:])
    if settings.get("label_names"):
        fields["labels"] = tuple(map(str, settings["label_names"]))
    names = {"crop_pct": "crop", "interpolation": "interpolation"}
    names |= {"mean": "mean", "std": "std"}
    options = {ours: images[n] for n, ours in names.items() if n in images}
    if images.get("crop_mode") in CROP_MODES:
        options["resize"] = CROP_MODES[images["crop_mode"]]
    if options:
        fields["preprocessing"] = Preprocessing(**options)
    return fields


def read_keras(files: dict[str, dict]) -> dict:
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


READERS = {
    "huggingface": read_huggingface,
    "timm": read_timm,
    "keras": read_keras,
}

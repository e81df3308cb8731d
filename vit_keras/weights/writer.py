"""Writer of checkpoints in other libraries' layouts."""

import contextlib
import json
import os
import pathlib
import warnings

import keras
import numpy as np
import safetensors.numpy

from ..atomic import publish_together, workspace
from ..heads import DENSE
from .axes import config_of, shapes_of, sizes_of, to_theirs
from .entries import CheckpointError
from .family_settings import WRITERS as FAMILIES
from .layout import LAYOUTS, Layout
from .load_plan import OPTIONAL_BIASES, POSITIONS
from .written_settings import WRITERS as BACKBONES

SUFFIXES = (".npz", ".safetensors", ".pth", ".pt", ".bin", ".h5", ".keras")
WRITERS = {**BACKBONES, **FAMILIES}
# What a layout must name to say otherwise.
NEEDS = {
    "mlp_activation": ("gelu", "gelu_tanh"),
    "mlp_out_activation": (None,),
    "mlp_gated": (False,),
    "key_bias": (True,),
    "post_norm": (False,),
    "rotary": (None,),
    "pooling": ("token", "gap", "map", None),
    "pool_heads": (None,),
    "pool_prefix": (False,),
    "representation_activation": ("tanh",),
    "unit_norm": (False,),
    "token_merging": ((),),
    "tome": ((),),
}
WRITABLE = [name for name, layout in LAYOUTS.items() if layout.suffix]


def save_checkpoint(
    model: keras.Model, path: str | os.PathLike[str], layout: str
) -> pathlib.Path:
    """Write a model in the layout of another library, for use there.

    Arguments:
        model: from `create_model`, on any backend.
        path: a file with the layout's suffix, for the weights alone; any other path is
            a folder for the weights and the JSON files that the library's
            `from_pretrained` reads. Existing files are replaced once all are written.
        layout: "augreg" (`.npz`), "timm" (`.safetensors`), or "huggingface"
            (`.safetensors`), which is ViT, DeiT, Dinov2, DINOv3, or the image encoder
            of SigLIP or CLIP, depending on the model.

    Returns:
        The path.

    Raises:
        ValueError: an unknown layout, or a model that is not from `create_model`.
        CheckpointError: the layout cannot express this model; the message says why.
        OSError: the path cannot be written.
    """
    config = config_of(model)
    if model.task in DENSE:
        raise CheckpointError(
            f"the layout {layout} has no decoders, and '{model.name}' is of task "
            f"{model.task!r}: `model.save` keeps it whole, and the encoder can be "
            "written from a model of task='features' with its weights"
        )
    if model.task == "features":  # the model has no head, whatever its configuration
        changes = {"include_top": False, "representation_size": None}
        if config.pooling == "map":  # it has weights, which the model lacks too
            changes |= {"pooling": None, "class_token": config.class_token}
        config = config.replace(**changes)
    chosen = _choose(layout, config)
    path = pathlib.Path(path)
    alone = path.suffix == chosen.suffix
    if not alone and path.suffix in SUFFIXES:
        raise ValueError(
            f"`path` must end in '{chosen.suffix}' or be a folder for the layout "
            f"{chosen.name}. Received: path='{path}'"
        )
    arrays = _arrays(model, config, chosen)
    files = {path if alone else path / f"model{chosen.suffix}": arrays}
    if chosen.settings and not alone:
        for name, data in WRITERS[chosen.settings](config, chosen.name).items():
            files[path / name] = data
    _write_all(files)
    return path


def _write_all(files):
    """Write all files or none: to a workspace, then renamed."""
    with contextlib.ExitStack() as stack:
        works = {}
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            works[path] = stack.enter_context(workspace(path))
            with works[path].open("wb") as file:
                _write(file, path.suffix, content)
        # Weights come first: they never stand beside the settings of others.
        publish_together(works)


def _write(file, suffix, content):
    if suffix == ".json":
        file.write(json.dumps(content, indent=2).encode())
    elif suffix == ".npz":
        np.savez(file, **content)
    else:  # transformers requires the framework's name
        file.write(safetensors.numpy.save(content, {"format": "pt"}))


def _choose(name, config) -> Layout:
    """Return the layout of a name; `huggingface` has one for each family."""
    if name == "huggingface":
        families = {
            "deit": config.distillation_token,
            "dinov3": config.rotary is not None,
            "siglip": config.pooling == "map"
            or (config.pooling is None and not config.class_token),
            "clip": config.pre_norm,
            "dinov2": config.layer_scale_init_value is not None,
            "vit": True,
        }
        name = f"huggingface_{next(kind for kind, is_it in families.items() if is_it)}"
    if name not in WRITABLE:
        raise ValueError(
            f"`layout` must be 'huggingface' or one of {', '.join(WRITABLE)}. "
            f"Received: layout={name!r}"
        )
    layout = LAYOUTS[name]
    needs = {**NEEDS, **layout.needs}
    for weight, more in layout.needs_with.items():
        needs |= more if weight in shapes_of(config) else {}
    if config.representation_size is None:
        needs.pop("representation_activation")
    wrong = [
        f"{field}={getattr(config, field)!r} (must be {' or '.join(map(str, valid))})"
        for field, valid in needs.items()
        if getattr(config, field) not in [None if v == "None" else v for v in valid]
    ]
    inner = config.head_dim and config.head_dim * config.num_heads
    if inner and inner != config.hidden_size:
        wrong.append(f"head_dim={config.head_dim} (must be hidden_size / num_heads)")
    if wrong:
        raise CheckpointError(
            f"the layout {name} cannot express this model: {'; '.join(wrong)}"
        )
    for field, value in layout.fixed.items():
        if getattr(config, field) != value:
            warnings.warn(
                f"{name} computes with {field}={value}, the model with "
                f"{getattr(config, field)}: outputs there will differ slightly",
                stacklevel=3,
            )
    return layout


def _arrays(model, config, layout) -> dict[str, np.ndarray]:
    """Return every array of the file, in the table's order."""
    weights = {
        weight.path: np.asarray(keras.ops.convert_to_numpy(weight.value), "float32")
        for weight in model.weights
        if "seed_generator" not in weight.path
    }
    missing = sorted(shapes_of(config).keys() - weights.keys())
    if missing:
        raise CheckpointError(
            f"'{model.name}' lacks {len(missing)} weights that its configuration has: "
            f"{', '.join(missing[:8])}"
        )
    _move_bias(weights, config, layout)
    _move_positions(weights, config, layout)
    sizes = {**sizes_of(config), "T": 0}
    arrays, written = {}, set()
    for row in layout.rows:
        blocks = range(config.num_layers) if "{i}" in row.theirs else (None,)
        for i in () if row.stacked else blocks:
            paths = row.weights(i, config.num_layers)
            if written.isdisjoint(paths) and weights.keys() >= set(paths):
                values = [weights[path] for path in paths]
                array = to_theirs(values, row.axes[0], paths[0], sizes)
                name = layout.full_name(row.theirs.replace("{i}", str(i)), config)
                arrays[name] = np.ascontiguousarray(array)
                written.update(paths)
    left = sorted(p for p in weights.keys() - written if not _is_zero(p, weights[p]))
    if left:
        raise CheckpointError(
            f"the layout {layout.name} has no name for {len(left)} weights of "
            f"'{model.name}': {', '.join(left[:8])}"
        )
    return arrays


def _is_zero(path, value):
    """Return whether it is a bias that the library has not, and does not miss."""
    return path in OPTIONAL_BIASES and not value.any()


def _move_bias(weights, config, layout):
    """Add the bias of the patches to their positions, for a layout without it."""
    if layout.biasless in weights:
        patches = config.grid[0] * config.grid[1]
        positions = weights[POSITIONS].copy()
        positions[:, -patches:] += weights.pop("embedding/bias")
        weights[POSITIONS] = positions


def _move_positions(weights, config, layout):
    """Keep positions of exactly the prefix tokens that have them in the layout.

    Other tokens' positions are added to the tokens, and missing ones become zeros.
    """
    wanted = layout.position_tokens
    if wanted is None or POSITIONS not in weights:
        return
    embedding = weights[POSITIONS][0]
    patches = config.grid[0] * config.grid[1]
    prefix, rows = embedding[: len(embedding) - patches], []
    for name in ("class_token", "distillation_token", "register_tokens"):
        path = f"{name}/token"
        if path not in weights:
            continue
        token = weights[path]
        positions = np.zeros_like(token[0])
        if config.position_prefix:
            positions, prefix = prefix[: token.shape[1]], prefix[token.shape[1] :]
        if name in wanted:
            rows.append(positions)
        else:
            weights[path] = token + positions
    weights[POSITIONS] = np.concatenate([*rows, embedding[-patches:]])[None]

"""Every ViT of timm, made small, saved as timm does and loaded: equal, or refused."""

import collections
import functools
import inspect
import json
import pathlib
import re
import sys
import tempfile

import numpy as np

import vit_keras
from tests.models import run
from tests.vit_keras.weights.compared import images, run_torch
from vit_keras import CheckpointError
from vit_keras.weights.describe import describe
from vit_keras.weights.loader import find
from vit_keras.weights.recognise import recognise

FAMILIES = ("vit_", "deit", "eva", "beit", "samvit", "naflexvit", "flexivit")
FAMILIES += ("test_vit",)
HEAD_DIM = 8  # rotary positions ask for a multiple of 4
GRID = 3
# Of the outputs' largest value: the same sums in another order, in float32, over two
# blocks, a head and norms of small tokens.
TOLERANCE = 2e-5
# Arguments with which a VisionTransformer is one of ours.
OURS = {"init_values", "class_token", "global_pool", "reg_tokens", "no_embed_class"}
OURS |= {"pre_norm", "fc_norm", "qkv_bias", "qk_norm", "act_layer", "norm_layer"}
OURS |= {"scale_attn_norm", "scale_mlp_norm", "pool_include_prefix"}
OURS |= {"dynamic_img_size", "weight_init", "mlp_layer", "block_fn"}
SIZES = {"img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio"}
SIZES |= {"pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}


# Parts of the names of what makes the tokens, in timm and in transformers.
TOKENS = ("patch_embed", "cls_token", "reg_token", "dist_token", "pos_embed")
TOKENS += ("embeddings.",)


def names_of(timm):
    """The names of all its ViTs, hybrids too."""
    return [name for name in timm.list_models() if name.startswith(FAMILIES)]


class Made(Exception):
    """In place of a model: its class, and the arguments for it."""


def arguments_of(timm, monkeypatch, name):
    """The class and the arguments that a name stands for, without making the model."""

    def stop(cls, variant, pretrained, **arguments):
        raise Made(cls, arguments)

    entry = timm.model_entrypoint(name)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[entry.__module__], "build_model_with_cfg", stop)
        try:
            timm.create_model(name)
        except Made as made:
            cls, arguments = made.args
    ignored = {"pretrained_filter_fn", "pretrained_strict", "feature_cfg"}
    ignored.add("pretrained_custom_load")
    return cls, {k: v for k, v in arguments.items() if k not in ignored}


def is_ours(cls, arguments):
    """Whether these are the arguments of a network that ours computes, too."""

    def said(name):
        return _said(arguments.get(name))

    if said("norm_layer") not in ("None", "LayerNorm"):
        return False
    if cls.__name__ == "Eva":
        ratio = arguments.get("mlp_ratio", 4)
        return (
            said("rope_type") in ("None", "dinov3")
            and "num_kv_heads" not in arguments
            and arguments.get("use_post_transformer_norm", True)
            and arguments.get("attn_pool_mlp_ratio", ratio) == ratio
        )
    return (
        cls.__name__ in ("VisionTransformer", "VisionTransformerDistilled")
        and arguments.keys() <= OURS | SIZES
        and said("block_fn") in ("None", "ResPostBlock")
        and said("mlp_layer") in ("None", "GluMlp")
    )


def signature(cls, arguments, said):
    """Equal for names that stand for the same, but for sizes, and are read the same."""
    rest = {k: _said(v, whole=True) for k, v in arguments.items() if k not in SIZES}
    heads = isinstance(said, dict) and said.get("num_heads") == arguments["num_heads"]
    said = {**said, "num_heads": heads} if isinstance(said, dict) else said
    return cls.__name__, repr(sorted(rest.items())), repr(said)


def _said(value, whole=False):
    """What an argument is, without the addresses of its parts."""
    if isinstance(value, functools.partial):
        more = str(value.keywords) if whole else ""
        return f"{value.func.__name__}{more}"
    if inspect.isclass(value) or inspect.isfunction(value):
        return value.__name__
    return "a module" if hasattr(value, "parameters") else str(value)


def small(timm, monkeypatch, name, **changes):
    """A model with the name's network and few, narrow blocks, every weight drawn."""
    _, arguments = arguments_of(timm, monkeypatch, name)
    config = arguments.get("cfg")
    heads = arguments.get("num_heads", getattr(config, "num_heads", 12))
    patch = arguments.get("patch_size", getattr(config, "patch_size", 16))
    sizes = {"depth": 2, "embed_dim": HEAD_DIM * heads, "num_classes": 7}
    if config is None:
        sizes["img_size"] = GRID * patch
    if isinstance(arguments.get("num_kv_heads"), tuple):
        sizes["num_kv_heads"] = arguments["num_kv_heads"][:2]
    if "global_attn_indexes" in arguments:
        sizes["global_attn_indexes"] = [1]
    if "embed_layer" in arguments:  # a convolutional network in front
        sizes |= {"img_size": 64, "embed_dim": arguments["embed_dim"]}
    return filled(timm.create_model(name, **sizes | changes))


def filled(module, seed=3):
    """Draws all weights: norms around 1; small tokens, for which epsilon counts."""
    import torch

    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            if not tensor.dtype.is_floating_point:
                continue
            value = rng.standard_normal(tuple(tensor.shape))
            if tensor.ndim >= 2 and "token" not in name and "position" not in name:
                value /= np.sqrt(np.prod(tensor.shape[1:]))
            else:
                value *= 0.2
            if any(part in name for part in TOKENS):
                value *= 0.02
            elif tensor.ndim == 1 and name.endswith("weight"):
                value += 1
            tensor.copy_(torch.from_numpy(np.asarray(value)))
    return module.eval()


def save(module, folder, *, arguments=True):
    """Writes a folder as timm does; without `model_args`, as its own ones on a hub."""
    import timm
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {n: t.contiguous() for n, t in module.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    timm.models._hub.save_config_for_hf(module, folder / "config.json")
    if not arguments:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        size = config.pop("model_args", {}).get("img_size")
        if size is not None:
            size = size if isinstance(size, list) else [size, size]
            config["pretrained_cfg"]["input_size"][1:] = size
        path.write_text(json.dumps(config))
    return folder


def outcome(module, folder, *, named=True):
    """`("equal" | "refused" | "wrong", why)` of a model, in both kinds of folders.

    Without `named` in that with `model_args` alone: the name does not say all.
    """
    whole = save(module, folder / "whole")
    paths = [whole]
    if named:
        paths.append(save(module, folder / "named", arguments=False))
    found = []
    for path in paths:
        try:
            found.append(describe(recognise(find(path))))
        except CheckpointError as error:
            found.append(str(error).replace(str(path), "it"))
    if isinstance(found[-1], str):
        return ("refused" if isinstance(found[0], str) else "wrong"), found[-1]
    if found[0] != found[-1]:
        return "wrong", f"other settings without `model_args`: {found}"
    try:
        ours = vit_keras.from_checkpoint(whole)
    except CheckpointError as error:
        return "refused", str(error)
    height, width = ours.config.image_size
    x = images(height, width, ours.config.channels)
    expected = run_torch(module, x).numpy()
    error = np.abs(run(ours, x) - expected).max() / np.abs(expected).max()
    return ("equal" if error < TOLERANCE else "wrong"), f"{error:.1e}"


def rows(timm, monkeypatch, names, folder):
    """`{name: (outcome, why)}`, the table of what is loaded."""
    return {
        name: outcome(small(timm, monkeypatch, name), folder / name) for name in names
    }


def as_table(found):
    """Lines of a Markdown table of what `rows` gave, without what differs by chance."""
    for name, (result, why) in sorted(found.items()):
        reason = why.split("which this package does not have: ")[-1]
        reason = re.sub(r"\s+", " ", reason.replace("|", "\\|"))
        yield f"| {name} | {result} | {reason if result == 'refused' else ''} |"


def main():
    """Print the document on every ViT of timm, `docs/reference/timm.md`."""
    import pytest

    from tests import peers

    peers.without_torchvision()
    import timm

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        found = rows(timm, patch, names_of(timm), pathlib.Path(folder))
    number = collections.Counter(result for result, _ in found.values())
    print("# timm's Vision Transformers\n")
    print(
        "What `vit_keras.from_checkpoint` makes of each architecture of timm "
        f"{timm.__version__}, hybrids\nincluded: made small, with random weights, "
        "saved as timm saves it, with and without\n`model_args`. "
        + ", ".join(f"{count} {result}" for result, count in sorted(number.items()))
        + ". Equal is within 2e-5 of the largest output.\n\n"
        "    python -m tests.vit_keras.weights.against_timm > docs/reference/timm.md\n"
    )
    print("| architecture | result | why |\n|---|---|---|")
    print("\n".join(as_table(found)))


if __name__ == "__main__":
    main()

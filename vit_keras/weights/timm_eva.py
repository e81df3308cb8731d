"""Fields of `ViTConfig` from the arguments of timm's class `Eva`.

EVA, EVA-02, DINOv3, Perception Encoder and RoPE-ViT are of this class.
"""

from collections.abc import Mapping
from typing import Any

from ..rotary_positions import ROTARY
from .entries import CheckpointError
from .known_settings import one_of

# {argument: attribute of `Rotary`, {value: that attribute's}}
CHOICES = {
    "rope_type": ("coordinates", {"cat": "index", "dinov3": "centred"}),
    "rope_grid_indexing": ("first", {"ij": "y", "xy": "x"}),
    "rope_rotate_half": ("pairs", {True: "halves", False: "adjacent"}),
}
# The class' own convention, which the arguments change.
DEFAULT = "eva02"


def read_eva(model: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Read what arguments of `Eva` change in the fields of a name.

    Arguments:
        model: `model_args` of the settings, without those that are None.
        named: fields that the architecture's name implies.

    Raises:
        CheckpointError: rotary positions that are in no row of `ROTARY`.
    """
    fields: dict[str, Any] = {}
    if "swiglu_mlp" in model:
        fields["mlp_activation"] = "silu" if model["swiglu_mlp"] else "gelu"
    if "use_post_norm" in model:
        fields["post_norm"] = bool(model["use_post_norm"])
    if "use_abs_pos_emb" in model:
        fields["positions"] = "learned" if model["use_abs_pos_emb"] else "none"
    if "attn_pool_num_heads" in model:
        fields["pool_heads"] = int(model["attn_pool_num_heads"])
    if not model.get("use_rot_pos_emb", bool(named.get("rotary"))):
        nothing = dict.fromkeys(("rotary", "rotary_temperature", "rotary_grid"))
        return fields | (nothing if named.get("rotary") else {})
    return fields | _rotary(model, named)


def _rotary(model, named):
    """Return the fields of rotary positions: a name's, changed by arguments."""
    row = ROTARY[named.get("rotary") or DEFAULT]
    wanted = {"offset": float(model.get("rope_grid_offset", row.offset))}
    for name, (attribute, values) in CHOICES.items():
        value, wanted[attribute] = model.get(name), getattr(row, attribute)
        if value is not None:
            wanted[attribute] = one_of(f"`{name}`", value, values)
    kinds = [
        kind
        for kind, found in ROTARY.items()
        if all(getattr(found, name) == value for name, value in wanted.items())
    ]
    if not kinds:
        given = [f"{n}={v!r}" for n, v in model.items() if n.startswith("rope_")]
        raise CheckpointError(
            f"rotary positions with {', '.join(given)} are none of "
            f"{', '.join(ROTARY)}, which the models of this package have"
        )
    found = ROTARY[kinds[0]]
    temperature = float(model.get("rope_temperature", row.temperature))
    grid = model.get("ref_feat_shape", named.get("rotary_grid"))
    return {
        "rotary": kinds[0],
        "rotary_temperature": temperature if temperature != found.temperature else None,
        "rotary_grid": grid if found.coordinates == "index" else None,
    }


def check_pooling(fields: Mapping[str, Any], prefix: bool, eva: bool) -> dict[str, Any]:
    """Return the fields that only attention pooling has.

    Arguments:
        fields: all others.
        prefix: whether `VisionTransformer` is told to pool all tokens.
        eva: whether the network is an `Eva`, whose pooling always reads all tokens.

    Raises:
        CheckpointError: a pooling that no model of this package has.
    """
    pooling = fields.get("pooling")
    if pooling == "map":
        if eva and fields.get("mlp_activation") == "silu":
            raise CheckpointError(
                "`global_pool` must not be 'map' with gates in the MLP: here the MLP "
                "of the pooling has the activation of the blocks, in timm GELU"
            )
        return {"pool_prefix": eva or prefix, "pool_heads": fields.get("pool_heads")}
    if prefix and pooling in ("gap", "max"):
        raise CheckpointError(
            "`pool_include_prefix` must be False for another pooling than 'map': "
            "means and maxima here are of patches alone"
        )
    return {"pool_prefix": False, "pool_heads": None}

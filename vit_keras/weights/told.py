"""What the JSON files beside the arrays tell, and what nothing tells."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..config import as_pair
from . import decoder_settings, family_settings, keras_hub_settings, settings
from .entries import CheckpointError
from .known_settings import check_arrays
from .open_clip_settings import FILE as OPEN_CLIP
from .open_clip_settings import VISION, read_open_clip, vision_of

if TYPE_CHECKING:
    from ..config import ViTConfig
    from .formats import Checkpoint
    from .layout import Layout
    from .recognise import Match

# By `Layout.settings`.
READERS = {
    **settings.READERS,
    **family_settings.READERS,
    **keras_hub_settings.READERS,
    **decoder_settings.READERS,
    "open_clip": read_open_clip,
}
CHECKED = {
    **settings.CHECKED,
    **family_settings.CHECKED,
    **keras_hub_settings.CHECKED,
}
PAIRS = {"image_size", "patch_size"}


# What settings of other types and sizes may raise.
KINDS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


def is_readable(reader: str | None, settings: Mapping[str, dict]) -> bool:
    """Return whether a layout's reader is for the library whose settings these are.

    Arguments:
        reader: `Layout.settings`.
        settings: JSON files beside the weights, by name.
    """
    model = settings.get("config.json", {})
    if OPEN_CLIP in settings:
        return reader == "open_clip"
    if "architecture" in model:
        return reader == "timm"
    if "class_name" in model:  # Keras' description of a model
        return (reader or "").startswith("keras_hub")
    return "model_type" not in model or (reader or "").startswith("huggingface")


def read_settings(
    checkpoint: "Checkpoint",
    layout: "Layout",
    sizes: Mapping[str, int],
    weights: Mapping[str, str],
    *,
    accept: bool = False,
) -> dict[str, Any]:
    """Read the JSON files beside a checkpoint.

    Arguments:
        checkpoint: the open file.
        layout: of its arrays.
        sizes, weights: of the arrays, as in `Match`.
        accept: take names and settings that are not known.

    Returns:
        Fields of `ViTConfig`; none without files.

    Raises:
        CheckpointError: a setting is unknown, cannot be read, is of another network or
            contradicts the arrays; the message names it, its value and the valid ones.
    """
    if layout.settings is None:
        return {}
    if layout.settings == "huggingface" and "pre_logits/kernel" in weights:
        if "class_token/token" not in weights:
            raise CheckpointError(
                f"'{checkpoint.path}' has a pooler and no class token: that of I-JEPA, "
                "which reads the first patch, as no head here does"
            )
    files = dict(checkpoint.settings)
    try:
        told = READERS[layout.settings](files, accept=accept)
        for name in PAIRS & told.keys():
            told[name] = as_pair(name, told[name])
        if layout.settings in CHECKED and "config.json" in files:
            part, known = CHECKED[layout.settings]
            check_arrays(part(files["config.json"]), known, sizes, weights)
        check_arrays(vision_of(files), VISION, sizes, weights)
        positions = weights.get("posembed_input/embedding")
        if positions and told.get("positions", "learned") != "learned":
            raise CheckpointError(f"the network has no positions, the file {positions}")
    except KINDS as error:
        raise CheckpointError(
            f"the settings beside '{checkpoint.path}' cannot be used "
            f"({', '.join(files)}): {error}"
        ) from error
    return told


def undecided(
    checkpoint: "Checkpoint",
    layout: "Layout",
    sizes: Mapping[str, int],
    weights: Mapping[str, str],
    told: Mapping[str, Any],
) -> tuple[str, ...]:
    """Return the fields of `ViTConfig` that nothing in a checkpoint decides.

    For these the layout has the default of its library. A published file is known.

    Arguments:
        checkpoint, layout, sizes, weights: as in `read_settings`.
        told: what that returned.
    """
    if checkpoint.config is not None or checkpoint.preprocessing is not None:
        return ()
    known = layout.decided_by in told  # the JSON names it, with all its defaults
    fields = [] if known else list(layout.undecided)
    if not sizes.keys() & {"H", "d"}:
        fields.append("num_heads")
    if not layout.without_positions and "posembed_input/embedding" not in weights:
        fields.append("positions")
    if weights.keys() & {"pooling/probe", "head_dist/kernel"}:
        fields = [name for name in fields if name != "pooling"]
    if "head/kernel" not in weights and "activation" in fields:
        fields.remove("activation")
    if "pooling/probe" not in weights:
        fields = [name for name in fields if not name.startswith("pool_")]
    return tuple(name for name in fields if name not in told)


def check_assumed(
    undecided: Sequence[str], assume: Mapping[str, Any] | None, path: Any
) -> None:
    """Refuse assumptions on what a checkpoint decides.

    Arguments:
        undecided: fields that it does not decide.
        assume: fields that the user states.
        path: of the checkpoint.

    Raises:
        ValueError: `assume` has another field; the message lists the valid ones.
    """
    wrong = [name for name in assume or () if name not in undecided]
    if wrong:
        valid = ", ".join(undecided) or "none, it decides all"
        raise ValueError(
            f"`assume` must hold fields that '{path}' does not decide: {valid}. "
            f"Received: {', '.join(wrong)}; what differs from the file is an argument "
            "of its own"
        )


def check_classifier(match: "Match", given: Mapping[str, Any]) -> None:
    """Refuse a classifier that reads something else than any head here.

    Arguments:
        match: from `recognise`.
        given: fields of `ViTConfig` that override the file.

    Raises:
        CheckpointError: the file has one, and `given` says nothing of it.
    """
    new = given.get("include_top") and "classes" in given
    if "head/kernel" not in match.misfits or new or given.get("include_top") is False:
        return
    name, width = match.weights["head/kernel"], match.sizes["D"]
    read = match.shape("head/kernel")[-1]
    raise CheckpointError(
        f"'{match.checkpoint.path}': the classifier {name} reads {read} values, and a "
        f"token has {width}; as that of Dinov2, on the class token and the mean of the "
        "patches side by side, it is none of this package. task='features' or "
        "include_top=False leaves it out; include_top=True with `classes` makes a new "
        "one"
    )


def assumption(
    undecided: Sequence[str],
    config: "ViTConfig",
    stated: Collection[str],
    assume: Mapping[str, Any] | None = None,
    *,
    pooled: bool = True,
) -> str:
    """Say what was taken for fields that nothing decides.

    Arguments:
        undecided: these fields.
        config: of the model.
        stated: names of those that the user gave as arguments.
        assume: those of `assume`; none are said with an empty one.
        pooled: whether the model pools its tokens.

    Returns:
        Fields and values in one line; "" if there are none to say.
    """
    if assume is not None and not assume:
        return ""
    names = [n for n in undecided if n not in stated and n not in (assume or {})]
    if not pooled and "pooling" in names:
        names.remove("pooling")
    return ", ".join(f"{n}={_short(getattr(config, n))}" for n in names)


def _short(value):
    mean = getattr(value, "mean", None)
    return f"Preprocessing(mean={mean}, ...)" if mean is not None else repr(value)

"""What a recipe may say for a head: fields that the head's training does not use."""

from ..decoder_sizes import OF_DECODERS
from ..heads import HEADS
from .class_weights import check_class_weights
from .recipe import Recipe

# The only value of a field, by head.
_OF_MAPS = {
    **{"crop": None, "shift": 0.0, "erase": 0.0, "mixup": 0.0, "cutmix": 0.0},
    **{"repeats": 1, "label_smoothing": 0.0, "probe_rates": None},
}
NEEDED = {
    "regression": {"label_smoothing": 0.0, "cutmix": 0.0, "loss": "softmax"},
    "segmentation": _OF_MAPS,
    # A thing that looks larger is nearer, so that photographs keep their scale.
    "depth": {**_OF_MAPS, "loss": "softmax", "scale": None},
}
REASONS = {"regression": "it is for classes"}
# Heads of other losses do not read `Recipe.loss`.
LOSSES_OF = {"segmentation": ("softmax", "dice", "softmax_dice")}


def check_objective(recipe: Recipe, head: str) -> None:
    """Check that a recipe's fields can be those of a head.

    Raises:
        ValueError: one would be lost, or means nothing.
    """
    if recipe.teacher is not None and head != "softmax":
        raise ValueError(
            "`teacher` must be None unless the head is softmax: distillation compares "
            f"classes of which one is right. Received: head={head!r}"
        )
    check_class_weights(recipe, head)
    needed = dict(NEEDED.get(head, {}))
    if not HEADS[head].dense:
        needed["scale"] = None
        given = [name for name in OF_DECODERS if name in recipe.model]
        if given:
            raise ValueError(
                f"`model` must not hold {given[0]!r} for head={head!r}: only the tasks "
                f"segment and depth have a decoder. Received: model={recipe.model!r}"
            )
    if recipe.model.get("depth_type", "metric") != "metric":
        raise ValueError(
            "`model` must not hold another depth_type than 'metric': training compares "
            f"outputs with distances. Received: {recipe.model['depth_type']!r}"
        )
    wrong = {n: v for n, v in needed.items() if getattr(recipe, n) != v}
    if wrong:
        names = ", ".join(f"`{name}`" for name in wrong)
        valid = ", ".join(map(str, wrong.values()))
        sets = " ".join(
            f"--set {n}={'null' if v is None else v}" for n, v in wrong.items()
        )
        given = ", ".join(f"{name}={getattr(recipe, name)!r}" for name in wrong)
        reason = REASONS.get(head, "this head has no use for it")
        raise ValueError(
            f"{names} must be {valid} for head={head!r}, because {reason} ({sets}). "
            f"Received: {given}"
        )
    losses = LOSSES_OF.get(head, ("softmax", "sigmoid"))
    if recipe.loss not in losses:
        raise ValueError(
            f"`loss` must be one of {', '.join(losses)} for head={head!r}. "
            f"Received: loss={recipe.loss!r}"
        )
    if recipe.loss == "dice" and recipe.class_weights is not None:
        raise ValueError(
            "`class_weights` must be None for loss='dice', which counts each class "
            f"alike. Received: class_weights={recipe.class_weights!r}"
        )

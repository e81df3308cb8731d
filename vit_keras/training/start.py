"""The model that a run starts with: of random weights, or of a checkpoint's."""

import dataclasses
from typing import Any

from ..config import ViTConfig
from ..decoder_sizes import OF_DECODERS
from ..heads import HEADS
from ..labels import indices_of
from ..model import as_trained, configure, create_model
from ..network import VisionTransformer, build_network
from ..presets import get_config
from ..weights.describe import describe, tells_heads
from ..weights.formats.keras_file import is_own
from ..weights.loader import apply, find
from ..weights.recognise import Match, recognise, take_classes
from ..weights.told import assumption
from .recipe import Recipe

# Blocks that a new decoder reads: tokens of four, each through the last norm, are worth
# more than a larger decoder (DINOv2, arXiv 2304.07193, section 7.4, and measured here).
TAPS = 4


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run's model is built from.

    Attributes:
        config: of the model.
        arguments: of `create_model`, for a model without a recognised checkpoint.
        match: the recognised checkpoint, with the classes of the data alone, or None.
        head: whether its head is kept.
        said: what was taken from it, in words; "" without one.
    """

    config: ViTConfig
    arguments: dict[str, Any]
    match: Match | None = None
    head: bool = False
    said: str = ""

    def build(self, name: str) -> VisionTransformer:
        """Build the model, with the checkpoint's weights.

        Raises:
            CheckpointError: they do not fit.
        """
        task = HEADS[self.config.head].task
        if self.match is None:
            return create_model(**self.arguments, task=task, name=name)
        model = build_network(self.config, task, name)
        apply(self.match, model, self.config, head=self.head, chosen=True)
        return model


def open_start(
    recipe: Recipe, classes: tuple[str, ...], head: str = "softmax"
) -> Start:
    """Configure a run's model for the classes of its data.

    A checkpoint's head is kept if it is of the same kind, and its labels have all
    classes of the data, of which then each takes its own output; or if it has no
    labels, but as many outputs. Otherwise the head is new. A decoder is kept like a
    head, if the recipe asks for no other. Images of a segmentation are stretched to the
    input, so that all of each is seen; a new decoder reads `TAPS` blocks of a
    checkpoint if the recipe does not say which.

    Arguments:
        recipe: gives `preset`, `model`, `weights`.
        classes: names of the classes, labels or values.
        head: of the data, a name in `HEADS`.

    Raises:
        ValueError, FileNotFoundError, CheckpointError: as for `create_model`.
    """
    outputs = HEADS[head].outputs(len(classes))
    arguments = {**recipe.model_arguments(outputs, head), "labels": tuple(classes)}
    weights, preset = arguments["weights"], arguments["preset"]
    if preset is None and (weights is None or is_own(weights)):
        raise ValueError(
            "`weights` must be a checkpoint that tells the architecture, or `preset` "
            f"be given. Received: weights={weights!r}, preset=None"
        )
    if weights is None or is_own(weights):
        config = _whole_images(configure(**arguments), recipe)
        arguments["preprocessing"] = config.preprocessing
        return Start(config, arguments)
    match = recognise(find(weights))
    given = {name: v for name, v in recipe.model.items() if name != "head"}
    if preset is not None and not tells_heads(match):
        given.setdefault("num_heads", get_config(preset).num_heads)
    stored = describe(match, **given)
    same, kept, said = _kept_classes(match, stored, classes, head)
    told = ["classes", "head", "activation", "labels"]
    if HEADS[head].dense:
        plain = {name: v for name, v in given.items() if name not in OF_DECODERS}
        own = describe(match, **plain)
        same, kept, said = _kept_decoder(own, stored, same, kept, said)
        if not same and not HEADS[own.head].dense:
            given.setdefault("taps", min(TAPS, stored.num_layers))
        if same and stored.depth_type == "inverse":
            raise ValueError(
                "`weights` must give distances, as the data has: those of "
                f"{weights} give inverse depths without scale and shift. "
                "model={'depth_type': 'metric'} (--set model.depth_type=metric) trains "
                "a new decoder on its encoder"
            )
        if same and head == "depth" and own.activation != "linear":
            told.remove("activation")
    if kept is not None:
        match = take_classes(match, kept)
    given |= {"include_top": True, **{name: arguments[name] for name in told}}
    if stored.pooling is None:
        given.setdefault("pooling", "token" if stored.class_token else "gap")
    if not same:  # what belongs to a dropped head or decoder
        for name in ("representation_size", "max_depth"):
            given.setdefault(name, None)
        given.setdefault("depth_type", "metric")
    if preset is None:
        config = describe(match, **given)
    else:
        config = as_trained(match, get_config(preset).replace(**given), given)
    config = _whole_images(config, recipe)
    said = f"weights of {weights} (layout {match.layout.name}), {said}"
    assumed = assumption(match.undecided, config, given)
    said += f"; assumed: {assumed}" if assumed else ""
    return Start(config, arguments, match, same, said)


def _whole_images(config, recipe):
    """Return a configuration that sees all of an image, if it is for segmentation."""
    if config.head != "segmentation" or "preprocessing" in recipe.model:
        return config
    whole = dataclasses.replace(config.preprocessing, crop=1.0, resize="stretch")
    return config.replace(preprocessing=whole)


def _kept_decoder(own, stored, same, kept, said):
    """As `_kept_classes`, after a look at the decoder.

    `own` is the configuration of the file, `stored` has what the recipe asks for.
    """
    if not same:
        return same, kept, said.replace("a new head", "a new decoder")
    for name in OF_DECODERS:
        before, after = getattr(own, name), getattr(stored, name)
        if name == "taps":
            before, after = own.tap_blocks, stored.tap_blocks
        if before != after:
            why = f"its {name} is {before}, not {after}"
            return False, None, f"a new decoder: {why}"
    order = kept is None or list(kept) == list(range(stored.classes))
    if not order and stored.decoder == "eomt":  # which has one class more, of nothing
        return False, None, "a new decoder: its classes are others"
    return (
        True,
        None if order else kept,
        said.replace("its head too", "its decoder too"),
    )


def _kept_classes(match, stored, classes, head):
    """Return whether a checkpoint's head is kept, which of its classes, and words."""
    kind = HEADS[head]
    outputs = kind.outputs(len(classes))
    new = f"a new head for {len(classes)} {kind.things}"
    if not stored.include_top:
        return False, None, f"{new}: it has none"
    units = match.sizes.get("F") if "pre_logits/kernel" in match.weights else None
    if stored.representation_size != units:
        asked = stored.representation_size
        return False, None, f"{new}: its representation_size is {units}, not {asked}"
    if stored.head != head:
        return False, None, f"{new}: its own is {stored.head}, not {head}"
    if stored.labels is None or kind.binary:
        if stored.classes != outputs:
            return False, None, f"{new}: its own has {stored.classes}"
        if stored.labels not in (None, tuple(classes)):
            return False, None, f"{new}: its own has {', '.join(stored.labels)}"
        names = "without" if stored.labels is None else "with the same"
        return True, None, f"its head too: {outputs} outputs, {names} names"
    kept = indices_of(classes, stored.labels)
    if kept is None:
        missing = next(n for n in classes if stored.labels.count(n) != 1)
        why = "is not one of its labels"
        if missing in stored.labels:
            why = "stands there twice"
        return False, None, f"{new}: '{missing}' {why}"
    some = f"{len(kept)} of its {stored.classes} {kind.things}"
    return True, kept, f"its head too: {some}"

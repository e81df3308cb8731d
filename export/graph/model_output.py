"""What a model's outputs mean: the kind of its head, and what is applied already."""

import dataclasses
from typing import Any

from vit_keras import ViTConfig
from vit_keras.heads import HEADS, Head, check_head

from .open_source import TracedFile

# Operators of a float file that end a model.
LAST = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}
UNKNOWN = (
    "what the one output means, a class or a value, is not known, and not said in the "
    'artefact: give `head`, "sigmoid" or "regression"'
)


@dataclasses.dataclass(frozen=True)
class ModelOutput:
    """What a model's outputs mean.

    Attributes:
        shape: (None, ...).
        head: a name in `vit_keras.heads.HEADS`; None for features, tokens, maps of
            models of other layers, and one output that nothing describes.
        activation: what the last layer has applied, such as "softmax"; "linear" for
            logits and values.
        described: whether nothing about them is left open.
        depth_type: of the head "depth", see `ViTConfig`; None where nothing says it.
    """

    shape: tuple[int | None, ...]
    head: str | None
    activation: str
    described: bool = True
    depth_type: str | None = None

    @property
    def kind(self) -> Head | None:
        """The row in `HEADS`."""
        return None if self.head is None else HEADS[self.head]

    @property
    def classifies(self) -> bool:
        """Whether the outputs are classes or labels of an image, with probabilities."""
        kind = self.kind
        return bool(kind and kind.probability and kind.task == "classify")

    @property
    def segments(self) -> bool:
        """Whether the outputs are classes of each pixel."""
        return self.kind is not None and self.kind.task == "segment"

    @property
    def is_probability(self) -> bool:
        """Whether the outputs are probabilities already, not logits."""
        return self.kind is not None and self.activation == self.kind.probability

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        return () if self.described else (UNKNOWN,)

    @property
    def names(self) -> int:
        """How many names the outputs have."""
        size: Any = self.shape[-1]
        return size if self.kind is None else self.kind.names(size)


def read_model_output(model: Any, head: str | None = None) -> ModelOutput:
    """Find out what a functional model's outputs mean.

    A ViT of this package says it in its configuration. Else the last layer does: a
    softmax is one class of many; a sigmoid one of two, or labels if there are several;
    several other outputs are taken for logits of classes. A `ViTConfig` of the default
    head with a sigmoid is read like that, too.

    Arguments:
        model: functional, with one output.
        head: what the user says, instead.

    Raises:
        ValueError: `head` does not fit the outputs.
    """
    shape, activation = tuple(model.output_shape), _last_activation(model)
    if head is not None:
        if head in HEADS and not _describes(head, shape):
            what = "vector" if HEADS[head].task == "classify" else "map (N, H, W, C)"
            raise ValueError(
                f"`head` must be None for a model with the output {shape}, which is no "
                f"{what} that it describes. Received: head={head!r}"
            )
        check_head(head, shape[-1], activation)
        if head == "softmax" and activation == "sigmoid":
            raise ValueError(
                "`head` must be multi_label for a model that ends in a sigmoid, whose "
                "outputs do not sum to 1. Received: head='softmax'"
            )
        return ModelOutput(shape, head, activation)
    config = _config(model)
    stated = "softmax" if config is None else config.head
    if HEADS[stated].task != "classify" and _describes(stated, shape):
        depth_type = config.depth_type if config and stated == "depth" else None
        return ModelOutput(shape, stated, activation, depth_type=depth_type)
    if len(shape) != 2 or _is_vector_of_features(model):
        return ModelOutput(shape, None, activation)
    if stated != "softmax":
        return ModelOutput(shape, stated, activation)
    several = (shape[1] or 0) > 1
    if activation == "sigmoid":
        return ModelOutput(shape, "multi_label" if several else "sigmoid", activation)
    return ModelOutput(shape, "softmax" if several else None, activation, several)


def _describes(head, shape):
    """Whether a head can have outputs of a shape."""
    kind, last = HEADS[head], shape[-1]
    if len(shape) != (2 if kind.task == "classify" else 4):
        return False
    if kind.task == "depth":
        return last == 1
    return kind.probability != "softmax" or last != 1


def _config(model):
    """The `ViTConfig` of the model, or of the one that it ends in, or None."""
    config = getattr(model, "config", None)
    if isinstance(config, ViTConfig):
        return config
    last = _last(model)
    return _config(last) if _is_model(last) else None


def _is_vector_of_features(model):
    config = _config(model)
    return config is not None and not config.include_top


def _last(model):
    return model.outputs[0]._keras_history.operation


def _is_model(layer):
    return hasattr(layer, "outputs") and hasattr(layer, "layers")


def _last_activation(model):
    """What a model applies last: "softmax", "sigmoid", another name, or "linear"."""
    last, config = _last(model), getattr(model, "config", None)
    if _is_model(last):
        return _last_activation(last)
    if isinstance(last, TracedFile):
        return LAST.get(last.graph.maker[last.graph.output].name, "linear")
    name = type(last).__name__.lower()  # of a layer, or of an operation of keras.ops
    if name in LAST.values():
        return name
    found = getattr(getattr(last, "activation", None), "__name__", "linear")
    if found == "linear" and isinstance(config, ViTConfig) and config.include_top:
        return config.activation  # of a model that is one layer, as `quantize_aware`'s
    return found


def check_labels(outputs: ModelOutput, labels: Any) -> list[str] | None:
    """Return labels as a list, after checking that there is one per class.

    Raises:
        ValueError: there is not, or what they name is not known.
    """
    if labels is None:
        return None
    if not outputs.described:
        raise ValueError(
            "`head` must be given with `labels` for a model of one output that does "
            'not tell what it means: "sigmoid" (two names) or "regression" (one)'
        )
    labels = [str(label) for label in labels]
    if len(labels) != outputs.names:
        each = "two classes for" if outputs.head == "sigmoid" else "one per"
        raise ValueError(
            f"`labels` must have {outputs.names} names, {each} output. "
            f"Received: {len(labels)}"
        )
    broken = [name for name in labels if "".join(name.splitlines()) != name]
    if broken:
        raise ValueError(f"`labels` must be one line each. Received: {broken[0]!r}")
    return labels

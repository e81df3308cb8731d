"""The ViT of a model as plain arrays, by its layers or by its traced graph."""

import dataclasses
from collections.abc import Callable
from typing import Any

from vit_keras.layers import Patches

from ..errors import UnsupportedOperators
from .find_vit import divide_at_vit
from .float_file import float_file
from .model_input import own_normalisation
from .read_vit import read_weights
from .recognition.function import ends_of, function_of, joined
from .recognition.recognise import recognise
from .recognition.traced_graph import TracedGraph, Unrecognised
from .source_model import gives_dict, in_float32
from .vit_weights import Weights

RAW = (
    "the decoder reads tokens that pass no norm (`tap_norm`), so the residual stream "
    "keeps its mean and its outliers, which cost int8 most of its accuracy"
)


@dataclasses.dataclass(frozen=True)
class FoundViT:
    """A ViT and the model around it.

    Attributes:
        weights: of the ViT, before any rewrite.
        around: function from an `InferenceViT` of these weights to the model with it:
            a function from float32 pixels (N, H, W, C) to the model's output.
        name: of the ViT.
        notes: what the user should know, one line each.
    """

    weights: Weights
    around: Callable[[Any], Callable[[Any], Any]]
    name: str
    notes: tuple[str, ...] = ()


def vit_by_layers(model: Any, preprocessing: Any) -> FoundViT:
    """Read the ViT of this package in a model.

    Arguments:
        model: what `as_functional` returns.
        preprocessing: `vit_keras.Preprocessing` to put inside, or None.

    Raises:
        Unrecognised: there is none, or its graph has no last norm.
    """
    parts = divide_at_vit(model)
    if parts is None:
        raise Unrecognised("no ViT of this package was found")
    own, normalisation = own_normalisation(model), None
    if not own.resizes and isinstance(own.reader, Patches):
        # What only normalises pixels goes into the first layer.
        parts = dataclasses.replace(parts, front=None)
        scale, offset = own.scale, own.offset
        if preprocessing is not None:
            first, added = preprocessing.scale_and_offset()
            scale, offset = first * scale, added * scale + offset
        if preprocessing is not None or not own.is_identity:
            normalisation, preprocessing = (scale, offset), None
    try:
        weights = read_weights(parts.vit, normalisation, parts.taps)
    except ValueError as error:
        raise Unrecognised(str(error)) from error

    def around(layer):
        return normalised(parts.around(layer), preprocessing)

    raw = parts.taps is not None and weights.norm is None
    return FoundViT(weights, around, parts.vit.name, (RAW,) if raw else ())


def vit_by_graph(model: Any, preprocessing: Any) -> FoundViT:
    """Recognise the ViT that any library made in the traced graph of a model.

    Arguments and errors are those of `vit_by_layers`.
    """
    try:
        shape = (1, *model.input_shape[1:])
        traced, several = as_it_is(model, preprocessing), gives_dict(model)
        content = float_file(joined(traced) if several else traced, shape)
        graph = TracedGraph(content)
        found = recognise(graph)
        ends = ends_of(graph, model.output) if several else None
    except UnsupportedOperators as error:  # whoever converts the model will say so
        raise Unrecognised(str(error)) from error
    config = found.weights.config
    plural = "s" if config.num_layers > 1 else ""
    said = (
        f"recognised a ViT of {config.num_layers} block{plural}, width "
        f"{config.hidden_size}, {config.num_heads} heads, in the traced graph"
    )
    return FoundViT(
        found.weights,
        lambda layer: function_of(graph, found, layer, ends),
        model.name,
        (said,),
    )


def normalised(function, preprocessing):
    """Prepend normalisation to a function of normalised images."""
    if preprocessing is None:
        return function
    scale, offset = (v.astype("float32") for v in preprocessing.scale_and_offset())
    return lambda images: function(images * scale + offset)


def as_it_is(model, preprocessing):
    """A function from float32 pixels (N, H, W, C) to a model's output, in float32 and
    without rewrites."""
    return normalised(in_float32(model), preprocessing)

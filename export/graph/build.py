"""Build the inference graph of a trained Keras model.

Its function takes raw pixels, with preprocessing inside. It computes in float32,
whatever precision the model was trained in, and never runs in training mode.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from vit_keras.layers import Patches

from ..targets import GraphOptions
from .find_vit import divide_at_vit
from .inference_layer import InferenceViT
from .model_input import own_normalisation
from .rewrites import FOR_INTEGERS, REWRITES, SHIFTS
from .source_model import in_float32
from .sparsity import keep_gammas, rewrites_that_break_sparsity
from .vit_weights import read_weights


@dataclasses.dataclass(frozen=True)
class Graph:
    """The computation of an artefact.

    Attributes:
        function: from float32 pixels (N, H, W, C) to the model's output. It has its own
            variables: the model is not changed.
        rewrites: names of the applied rewrites, in order.
        notes: what could not be applied, and why, one line each.
        layer: the `InferenceViT` inside, whose weights may be rounded further; None if
            there is none, or if its zeros or shared values must be kept.
    """

    function: Callable[[Any], Any]
    rewrites: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    layer: Any = None

    def with_notes(self, *notes: str) -> "Graph":
        """Return the same graph with more notes."""
        return dataclasses.replace(self, notes=(*self.notes, *notes))


# Relative to the output's range. Rounding gives 1e-6; more means that a layer was
# changed in a way that its configuration does not show.
EQUAL = 1e-4
NEAR = 1e-2  # with GELU in its tanh approximation
MEASURED_ON = 32  # images for the means of keys and values


def inference_graph(
    model, preprocessing, images, options: GraphOptions | None = None, integers=True
) -> Graph:
    """Build the inference graph of a model.

    The Vision Transformer in it is rewritten (`rewrites.py`); the layers around it, and
    a model without a ViT of this package, are kept unchanged.

    Arguments:
        model: what `as_functional` returns.
        preprocessing: `vit_keras.Preprocessing` to put inside, or None for none.
        images: (N, H, W, C), what the artefact takes, to measure and compare on.
        options: how the ViT is written; None for the common way.
        integers: whether it may be quantised; else what only helps integers is left
            out, and the weights are in memory once beside the model's.
    """
    parts = divide_at_vit(model)
    if parts is None:
        note = "no ViT of this package was found: the graph is converted as it is"
        return Graph(as_it_is(model, preprocessing), notes=(note,))
    parts, normalisation = _take_in(parts, own_normalisation(model), preprocessing)
    try:
        weights = read_weights(parts.vit, normalisation)
    except ValueError as error:
        return Graph(as_it_is(model, preprocessing), notes=(str(error),))
    undo, compressed = rewrites_that_break_sparsity(weights)
    if "fold_norms" in undo:
        keep_gammas(weights)
    undo += () if integers else FOR_INTEGERS
    allowed = {name: r for name, r in REWRITES.items() if name not in undo}
    done = [name for name, rewrite in allowed.items() if rewrite(weights)]
    layer = InferenceViT(weights, options, keep=integers, name=parts.vit.name)
    function = parts.around(layer)
    if normalisation is None:
        function = normalised(function, preprocessing)
    chosen = np.asarray(images[:MEASURED_ON], "float32")
    if integers:
        done += _shift(layer, function, chosen)
    as_trained = as_it_is(model, preprocessing)
    reference, rewritten = (
        np.concatenate([np.asarray(f(image[None])) for image in chosen[:4]])
        for f in (as_trained, function)
    )
    tolerance = EQUAL if layer.options.gelu == "builtin" else NEAR
    if np.abs(reference - rewritten).max() > tolerance * max(np.ptp(reference), 1e-6):
        note = "the ViT computes something else than its configuration says: its graph"
        return Graph(as_trained, notes=(f"{note} is converted as it is",))
    left_out = set(allowed) - set(done) - {"fold_layer_scale"}
    notes = (f"not applicable: {', '.join(sorted(left_out))}",) if left_out else ()
    notes += (compressed,) if compressed else ()
    return Graph(function, tuple(done), notes, None if undo else layer)


def _take_in(parts, own, preprocessing):
    """The parts of a model without what only normalises pixels, and that as numbers.

    Returns:
        (parts, (scale, offset) of the ViT's input, or None where it stays outside).
    """
    if own.resizes or not isinstance(own.reader, Patches):
        return parts, None
    scale, offset = own.scale, own.offset
    if preprocessing is not None:
        first, added = preprocessing.scale_and_offset()
        scale, offset = first * scale, added * scale + offset
    parts = dataclasses.replace(parts, front=None)
    if own.is_identity and preprocessing is None:
        return parts, None
    return parts, (scale, offset)


def _shift(layer, function, images):
    """Apply the rewrites that need the mean keys and values of images."""
    number = len(layer.source_weights.blocks)
    keys, values = [0.0] * number, [0.0] * number
    for image in images:
        layer.seen = []
        function(image[None])
        pairs = zip(layer.seen[1::3], layer.seen[2::3], strict=True)
        for i, (key, value) in enumerate(list(pairs)[:number]):
            keys[i] += np.asarray(key, "float64").mean((0, 1)).ravel() / len(images)
            values[i] += np.asarray(value, "float64").mean((0, 1)).ravel() / len(images)
    layer.seen = None
    means = {"shift_keys": keys, "shift_values": values}
    done = [n for n, shift in SHIFTS.items() if shift(layer.source_weights, means[n])]
    layer.update()
    return done


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

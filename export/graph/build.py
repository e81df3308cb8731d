"""Build the inference graph of a trained Keras model.

Its function takes raw pixels, with preprocessing inside. It computes in float32,
whatever precision the model was trained in, and never runs in training mode.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..targets import GraphOptions
from .found_vit import Unrecognised, normalised, vit_by_graph, vit_by_layers
from .inference_layer import InferenceViT
from .named_layer import NamedViT, with_inside
from .named_outputs import function_by_name
from .resizes import resizes, resizes_for
from .rewrites import FOR_INTEGERS, ONLY_IF_THERE, REWRITES
from .shifts import SHIFTS
from .source_model import gives_dict
from .sparsity import keep_gammas, rewrites_that_break_sparsity
from .stream_scale import scale_stream


@dataclasses.dataclass(frozen=True)
class Graph:
    """The computation of an artefact.

    Attributes:
        function: from float32 pixels (N, H, W, C) to the model's output, or to {name:
            output}. It has its own variables: the model is not changed.
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
    model,
    preprocessing,
    images,
    options: GraphOptions | None = None,
    integers=True,
    names: tuple[str, ...] | None = None,
) -> Graph:
    """Build the inference graph of a model.

    The Vision Transformer in it, known by its layers or recognised in the traced graph,
    is rewritten (`rewrites.py`); what is around it, and a model without a plain ViT,
    are kept unchanged.

    Arguments:
        model: what `as_functional` returns.
        preprocessing: `vit_keras.Preprocessing` to put inside, or None for none.
        images: (N, H, W, C), what the artefact takes, to measure and compare on.
        options: how the ViT is written; None for the common way.
        integers: whether it may be quantised; else what only helps integers is left
            out, and the weights are in memory once beside the model's.
        names: of the outputs, of `names_of_outputs`; None for one.

    Raises:
        ValueError: outputs inside the ViT are wanted of one that cannot be read.
    """
    if options is None or not resizes(model):
        return _graph(model, preprocessing, images, options, integers, names)
    allowed = options.resizes
    with resizes_for(model, allowed):
        graph = _graph(model, preprocessing, images, options, integers, names)

    def function(pixels):
        with resizes_for(model, allowed):
            return graph.function(pixels)

    return dataclasses.replace(graph, function=function)


def _graph(model, preprocessing, images, options, integers, names) -> Graph:
    inner = names is not None and not gives_dict(model)
    as_trained = normalised(function_by_name(model, names), preprocessing)
    notes, sources = [], (vit_by_layers, vit_by_graph)
    if inner or not integers:
        sources = (vit_by_layers,)
    chosen = np.asarray(images[:MEASURED_ON], "float32")
    for find in sources:
        try:
            found = find(model, preprocessing)
            graph = _rewritten(found, chosen, options, integers, inner and names)
            _check_equal(as_trained, graph, chosen, options)
            return graph
        except Unrecognised as error:
            notes.append(str(error))
    if inner:
        raise ValueError(f"`outputs` must be None for this model: {notes[-1]}")
    said = "no plain ViT, converted as it is" if integers else "written as it is"
    return Graph(as_trained, notes=(f"{said}: {notes[-1]}",))


def _rewritten(found, images, options, integers, names) -> Graph:
    """The graph with an `InferenceViT` of rewritten weights in the ViT's place, with
    outputs from inside it if there are names of them."""
    weights = with_inside(found.weights, names) if names else found.weights
    undo, compressed = rewrites_that_break_sparsity(weights)
    if "fold_norms" in undo:
        keep_gammas(weights)
    undo += () if integers else FOR_INTEGERS
    half = options is not None and options.half_floats
    # In front of a norm of pixels, whose squares would leave float16.
    kept = ("fold_input",) if half and weights.patch_norms else ()
    allowed = {n: r for n, r in REWRITES.items() if n not in (*undo, *kept)}
    done = [name for name, rewrite in allowed.items() if rewrite(weights)]
    made = {"keep": integers, "name": found.name}
    layer = (
        NamedViT(weights, options, names=names, **made)
        if names
        else InferenceViT(weights, options, **made)
    )
    function = found.around(layer)
    if integers:
        done += _shift(layer, function, images)
    scaled = None
    if integers and half:
        scaled = scale_stream(layer, function, images)
    left_out = set(allowed) - set(done) - set(ONLY_IF_THERE)
    notes = (f"not applicable: {', '.join(sorted(left_out))}",) if left_out else ()
    notes += tuple(filter(None, (compressed, scaled)))
    return Graph(function, tuple(done), (*found.notes, *notes), None if undo else layer)


def _check_equal(as_trained, graph, images, options):
    """Refuse a rewritten graph that does not compute what the model computes."""
    references, rewritten = (f(images[:4]) for f in (as_trained, graph.function))
    exact = options is None or options.gelu == "builtin"
    several = isinstance(references, dict)
    for name in references if several else [None]:
        reference, values = (
            np.asarray(outputs[name] if several else outputs)
            for outputs in (references, rewritten)
        )
        if not np.isfinite(reference).all():
            return  # whoever measures ranges names the tensor that overflows
        error = np.abs(reference - values).max() / max(np.ptp(reference), 1e-6)
        if not error <= (EQUAL if exact else NEAR):
            raise Unrecognised(
                "the ViT computes something else than its configuration says: "
                f"{error:.1e} of the output's range"
                + (f", {name!r}" if several else "")
            )


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

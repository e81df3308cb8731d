"""Build the inference graph of a trained Keras model.

Its function takes raw pixels, with preprocessing inside. It computes in float32,
whatever precision the model was trained in, and never runs in training mode.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ..targets import GraphOptions
from .from_layers import Flat, find_flat
from .inference_layer import InferenceViT
from .rewrites import FOR_INTEGERS, REWRITES, SHIFTS
from .sparsity import keep_gammas, rewrites_that_break_sparsity
from .vit_weights import read_weights


def find_vit(model):
    """Find the Vision Transformer of this package in a model.

    Returns:
        The model itself, a ViT nested in it, or None.
    """
    from vit_keras import VisionTransformer

    if isinstance(model, VisionTransformer) and model.config is not None:
        return model
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, keras.Model) and (vit := find_vit(layer)) is not None:
            return vit
    return None


def find_preprocessing(model):
    """Return the preprocessing of the model or its ViT, or None."""
    vit = find_vit(model)
    config = getattr(model, "config", None) if vit is None else vit.config
    return getattr(config, "preprocessing", None)


def check_model(model):
    """Check that a model can be exported, and return it.

    Raises:
        ValueError: not a functional or sequential Keras model from one batch of
            images (N, H, W, C) of fixed size to one output.
    """
    functional = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    if not isinstance(model, keras.Model) or not functional:
        raise ValueError(
            "`model` must be a functional or sequential Keras model. "
            f"Received: {type(model).__name__}"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "`model` must have one input and one output. Received: "
            f"{len(model.inputs)} inputs, {len(model.outputs)} outputs"
        )
    shape = model.input_shape
    if len(shape) != 4 or None in shape[1:]:
        raise ValueError(
            "`model` must take images of a fixed size (None, height, width, channels). "
            f"Received: input shape {shape}"
        )
    return model


def computes_in_float32(model):
    """Return whether no layer of a model computes in half precision."""
    half = ("float16", "bfloat16")
    return not any(
        getattr(layer, "compute_dtype", None) in half
        for layer in model._flatten_layers()
    )


def float32_copy(model, replace=lambda layer: None):
    """Copy a functional model to float32, with the same weights.

    The converter rejects a model with mixed precision, and artefacts gain nothing from
    it.

    Arguments:
        model: functional or sequential.
        replace: function from a layer to its replacement, or None to copy it.
    """

    def copied(layer):
        new = replace(layer)
        if new is not None:
            return new
        if isinstance(layer, keras.Model):
            return float32_copy(layer, replace)
        if not isinstance(layer, keras.Layer):  # of `keras.ops`: no weights, no dtype
            return layer.__class__.from_config(layer.get_config())
        new = layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})
        pairs.append((layer, new))
        return new

    pairs = []
    copy = keras.models.clone_model(model, clone_function=copied, recursive=False)
    for layer, new in pairs:
        new.set_weights(layer.get_weights())
    return copy


def fold_normalisation(kernel, bias, scale, offset):
    """Move a per-channel multiply-add of the input into a convolution, exactly.

    `conv(x * scale + offset, kernel) + bias` is a convolution of x itself, because
    the patches need no padding: `kernel' = kernel * scale`,
    `bias' = bias + sum over the patch of kernel * offset`.

    Arguments:
        kernel: (p, q, C, D), float64. bias: (D,).
        scale, offset: (C,).

    Returns:
        The new kernel and bias.
    """
    folded = kernel * scale[:, None]
    return folded, bias + np.einsum("pqcd,c->d", kernel, offset)


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
        model: accepted by `check_model`.
        preprocessing: `vit_keras.Preprocessing` to include, or None.
        images: (N, H, W, C), inputs of the artefact, for measuring and comparing.
        options: how the ViT is written; None for the defaults.
        integers: whether the graph may be quantised; otherwise rewrites that only help
            integers are skipped, and only one copy of the weights is made.
    """
    vit: Any = find_vit(model) or find_flat(model)
    if vit is None:
        note = "no ViT of this package was found: the graph is converted as it is"
        return Graph(as_it_is(model, preprocessing), notes=(note,))
    try:
        weights = read_weights(
            vit, preprocessing if _reads_pixels(model, vit) else None
        )
    except ValueError as error:
        return Graph(as_it_is(model, preprocessing), notes=(str(error),))
    undo, compressed = rewrites_that_break_sparsity(weights)
    if "fold_norms" in undo:
        keep_gammas(weights)
    undo += () if integers else FOR_INTEGERS
    allowed = {name: r for name, r in REWRITES.items() if name not in undo}
    done = [name for name, rewrite in allowed.items() if rewrite(weights)]
    layer = InferenceViT(weights, options, keep=integers, name=vit.name)
    function: Any = layer
    if isinstance(vit, Flat):
        function = _around(layer, vit)
    elif model is not vit:
        copy = float32_copy(model, lambda inner: layer if inner is vit else None)
        function = lambda images: copy(images, training=False)  # noqa: E731
    if not _reads_pixels(model, vit):
        function = normalised(function, preprocessing)
    chosen = np.asarray(images[:MEASURED_ON], "float32")
    if integers:
        done += _shift(layer, function, chosen)
    reference, rewritten = (
        np.concatenate([np.asarray(f(image[None])) for image in chosen[:4]])
        for f in (_as_trained(model, preprocessing), function)
    )
    tolerance = EQUAL if layer.options.gelu == "builtin" else NEAR
    if np.abs(reference - rewritten).max() > tolerance * max(np.ptp(reference), 1e-6):
        note = "the ViT computes something else than its configuration says: its graph"
        unchanged = as_it_is(model, preprocessing)
        return Graph(unchanged, notes=(f"{note} is converted as it is",))
    left_out = set(allowed) - set(done) - {"fold_layer_scale"}
    notes = (f"not applicable: {', '.join(sorted(left_out))}",) if left_out else ()
    notes += (compressed,) if compressed else ()
    return Graph(function, tuple(done), notes, None if undo else layer)


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


def _around(layer, flat):
    """Replace the layers that a `Flat` was read from by one inference layer."""
    front = float32_copy(flat.front) if flat.front is not None else None
    tail = float32_copy(flat.tail)

    def function(images):
        inputs = images if front is None else front(images, training=False)
        return tail(layer(inputs), training=False)

    return function


def _reads_pixels(model, vit):
    """Return whether the ViT is the first and only reader of the model's input."""
    if isinstance(vit, Flat):
        return vit.front is None
    if model is vit:
        return True
    entry = model.inputs[0]._keras_history.operation
    return [node.operation for node in entry._outbound_nodes] == [vit]


def normalised(function, preprocessing):
    """Prepend normalisation to a function of normalised images."""
    if preprocessing is None:
        return function
    scale, offset = (v.astype("float32") for v in preprocessing.scale_and_offset())
    return lambda images: function(images * scale + offset)


def _as_trained(model, preprocessing):
    """Return the model as a function of pixels; a float32 copy if it is in half."""
    model = model if computes_in_float32(model) else float32_copy(model)
    return normalised(lambda images: model(images, training=False), preprocessing)


def as_it_is(model, preprocessing):
    """Return a function from float32 pixels (N, H, W, C) to a model's output, without
    rewrites except for normalisation, folded into the patch projection if possible."""
    from vit_keras.layers import Patches

    model = float32_copy(model)

    def function(images):
        return model(images, training=False)

    if preprocessing is None:
        return function
    entry = model.inputs[0]._keras_history.operation
    readers = [node.operation for node in entry._outbound_nodes]
    first: Any = readers[0]
    if len(readers) > 1 or not isinstance(first, Patches) or first.patch_norm:
        return normalised(function, preprocessing)
    kernel, bias = fold_normalisation(
        np.asarray(first.kernel, "float64"),
        np.asarray(first.bias, "float64"),
        *preprocessing.scale_and_offset(),
    )
    first.kernel.assign(kernel.astype("float32"))
    first.bias.assign(bias.astype("float32"))
    return function

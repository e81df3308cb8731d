"""From a trained Keras model to the function that an artefact holds.

The function takes raw pixels: the preprocessing is inside. It computes in float32,
whatever precision the model was trained in, and never runs in training mode.
"""

from typing import Any

import keras
import numpy as np


def find_vit(model):
    """The Vision Transformer of this package in a model.

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
    """The preprocessing that the model's ViT carries, or None."""
    vit = find_vit(model)
    return None if vit is None else vit.config.preprocessing


def check_model(model):
    """Return a model that can be exported.

    Raises:
        ValueError: it is not a functional or sequential Keras model from one batch of
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
    """Whether no layer of a model computes in half precision."""
    half = ("float16", "bfloat16")
    return not any(
        getattr(layer, "compute_dtype", None) in half
        for layer in model._flatten_layers()
    )


def float32_copy(model):
    """A copy of a functional model that computes in float32, with the same weights.

    A model trained under mixed precision can not be converted, and its artefact would
    not be the better for it.
    """

    def in_float32(layer):
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=in_float32, recursive=True)
    copy.set_weights(model.get_weights())
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


def inference_function(model, preprocessing):
    """The function of an artefact.

    Arguments:
        model: what `check_model` accepts.
        preprocessing: `vit_keras.Preprocessing` to put inside, or None for none.

    Returns:
        A function from float32 pixels (N, H, W, C) to the model's output. Its
        variables are its own: `model` is not changed.
    """
    from vit_keras.layers import Patches

    model = float32_copy(model)
    if preprocessing is None:
        return lambda images: model(images, training=False)
    scale, offset = preprocessing.scale_and_offset()
    entry = model.inputs[0]._keras_history.operation
    readers = [node.operation for node in entry._outbound_nodes]
    first: Any = readers[0]
    if len(readers) == 1 and isinstance(first, Patches) and not first.patch_norm:
        kernel, bias = fold_normalisation(
            np.asarray(first.kernel, "float64"),
            np.asarray(first.bias, "float64"),
            scale,
            offset,
        )
        first.kernel.assign(kernel.astype("float32"))
        first.bias.assign(bias.astype("float32"))
        return lambda images: model(images, training=False)
    scale, offset = scale.astype("float32"), offset.astype("float32")
    return lambda images: model(images * scale + offset, training=False)
